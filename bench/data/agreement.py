"""Decisions of the published rules here and in datatrove, document by document, on the same words.

    python -m bench.data.agreement [--data DIR] [--mb 6] [--words own|words] [--json]

`words` (the default) gives datatrove's rules Tillage's words; `own` leaves its own splitter in place.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import daft
from bench.data.corpus import Corpus, assemble
from bench.data.peers import DATATROVE
from bench.page import ROOT
from daft import col, lit

from tillage.ops.base import Operator, mark_drops
from tillage.ops.c4 import C4Lines, C4Quality
from tillage.ops.fineweb import FinewebQuality
from tillage.ops.gopher import GopherQuality, GopherRepetition

CHAINS: dict[str, list[Operator]] = {
    "gopher_quality": [GopherQuality()],
    "gopher_repetition": [GopherRepetition()],
    "c4": [C4Lines(), C4Quality()],
    "fineweb": [FinewebQuality()],
}


def ours(corpus: Corpus) -> dict[str, dict[str, str]]:
    """Rule -> id -> the reason for dropping, "" if kept."""
    found: dict[str, dict[str, str]] = {}
    for name, chain in CHAINS.items():
        frame = daft.read_json(corpus.glob).with_column("_drop", lit(None).cast("string"))
        for op in chain:
            for need in op.requires():
                frame = need.apply(frame)
            frame = mark_drops(op.apply(frame), op.name, op.reasons())
        rows = frame.select(col("id"), col("_drop")).to_pydict()
        found[name] = {
            i: (d or "").rpartition(":")[2] for i, d in zip(rows["id"], rows["_drop"], strict=True)
        }
    return found


def compare(corpus: Corpus, theirs: list[dict[str, str]]) -> dict[str, Any]:
    """For each rule the share of documents decided alike, and the kinds of disagreement with their counts."""
    here = ours(corpus)
    answer: dict[str, Any] = {}
    for name in CHAINS:
        pairs = [(row["kind"], row[name], here[name][row["id"]]) for row in theirs]
        unlike = Counter(
            f"there {there or 'kept'}, here {mine or 'kept'}"
            for _, there, mine in pairs
            if bool(there) != bool(mine)
        )
        answer[name] = {
            "documents": len(pairs),
            "alike": round(1 - sum(unlike.values()) / len(pairs), 5),
            "dropped_there": sum(bool(there) for _, there, _ in pairs),
            "dropped_here": sum(bool(mine) for _, _, mine in pairs),
            "unlike": dict(unlike.most_common()),
        }
    return answer


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="bench.data.agreement", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--mb", type=float, default=6)
    parser.add_argument("--words", choices=("own", "words"), default="words")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(argv)
    why = DATATROVE.install()
    if why:
        raise SystemExit(f"datatrove cannot be installed: {why}")
    cache = ROOT / ".tillage" / "bench"
    cache.mkdir(parents=True, exist_ok=True)
    corpus = assemble(args.data, args.mb, 20, cache)
    out = cache / "theirs.jsonl"
    script = ROOT / "bench" / "data" / "sides" / "datatrove_decide.py"
    command = [str(DATATROVE.python), str(script), str(corpus.folder), str(out), args.words]
    subprocess.run(command, check=True, stdout=sys.stderr)
    answer = compare(corpus, [json.loads(line) for line in out.read_text("utf-8").splitlines()])
    for name, found in answer.items():
        print(f"{name}: {found['alike']:.2%} of {found['documents']} alike", file=sys.stderr)
        for what, count in found["unlike"].items():
            print(f"  {count:5d} {what}", file=sys.stderr)
    if args.json:
        print(json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
