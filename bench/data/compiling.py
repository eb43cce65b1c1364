"""What the first run on a machine pays once: compiling the kernels."""

from __future__ import annotations

import shutil
from pathlib import Path

from bench.data.corpus import assemble
from bench.data.measure import run_process
from bench.data.ours import WEB_FILTERS, tillage, without
from bench.data.work import environment

MORE = [{"paragraph_dedup": {}}, {"substring_dedup": {}}]


def first_compilation(cache: Path, seed: int) -> dict[str, float]:
    """Seconds of one run over 1 MB with an empty cache of kernels, and of the same with a full one.

    The cache stays for the measurements, so none of them pays for compiling.
    """
    corpus = assemble(None, 1, seed, cache)
    env = environment()
    kernels = Path(env["NUMBA_CACHE_DIR"])
    shutil.rmtree(kernels, ignore_errors=True)
    seconds: list[float] = []
    for _ in range(2):
        folder = cache / "compiling"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        steps = [*WEB_FILTERS, *MORE, without(corpus)]
        done = run_process(tillage(steps)(corpus, folder), env, folder, 600)
        if done.code:
            raise SystemExit(f"tillage run failed: {done.output[-2000:]}")
        seconds.append(round(done.seconds, 2))
    shutil.rmtree(cache / "compiling", ignore_errors=True)
    return {
        "first_run_s": seconds[0],
        "second_run_s": seconds[1],
        "compiling_s": round(seconds[0] - seconds[1], 2),
    }
