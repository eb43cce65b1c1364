"""From the results of `bench.interaction.throughput` to their section of docs/benchmarks.md.

python -m bench.interaction.throughput_page bench/results/throughput-*.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from bench.page import write_section

ABOUT = """`python -m bench.interaction.throughput`: one model, arms in turns, each block of steps between two
of the plain loop; overhead is the median over blocks, with each of them. `budget` is the share of the run's
forward passes that a policy may use, `scorer` scores by a small model trained beside the run. Share of
989 TFLOP/s. References are untrained models, as only the time counts."""


def table(name: str, found: dict[str, Any]) -> list[str]:
    """One file's rows."""
    machine, options = found["machine"], found["options"]
    turns = f"{options['blocks']} blocks of {options['steps']} steps"
    where = f"{machine['device']}, torch {machine['torch']}, {turns}{found.get('note', '')}"
    lines = ["", f"{where}; raw: `bench/results/{name}`.", ""]
    lines += ["| model | arm | tokens/s | MFU | overhead |", "|---|---|---|---|---|"]
    for row in found["results"]:
        if "left_out" in row:
            lines.append(f"| {row['model']} | {row['arm']} | left out: {row['left_out']} | | |")
            continue
        mfu = "" if row["mfu"] is None else f"{row['mfu']:.1%}"
        each = row["overheads"]
        cost = "" if each is None else f"{row['overhead']:.1%} ({', '.join(f'{e:.1%}' for e in each)})"
        speed = f"{row['tokens_per_second']:,.0f}"
        lines.append(f"| {row['model']} | {row['arm']} | {speed} | {mfu} | {cost} |")
    for row in (r for r in found["results"] if "profile" in r):
        lines += ["", *profile(row)]
    return lines


def profile(row: dict[str, Any]) -> list[str]:
    """Where a plain step's time goes."""
    known = row["profile"]
    wall = known["ms_per_step"]
    parts = sorted({**known["kinds"], "no kernel": known["idle"]}.items(), key=lambda part: -part[1])
    told = ", ".join(f"{kind} {spent / wall:.1%}" for kind, spent in parts)
    return [f"A plain step at {row['model']}, profiled, takes {wall:.0f} ms: {told}."]


def main() -> None:
    lines = [ABOUT]
    for name in sys.argv[1:]:
        lines += table(Path(name).name, json.loads(Path(name).read_text()))
    write_section("throughput", "What policies cost", "\n".join(lines))


if __name__ == "__main__":
    main()
