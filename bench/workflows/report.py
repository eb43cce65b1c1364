"""The result as a table: for the terminal and for the page of benchmarks."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.page import write_results, write_section

HEAD = (
    "task",
    "planner",
    "recall",
    "precision",
    "clean kept",
    "gain",
    "oracle",
    "of it",
    "FineWeb",
    "s",
    "probes",
    "calls",
    "tokens",
    "money",
)


def _cells(row: Mapping[str, Any]) -> list[str]:
    if not row["valid"]:
        return [row["task"], row["planner"], "not valid", *[""] * (len(HEAD) - 3)]
    share = row["share_of_oracle"]
    fine = row["fineweb_gain"]
    return [
        row["task"],
        row["planner"],
        f"{row['recall']:.3f}",
        f"{row['precision']:.3f}",
        f"{row['clean_kept']:.3f}",
        f"{row['gain']:+.4f}",
        f"{row['oracle_gain']:+.4f}",
        "-" if share is None else f"{share:.0%}",
        "-" if fine is None else f"{fine:+.4f}",
        f"{row['seconds']:.1f}",
        str(row["probe_runs"]),
        *(f"{row[name]:,}" for name in ("calls", "tokens", "money")),
    ]


def table(rows: Sequence[Mapping[str, Any]], medians: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A Markdown table of all rows and a line of medians for each planner."""
    lines = [" | ".join(HEAD), "|".join(["---"] * len(HEAD))]
    lines += [
        " | ".join(_cells(row)) for row in sorted(rows, key=lambda r: (r["planner"], r["task"], r["seed"]))
    ]
    lines = [f"| {line} |" for line in lines]
    for planner, of in medians.items():
        lines.append("")
        lines.append(
            f"Medians of {planner}: {of['valid']} of {of['tasks']} plans valid, recall {of['recall']}, "
            f"precision "
            f"{of['precision']}, clean kept {of['clean_kept']}, share of the oracle's gain "
            f"{of['share_of_oracle']}, "
            f"{of['seconds']} s, {of['probe_runs']} probe runs, {of['calls']} calls of a language model with "
            f"{of['tokens']} tokens and money {of['money']}, whose recipe won {of['model_won']} times; "
            f"significantly worse than raw: {of['worse_than_raw']}."
        )
    return lines


def publish(results: Sequence[dict[str, Any]]) -> Path:
    """Put the section of this benchmark into docs/benchmarks.md, and the raw rows beside it."""
    write_results("workflows", {"benchmark": "workflows", "runs": list(results)})
    body = [
        "Row by row, and gains in bits per byte on the target's holdout against raw; what counts as found is",
        "defined in `bench/workflows/README.md`. Seconds are of planning, beside whatever else ran.",
    ]
    for result in results:
        seeds = ",".join(map(str, result["seeds"]))
        shown = f"--seeds {seeds} --planner {','.join(result['medians'])}"
        body += [
            "",
            f"`python -m bench.workflows {shown}` on {result['machine']}; text: {result['text']}.",
            "",
        ]
        body += table(result["tasks"], result["medians"])
    return write_section("workflows", "Workflows: planted faults", "\n".join(body))


if __name__ == "__main__":
    # python -m bench.workflows.report A.json ...: publish what runs with --json wrote, in this order.
    publish([json.loads(Path(name).read_text().strip().split("\n")[-1]) for name in sys.argv[1:]])
