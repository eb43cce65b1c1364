"""What the results of a run say, in figures and in words: shared by the page and the terminal's table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tillage.core.events import Result
from tillage.core.stats import Interval, paired_interval
from tillage.core.text import percent, signed


@dataclass(frozen=True)
class Row:
    """A result beside the first one, which is the baseline. `change` is paired over seeds, bits per byte."""

    result: Result
    change: Interval | None
    best: bool

    @property
    def tone(self) -> str:
        if self.change is None:
            return ""
        return "good" if self.change.below() else "bad" if self.change.above() else ""


def rows(results: Sequence[Result]) -> list[Row]:
    """Results in order, each with its paired difference to the first where both have the same seeds."""
    if not results:
        return []
    base = results[0]
    best = min(results, key=lambda r: r.bpb)
    out: list[Row] = []
    for result in results:
        change = None
        if result is not base and len(result.values) == len(base.values) >= 2:
            change = paired_interval(result.values, base.values)
        out.append(Row(result, change, result is best and len(results) > 1))
    return out


def verdict(results: Sequence[Result]) -> tuple[str, str]:
    """What was best and by how much, and what that rests on: two honest lines, empty with no results."""
    table = rows(results)
    if not table:
        return "", ""
    base = table[0].result
    if len(table) == 1:
        return f"{base.name}: {base.bpb:.4f} bits per byte", ""
    row = next(row for row in table if row.best)
    best, change = row.result, row.change
    if best is base:
        return f"Nothing was better than {base.name}", f"{base.bpb:.4f} bits per byte on the holdout."
    gain = percent((base.bpb - best.bpb) / base.bpb)
    said = f"{best.name[:1].upper()}{best.name[1:]}: {gain} fewer bits per byte than {base.name}"
    figures = f"{best.bpb:.4f} against {base.bpb:.4f} bits per byte on the holdout"
    if change is None:
        return said, f"{figures}; there are too few seeds for an interval."
    interval = f"{signed(change.mean)} [{signed(change.low)}, {signed(change.high)}]"
    paired = f"{figures}: {interval} over {change.n} paired seeds"
    if change.below():
        return said, f"{paired}, an interval below zero."
    return said, f"{paired}. The interval includes no change, so this may be chance."
