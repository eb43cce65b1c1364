"""More input than memory: generated text through a web recipe under a real limit of memory.

    python -m bench.out_of_core --gb 20 --limit-gb 4 [--folder DIR] [--runner native|ray] [--json]

The run is a process of its own in a memory cgroup (version 1 or 2) of the given size where one can be made
(by root it usually can); else its resident memory is watched and it is ended beyond the limit. A tenth of the
documents are copies of earlier ones, so that deduplication has something to do.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from bench.page import machine

WORDS = 20_000
DOCUMENT_WORDS = (60, 500)
FILE_BYTES = 256 << 20
RECIPE = """
name: out-of-core
sources:
- jsonl: {path: raw}
steps:
- gopher_quality: {min_stop_words: 0}
- gopher_repetition: {}
- exact_dedup: {}
- minhash_dedup: {}
"""


def generate(folder: Path, size: int, seed: int = 1) -> int:
    """JSON lines of `size` bytes in files of FILE_BYTES, words of a Zipf-like law; how many documents."""
    random = np.random.default_rng(seed)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    lengths = random.integers(2, 12, WORDS)
    words = ["".join(letters[random.integers(0, 26, n)]) for n in lengths]
    share = 1.0 / np.arange(10, WORDS + 10)
    below = np.cumsum(share / share.sum())
    written = count = number = 0
    held: list[str] = []
    folder.mkdir(parents=True)
    while written < size:
        with (folder / f"part-{number:05d}.jsonl").open("w", encoding="ascii") as out:
            here = 0
            while here < FILE_BYTES and written < size:
                places = np.minimum(np.searchsorted(below, random.random(200_000)), WORDS - 1).tolist()
                start = 0
                lines: list[str] = []
                while start < len(places):
                    if held and random.random() < 0.1:
                        text = held[int(random.integers(len(held)))]
                    else:
                        stop = start + int(random.integers(*DOCUMENT_WORDS))
                        text = " ".join(words[p] for p in places[start:stop]) + "."
                        start = stop
                        if len(held) < 1_000:
                            held.append(text)
                        elif random.random() < 0.01:
                            held[int(random.integers(1_000))] = text
                    lines.append('{"text": "' + text + '"}\n')
                block = "".join(lines)
                out.write(block)
                here, written, count = here + len(block), written + len(block), count + len(lines)
        number += 1
    return count


def memory_group(limit: int) -> tuple[Path, str] | None:
    """A cgroup of `limit` bytes and the name of its file for the peak; None where none can be made."""
    roots = [
        (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes", "memory.max_usage_in_bytes"),
        (Path("/sys/fs/cgroup"), "memory.max", "memory.peak"),
    ]
    for root, name, peak in roots:
        group = root / f"out-of-core-{os.getpid()}"
        try:
            group.mkdir()
            (group / name).write_text(str(limit))
        except OSError:
            with suppress(OSError):
                group.rmdir()
            continue
        return group, peak
    return None


def resident(pid: int) -> int:
    """Bytes of memory that are the process's own (not the files that it maps)."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith(("RssAnon", "RssShmem")))


def limited(command: list[str], cwd: Path, limit: int) -> tuple[int, str, int, str]:
    """Run a command under the limit: exit code, output, peak bytes of its own, and how the limit was held."""
    group = memory_group(limit)

    def enter() -> None:
        assert group is not None
        (group[0] / "cgroup.procs").write_text(str(os.getpid()))

    child = subprocess.Popen(
        command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        preexec_fn=enter if group else None,
    )  # fmt: skip
    peak = 0

    def watch() -> None:
        nonlocal peak
        while child.poll() is None:
            peak = max(peak, resident(child.pid))
            if group is None and peak > limit:
                child.kill()
            time.sleep(0.05)

    watcher = threading.Thread(target=watch)
    watcher.start()
    out, _ = child.communicate()
    watcher.join()
    if group is None:
        return child.returncode, out, peak, "watched, ended beyond the limit"
    most = int((group[0] / group[1]).read_text())
    how = f"cgroup ({group[0].parent}), its peak with cached files {most:,} bytes"
    group[0].rmdir()
    return child.returncode, out, peak, how


def measure(folder: Path, size: int, limit: int, runner: str) -> dict[str, Any]:
    raw = folder / "raw"
    begun = time.monotonic()
    documents = generate(raw, size)
    made = time.monotonic() - begun
    (folder / "recipe.yaml").write_text(RECIPE)
    tillage = str(Path(sys.executable).with_name("tillage"))
    begun = time.monotonic()
    code, out, peak, how = limited(
        [tillage, "run", "recipe.yaml", "--runner", runner, "--json"], folder, limit
    )
    seconds = time.monotonic() - begun
    found: dict[str, Any] = {
        "input_bytes": sum(path.stat().st_size for path in raw.iterdir()),
        "documents": documents,
        "limit_bytes": limit,
        "how": how,
        "exit": code,
        "seconds": round(seconds, 1),
        "mb_s": round(size / seconds / 1e6, 1),
        "peak_bytes": peak,
        "generated_in": round(made, 1),
        "machine": machine(),
    }
    if code == 0:
        said = json.loads(out.splitlines()[-1])
        found["accounts"] = {a["step"]: [a["rows_in"], a["rows_out"]] for a in said["accounts"]}
        found["digest"] = said["digest"]
    else:
        found["output"] = out[-2000:]
    return found


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gb", type=float, default=20.0)
    parser.add_argument("--limit-gb", type=float, default=4.0)
    parser.add_argument("--folder", type=Path, help="where there is room for three times the input")
    parser.add_argument("--runner", default="native")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.folder is not None:
        Path(options.folder).mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="out-of-core-", dir=options.folder))
    try:
        found = measure(folder, int(options.gb * 1e9), int(options.limit_gb * 2**30), options.runner)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if options.json:
        print(json.dumps(found))
    else:
        for name, value in found.items():
            print(f"{name:14} {value}")
    return 0 if found["exit"] == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
