"""`python -m bench.workflows`: plans every task, scores what came out, and writes what was measured."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench.page import machine
from bench.workflows.planners import EMBEDDED, KNOWN, Make, planners
from bench.workflows.report import publish, table
from bench.workflows.run import run_task
from bench.workflows.tasks import TASKS, Task, build
from bench.workflows.text import default_text, load

from tillage.core.errors import UserError

MEASURES = (
    "recall",
    "precision",
    "clean_kept",
    "gain",
    "oracle_gain",
    "share_of_oracle",
    "seconds",
    "probe_runs",
    "calls",
    "tokens",
    "money",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """0: every task was planned and scored; 1: one was not; 2: wrong arguments or too little text."""
    parser = argparse.ArgumentParser(prog="python -m bench.workflows", description=__doc__)
    parser.add_argument("--seeds", default="1", help="comma-separated seeds of the tasks (default: 1)")
    parser.add_argument(
        "--text", type=Path, default=None, help="folder of .jsonl(.gz, .zst), .txt, .md or .rst"
    )
    parser.add_argument("--only", default="", help="comma-separated names of tasks")
    parser.add_argument(
        "--planner", default=EMBEDDED, help=f"comma-separated, of {', '.join(KNOWN)} (default: {EMBEDDED})"
    )
    parser.add_argument("--keep", type=Path, default=None, help="keep the tasks' folders here")
    parser.add_argument("--publish", action="store_true", help="write docs/benchmarks.md and bench/results")
    parser.add_argument(
        "--json", action="store_true", help="progress to standard error, one JSON object at the end"
    )
    args = parser.parse_args(arguments)
    out = sys.stderr if args.json else sys.stdout

    def say(line: str) -> None:
        print(line, file=out, flush=True)

    try:
        tasks, seeds = _chosen(args.only), [int(seed) for seed in args.seeds.split(",")]
        names = _named(args.planner)
    except ValueError as error:
        parser.error(str(error))
    folder = args.keep or Path(tempfile.mkdtemp(prefix="tillage-workflows-"))
    try:
        with planners(names) as made:
            rows = _run_all(tasks, seeds, made, args, folder, say)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    finally:
        if args.keep is None:
            shutil.rmtree(folder, ignore_errors=True)
    result = {
        "benchmark": "workflows",
        "machine": machine(),
        "text": str((args.text or default_text()).name),
        "seeds": seeds,
        "medians": {planner: medians([r for r in rows if r["planner"] == planner]) for planner in names},
        "tasks": rows,
    }
    for line in table(rows, result["medians"]):
        say(line)
    if args.publish:
        say(f"wrote {publish([result])}")
    if args.json:
        print(json.dumps(result), flush=True)
    return 0 if all(row["valid"] for row in rows) else 1


def _chosen(only: str) -> list[Task]:
    known = {task.name: task for task in TASKS}
    names = [name for name in only.split(",") if name]
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"unknown task {unknown[0]!r}; known: {', '.join(known)}")
    return [known[name] for name in names] or list(TASKS)


def _named(planner: str) -> list[str]:
    names = list(dict.fromkeys(name for name in planner.split(",") if name))
    if unknown := [name for name in names if name not in KNOWN]:
        raise ValueError(f"unknown planner {unknown[0]!r}; known: {', '.join(KNOWN)}")
    return names or [EMBEDDED]


def _run_all(
    tasks: Sequence[Task],
    seeds: Sequence[int],
    made: Sequence[tuple[str, Make]],
    args: argparse.Namespace,
    folder: Path,
    say: Callable[[str], None],
) -> list[dict[str, Any]]:
    begun = time.perf_counter()
    pool = load(args.text or default_text())
    shown = ", ".join(f"{name} {len(passages):,}" for name, passages in pool.domains.items())
    say(f"text: {shown}; {len(pool.foreign)} other languages, {len(pool.chats):,} conversations "
        f"({time.perf_counter() - begun:.1f} s)")  # fmt: skip
    rows: list[dict[str, Any]] = []
    for seed in seeds:
        for task in tasks:
            place = folder / f"{task.name}-{seed}"
            built = build(task, pool, seed, place)
            if built is None:
                say(f"{task.name} seed {seed}: left out, the text has one domain only")
                continue
            for name, make in made:
                row = run_task(built, pool.language, name, make)
                rows.append(row)
                say(_line(row))
            if args.keep is None:
                shutil.rmtree(place, ignore_errors=True)
    return rows


def _line(row: dict[str, Any]) -> str:
    if not row["valid"]:
        return f"{row['task']} seed {row['seed']} {row['planner']}: NOT VALID: {row['error']}"
    oracle = "n/a" if row["share_of_oracle"] is None else f"{row['share_of_oracle']:.0%}"
    fine = "n/a" if row["fineweb_gain"] is None else f"{row['fineweb_gain']:+.4f}"
    return (
        f"{row['task']} seed {row['seed']} {row['planner']}: recall {row['recall']:.3f}, precision "
        f"{row['precision']:.3f}, clean kept {row['clean_kept']:.3f}, gain {row['gain']:+.4f} of "
        f"{row['oracle_gain']:+.4f} ({oracle}), fineweb {fine}, {row['seconds']:.1f} s, "
        f"{row['probe_runs']} probe runs, {row['tokens']} tokens, {row['chosen']} {row['by_fault']}"
    )


def medians(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Medians over the tasks that were planned; `share_of_oracle` over those where the oracle gains."""
    valid = [row for row in rows if row["valid"]]
    found: dict[str, Any] = {"tasks": len(rows), "valid": len(valid)}
    for name in MEASURES:
        values = [row[name] for row in valid if row[name] is not None]
        found[name] = round(statistics.median(values), 4) if values else None
    found["worse_than_raw"] = sum(row["worse_than_raw"] for row in valid)
    found["model_won"] = sum(row["model_won"] for row in valid)
    return found


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # as the command line does: the engine's threads may abort a finished interpreter
