"""python -m bench.interaction --prepare DATA --corpora DIR --size cpu
python -m bench.interaction --data DATA --size gpu --only b1,b2,b3,control,overhead --seeds 1,2,3 --json
python -m bench.interaction --publish records.jsonl --size gpu --device-name "2 x H100"

Progress goes to standard error; with `--json` standard output is one JSON object. Each run is appended to
`--records`, and a run that is there already is not made again, so that a long benchmark can be made in
pieces. `--publish` makes nothing: it writes the tables of finished records into docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path
from queue import Empty, Queue, SimpleQueue
from threading import Thread
from typing import Any

import torch
from bench.interaction import arms
from bench.interaction.data import prepare
from bench.interaction.overhead import overhead
from bench.interaction.publish import publish
from bench.interaction.sft import ARMS as SFT
from bench.interaction.sft import SIZES as SFT_SIZES
from bench.interaction.sft import prepare_sft, starting_model
from bench.interaction.sizes import SKILLS, scale_of
from bench.interaction.suites import Work, execute, static_mixture, swarm_work
from bench.interaction.tables import summary, to_markdown

from tillage.train.precision import pick_dtype
from tillage.train.tokens import TokenStore

PER_DOMAIN = {
    "tiny": 60_000, "cpu": 1_200_000, "gpu": 4_200_000, "gpu-pass": 20_000_000, "gpu-long": 20_000_000,
}  # fmt: skip
VOCAB = {"tiny": 512, "cpu": 2048, "gpu": 4096, "gpu-long": 4096, "gpu-pass": 4096}
ALL = ("b1", "b2", "b3", "b4", "control", "overhead")
REACHING = {
    "b1": None,
    "b2": ("proportional", "ours_target", "target_mix"),
    "b3": (
        "prepared", "oracle", "rho", "color", "greats", "mix_color", "likeness_tenth", "ours", *arms.SHARES,
    ),
    "b4": (),
    "control": (),
}  # fmt: skip
"""Arms that are trained to several budgets, for what it costs them to reach a level; None: all."""


def main() -> None:
    args = _parser().parse_args()
    began = time.monotonic()
    if args.publish:
        publish([Path(p) for p in args.publish.split(",")], args.size, args.device_name, args.command)
        return
    cuda = torch.cuda.is_available()
    size = ("gpu" if cuda else "cpu") if args.size == "auto" else args.size
    with tempfile.TemporaryDirectory() as scratch:
        data = Path(args.data or args.prepare or scratch)
        if args.prepare or not args.data:
            sizes = prepare(data, Path(args.corpora), PER_DOMAIN[size], VOCAB[size])
            if size in SFT_SIZES and (Path(args.corpora) / "gpteacher.jsonl.zst").exists():
                text = TokenStore.open(data / "domains").tokenizer
                sizes["sft"] = prepare_sft(data, Path(args.corpora), size, text, args.model)
            print(json.dumps(sizes), file=sys.stderr)
            if args.prepare and not args.data:
                return
        cache = Path(args.cache or Path(scratch, "cache"))
        cache.mkdir(parents=True, exist_ok=True)
        base = Work(
            "", "", 0, 1.0, size, str(data), "cuda" if cuda else "cpu",
            "bf16" if cuda else pick_dtype("auto"), str(cache),
            threads=args.threads or max((os.cpu_count() or 1) // args.jobs, 1), factor=args.tokens,
            model=args.model,
        )  # fmt: skip
        only = args.only.split(",")
        if size not in SKILLS and set(only) - {"b2", "b3", "control"}:
            sys.exit(f"size {size} is of the suites b2, b3 and control: name them with --only")
        records = Records(Path(args.records) if args.records else None)
        until = began + args.limit if args.limit else float("inf")
        seeds = [int(s) for s in args.seeds.split(",")]
        wanted = [a for a in args.arms.split(",") if a]
        fractions = [float(f) for f in args.fractions.split(",") if f]
        works: list[Work] = []
        static = None
        if "b2" in only and (not wanted or "static" in wanted):
            static = _static(base, records, args.jobs, until)
        if "b4" in only:
            starting_model(base)
        for suite in (s for s in only if s != "overhead"):
            works += plan(suite, base, seeds, wanted, fractions, static)
        # Seeds one after the other, so that time that runs out leaves whole comparisons; long runs first.
        works.sort(key=lambda w: (w.seed, -w.fraction * scale_of(w.suite, w.size).tokens))
        records.make(works, args.jobs, until)
        result: dict[str, Any] = {
            "size": size,
            "device": torch.cuda.get_device_name() if cuda else "cpu",
            "torch": torch.__version__,
            "jobs": args.jobs,
            "tables": summary(records.all),
        }
        if "overhead" in only:
            result["overhead"] = overhead(base, wanted)
        result["records"] = records.all
        result["seconds"] = round(time.monotonic() - began, 1)
    print(json.dumps(result) if args.json else to_markdown(result))
    sys.exit(1 if any("failed" in record for record in records.all) else 0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.interaction", description=__doc__)
    parser.add_argument("--size", choices=("auto", *PER_DOMAIN), default="auto")
    parser.add_argument("--only", default=",".join(ALL), help="suites, separated by commas")
    parser.add_argument("--arms", default="", help="only these arms of each suite")
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--fractions", default="", help="only these fractions of the budget")
    parser.add_argument("--data", default="", help="folder that --prepare wrote")
    parser.add_argument(
        "--prepare", default="", help="write the data there; ends then, unless --data is given"
    )
    parser.add_argument("--corpora", default="../shared/corpora", help="text for --prepare")
    parser.add_argument("--jobs", type=int, default=1, help="processes beside one another; times are theirs")
    parser.add_argument("--threads", type=int, default=0, help="of each process; its share of the cores if 0")
    parser.add_argument("--tokens", type=float, default=1.0, help="factor on every budget")
    parser.add_argument("--limit", type=float, default=0.0, help="seconds after which no run is begun")
    parser.add_argument("--records", default="", help="file of finished runs, to go on from")
    parser.add_argument("--cache", default="", help="folder of references and scores, kept between commands")
    parser.add_argument("--model", default="", help="b4: FOLDER of a Hugging Face model, or FOLDER:FILE.gguf")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--publish", default="", help="files of records, by commas, to write the tables of")
    parser.add_argument("--device-name", default="", help="for --publish: where the records were made")
    parser.add_argument("--command", default="", help="for --publish: how")
    return parser


def _static(base: Work, records: Records, jobs: int, until: float) -> dict[str, float] | None:
    """The best static mixture of the swarm, which is an arm of "b2"; None if the time was short."""
    proxies = swarm_work(base)
    done = records.make(proxies, jobs, until)
    if len(done) < len(proxies):
        return None
    static = static_mixture(base, proxies, done)
    print(json.dumps({"static": static}), file=sys.stderr)
    return static


def plan(
    suite: str, base: Work, seeds: list[int], wanted: list[str], fractions: list[float],
    static: dict[str, float] | None,
) -> list[Work]:  # fmt: skip
    """The runs of a suite."""
    tables = {
        "b1": arms.skills,
        "b2": lambda: arms.domains(static),
        "b3": arms.dirty,
        "b4": lambda: SFT,
        "control": arms.control,
    }
    scale, several = scale_of(suite, base.size), REACHING[suite]
    return [
        replace(
            base, suite=suite, arm=arm, seed=seed, fraction=fraction,
            mixture=static if arm == "static" else None,
        )
        for seed in seeds
        for arm in tables[suite]()
        if not wanted or arm in wanted
        for fraction in (scale.fractions if several is None or arm in several else (1.0,))
        if not fractions or fraction in fractions
    ]  # fmt: skip


class Records:
    """Finished runs, kept in a file of JSON lines."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.all: list[dict[str, Any]] = []
        if path is not None and path.exists():
            read = [json.loads(line) for line in path.read_text().splitlines()]
            self.all = [record for record in read if "failed" not in record]

    def _found(self, work: Work) -> dict[str, Any] | None:
        key = (work.suite, work.arm, work.seed, work.fraction)
        return next((r for r in self.all if (r["suite"], r["arm"], r["seed"], r["fraction"]) == key), None)

    def make(self, works: list[Work], jobs: int, until: float) -> list[dict[str, Any]]:
        """Records of these runs, those made before included; fewer when the time is up."""
        missing = [w for w in works if self._found(w) is None]
        for record in _run(missing, jobs, until):
            self.all.append(record)
            line = json.dumps(record)
            if self.path is not None:
                with self.path.open("a") as out:
                    out.write(line + "\n")
            short = {k: v for k, v in record.items() if k not in ("mixture", "ledger")}
            print(json.dumps(short), file=sys.stderr, flush=True)
        return [r for w in works if (r := self._found(w)) is not None]


def _run(works: list[Work], jobs: int, until: float) -> Iterable[dict[str, Any]]:
    if jobs == 1:
        for work in works:
            if time.monotonic() < until:
                yield execute(work)
        return
    # One thread each means one core each: more threads than cores would wait for one another, spinning.
    os.environ.update(OMP_NUM_THREADS=str(works[0].threads if works else 1), OMP_WAIT_POLICY="passive")
    waiting, made = Queue[Work](), SimpleQueue[dict[str, Any] | None]()
    for work in works:
        waiting.put(work)
    threads = [Thread(target=_worker, args=(waiting, made, until), daemon=True) for _ in range(jobs)]
    for thread in threads:
        thread.start()
    for _ in works:
        if (record := made.get()) is not None:
            yield record


def _worker(waiting: Queue[Work], made: SimpleQueue[dict[str, Any] | None], until: float) -> None:
    """Run after run in a process of its own; a new one after a failure, as the GPU's context may be lost."""
    pool: ProcessPoolExecutor | None = None
    while True:
        try:
            work = waiting.get_nowait()
        except Empty:
            break
        if time.monotonic() >= until:
            made.put(None)
            continue
        pool = pool or ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
        try:
            record = pool.submit(execute, work).result()
        except BrokenProcessPool as error:
            record = {**work.name(), "failed": str(error)}
        if "failed" in record:
            pool.shutdown()
            pool = None
        made.put(record)
    if pool is not None:
        pool.shutdown()


if __name__ == "__main__":
    main()
