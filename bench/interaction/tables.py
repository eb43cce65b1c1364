"""Tables of each suite from the records, as data and as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bench.interaction.protocol import Record, level, names, pick, ratios, time_to
from bench.interaction.tasks import TARGETS

METRIC = {"b1": "accuracy", "b2": "mean", "b3": "peps", "b4": "codegen", "control": "mean"}
BASE = {"b1": "uniform", "b2": "uniform", "b3": "all", "b4": "full", "control": "proportional"}
GOAL_ACCURACY = 0.9


def summary(records: Sequence[Record]) -> dict[str, Any]:
    """Per suite and arm: the metric at the full budget, against the base, and the cost of reaching the
    goal."""
    found: dict[str, Any] = {}
    for suite, metric in METRIC.items():
        table = {
            arm: {"final": level(records, suite, arm, metric, BASE[suite])} for arm in names(records, suite)
        }
        if suite == "b2":
            for arm, row in table.items():
                row["static"] = level(records, suite, arm, metric, "static")
                row["target"] = level(records, suite, arm, "peps", "proportional")
        if suite == "b1":
            for arm, row in table.items():
                row["skills"] = {name: level(records, suite, arm, name, None) for name in TARGETS}
        _reaching(records, suite, table)
        if table:
            found[suite] = table
    return found


def _reaching(records: Sequence[Record], suite: str, table: dict[str, Any]) -> None:
    """Adds what each arm with several budgets needs to reach the goal, in seconds and in tokens."""
    if suite in ("b4", "control"):
        return
    base = {"b1": "uniform", "b2": "proportional", "b3": "all"}[suite]
    metric = "peps" if suite != "b1" else "accuracy"
    seeds = sorted({r["seed"] for r in records if r["suite"] == suite})
    ends = {r["seed"]: r["found"][metric] for r in pick(records, suite, base, 1.0)}
    goals = dict.fromkeys(seeds, GOAL_ACCURACY) if suite == "b1" else ends
    full = {r["seed"]: r for r in pick(records, suite, base, 1.0)}
    for arm, row in table.items():
        if len({r["fraction"] for r in pick(records, suite, arm)}) < 2:
            continue
        for cost in ("seconds", "tokens"):
            row[f"{cost}_to_goal"] = time_to(records, suite, arm, metric, goals, cost, falling=suite != "b1")
            # The base reaches its own end by definition, with all of its budget.
            theirs = (
                {"values": [full[s][cost] for s in goals if s in full]}
                if suite != "b1"
                else time_to(records, suite, base, metric, goals, cost, falling=False)
            )
            row[f"{cost}_ratio"] = ratios(row[f"{cost}_to_goal"], theirs)


def to_markdown(result: dict[str, Any]) -> str:
    """Tables for docs/benchmarks.md: every mean with its interval and number of seeds."""
    where = f"{result['device']}, torch {result['torch']}, size {result['size']}"
    out: list[str] = [f"{where}, {result['jobs']} at once."]
    for suite, table in result["tables"].items():
        out += ["", f"### {suite.upper()}", ""]
        out += [
            f"| arm | {METRIC[suite]} | against {BASE[suite]} (paired) | seconds | seconds to goal / base's |"
        ]
        out += ["|---|---|---|---|---|"]
        for arm, row in table.items():
            final = row["final"]
            if not final:
                continue
            out.append(
                f"| {arm} | {_show(final, '')} | {_show(final, 'against_')} | {final['seconds']:.1f} | "
                f"{_show(row.get('seconds_ratio', {}), '')} |"
            )
    if "overhead" in result:
        out += [
            "",
            "### Overhead",
            "",
            "| policy | tokens a second, of the plain loop's | seconds by purpose |",
            "|---|---|---|",
        ]
        for name, row in result["overhead"].items():
            out.append(f"| {name} | {_show(row['ratio'], '')} | {row['ledger']} |")
    return "\n".join(out)


def interval(row: dict[str, Any], prefix: str) -> str:
    """`mean [low, high]` of what `protocol` measured, in words where a goal was not reached by all seeds."""
    if "reached" in row:
        return f"reached by {row['reached']} seeds"
    if f"{prefix}mean" not in row:
        return ""
    low, high = row[f"{prefix}low"], row[f"{prefix}high"]
    return f"{row[f'{prefix}mean']:.4g}" + ("" if low is None else f" [{low:.4g}, {high:.4g}]")


def _show(row: dict[str, Any], prefix: str) -> str:
    """The same with the number of seeds."""
    seeds = row.get(f"{prefix}seeds")
    return interval(row, prefix) + ("" if seeds is None else f" ({seeds})")
