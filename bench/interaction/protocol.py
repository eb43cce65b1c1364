"""From records to tables: means with intervals over seeds, paired differences, and time to a level."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tillage.core.stats import Interval, mean_interval, paired_interval

Record = dict[str, Any]


def pick(records: Sequence[Record], suite: str, arm: str, fraction: float | None = None) -> list[Record]:
    """Records of an arm in order of seed (and of fraction), without runs that used up their data."""
    found = [r for r in records if r["suite"] == suite and r["arm"] == arm and "found" in r]
    found = [r for r in found if fraction is None or r["fraction"] == fraction]
    return sorted(found, key=lambda r: (r["seed"], r["fraction"]))


def names(records: Sequence[Record], suite: str) -> list[str]:
    """Arms of a suite, in order of appearance."""
    return list(dict.fromkeys(r["arm"] for r in records if r["suite"] == suite))


def level(records: Sequence[Record], suite: str, arm: str, metric: str, base: str | None) -> dict[str, Any]:
    """Mean of a metric at the full budget over seeds with its interval, and paired against the arm `base`."""
    mine = pick(records, suite, arm, 1.0)
    values = [r["found"][metric] for r in mine]
    if not values:
        return {}
    row: dict[str, Any] = {"values": values, **_interval("", mean_interval(values))}
    row["seconds"] = sum(r["seconds"] for r in mine) / len(mine)
    theirs = {r["seed"]: r["found"][metric] for r in pick(records, suite, base, 1.0)} if base else {}
    pairs = [(r["found"][metric], theirs[r["seed"]]) for r in mine if r["seed"] in theirs]
    if pairs and arm != base:
        row.update(_interval("against_", paired_interval([a for a, _ in pairs], [b for _, b in pairs])))
    return row


def _interval(prefix: str, found: Interval) -> dict[str, Any]:
    finite = math.isfinite(found.low)
    return {
        f"{prefix}mean": round(found.mean, 5),
        f"{prefix}low": round(found.low, 5) if finite else None,
        f"{prefix}high": round(found.high, 5) if finite else None,
        f"{prefix}seeds": found.n,
    }


def reach(points: Sequence[tuple[float, float]], goal: float, falling: bool = True) -> float | None:
    """The cost at which a metric reaches `goal`, between the budgets that were run; None if none did.

    Args:
        points: (cost, metric) of runs that were each decayed to zero, by rising budget. falling: whether
        lower is
            better. Between two budgets the metric is taken as linear in the logarithm of the cost.
    """
    sign = 1.0 if falling else -1.0
    before: tuple[float, float] | None = None
    for cost, value in points:
        if sign * value <= sign * goal:
            if before is None:
                return cost
            share = (before[1] - goal) / (before[1] - value) if before[1] != value else 1.0
            return math.exp(math.log(before[0]) + share * (math.log(cost) - math.log(before[0])))
        before = (cost, value)
    return None


def time_to(
    records: Sequence[Record], suite: str, arm: str, metric: str, goals: dict[int, float], cost: str,
    falling: bool = True,
) -> dict[str, Any]:  # fmt: skip
    """Cost (`seconds` or `tokens`) of an arm to a goal of each seed; mean and interval if all seeds got
    there."""
    found: dict[int, float | None] = {}
    for seed, goal in goals.items():
        runs = sorted(
            (r for r in pick(records, suite, arm) if r["seed"] == seed), key=lambda r: r["fraction"]
        )
        if runs:
            found[seed] = reach([(r[cost], r["found"][metric]) for r in runs], goal, falling)
    row: dict[str, Any] = {"values": [None if v is None else round(v, 3) for v in found.values()]}
    there = [v for v in found.values() if v is not None]
    if there and len(there) == len(found):
        row.update(_interval("", mean_interval(there)))
    return row


def ratios(one: dict[str, Any], two: dict[str, Any]) -> dict[str, Any]:
    """Paired ratios of what `time_to` gave, one / two."""
    pairs = [(a, b) for a, b in zip(one["values"], two["values"], strict=False) if a is not None and b]
    if not pairs or len(pairs) < len(two["values"]):
        return {"reached": f"{len(pairs)} of {len(two['values'])}"}
    return _interval("", mean_interval([a / b for a, b in pairs]))
