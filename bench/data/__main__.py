"""The data engine against its peers: whole processes in turn on one corpus.

    python -m bench.data [--only quality,minhash] [--data DIR] [--mb 150] [--slice 24] [--repeat 5] [--json]

Writes a section for each work into docs/benchmarks.md and its raw runs to bench/results/data-WORK.json.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from bench.data.compiling import first_compilation
from bench.data.corpus import Corpus, assemble
from bench.data.table import section
from bench.data.work import measure_work
from bench.data.works import WORKS
from bench.page import ROOT, machine, versions, write_results, write_section

CACHE = ROOT / ".tillage" / "bench"
SEED = 20


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="bench.data", description=__doc__.splitlines()[0])
    parser.add_argument("--only", help=f"works, with commas between: {', '.join(WORKS)}")
    parser.add_argument("--data", type=Path, help="a folder of .jsonl or .jsonl.zst with a field `text`")
    parser.add_argument("--mb", type=float, default=150, help="megabytes of JSONL that fast tools read")
    parser.add_argument("--slice", type=float, default=24, help="megabytes that tools of a few MB/s read")
    parser.add_argument("--repeat", type=int, default=5, help="runs of each tool")
    parser.add_argument("--json", action="store_true", help="end with one JSON object")
    parser.add_argument("--no-page", action="store_true", help="leave docs/benchmarks.md and results alone")
    args = parser.parse_args(argv)
    names = args.only.split(",") if args.only else list(WORKS)
    unknown = [name for name in names if name not in WORKS]
    if unknown or args.repeat < 1 or args.mb <= 0 or args.slice <= 0:
        parser.error(f"no such work: {', '.join(unknown)}" if unknown else "sizes and repeats are positive")
    if args.data is not None and not args.data.is_dir():
        parser.error(f"--data is not a folder: {args.data}")
    CACHE.mkdir(parents=True, exist_ok=True)

    def draw(mb: float) -> Corpus:
        return assemble(args.data, mb, SEED, CACHE)

    large = draw(args.mb)
    scratch = CACHE / "scratch"
    compiled = first_compilation(CACHE, SEED)
    print(f"== first compilation: {compiled['compiling_s']:.1f} s, once a machine", file=sys.stderr)
    print(f"== {machine()}; {large.mb:.0f} MB, {large.documents} documents", file=sys.stderr)
    answer: dict[str, Any] = {
        "machine": machine(),
        "versions": versions("tillage", "daft", "numba", "pyarrow"),
        "corpus": {"mb": round(large.mb, 1), "documents": large.documents,
                   "kinds": large.kinds},
        "compilation": compiled,
        "works": {},
    }  # fmt: skip
    for name in names:
        result = measure_work(WORKS[name], draw, args.mb, args.slice, args.repeat, scratch)
        answer["works"][name] = result
        if not args.no_page:
            about = {key: value for key, value in answer.items() if key != "works"}
            sizes = f"--mb {args.mb:g} --slice {args.slice:g} --repeat {args.repeat}"
            about["command"] = f"python -m bench.data --only {name} {sizes}"
            stamp = time.strftime("%Y-%m-%d", time.gmtime())
            write_results(f"data-{name}", {**about, "date": stamp, "work": name, **result})
            write_section(f"data-{name}", WORKS[name].title, section(WORKS[name], about, result, args.repeat))
    shutil.rmtree(scratch, ignore_errors=True)
    if args.json:
        print(json.dumps(answer, ensure_ascii=False))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
