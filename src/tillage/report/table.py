"""The final table on the terminal, from the results of a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from tillage.core.events import Result
from tillage.core.text import seconds, signed
from tillage.report.compare import rows

STYLE = {"good": "green", "bad": "red", "": "dim"}


def results_table(results: Sequence[Result]) -> Table:
    """Bits per byte on the holdout with 95 % intervals over seeds; the first line is the baseline."""
    table = Table(
        box=box.SIMPLE_HEAD,
        title="target bits per byte on the holdout (lower is better)",
        title_justify="left",
    )
    table.add_column("")
    for name in ("bits/byte", "95 % interval", "against the first (paired)", "seeds", "wall clock"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows(results):
        result, change = row.result, row.change
        against = Text("baseline" if result is results[0] else "-", "dim")
        if change is not None:
            against = Text(
                f"{signed(change.mean)} [{signed(change.low)}, {signed(change.high)}]", STYLE[row.tone]
            )
        name = Text(result.name, "bold" if row.best else "")
        if row.best:
            name.append("  best", "green")
        table.add_row(
            name,
            Text(f"{result.bpb:.4f}", "bold" if row.best else ""),
            Text(f"[{result.low:.4f}, {result.high:.4f}]"),
            against,
            str(len(result.values)),
            seconds(result.seconds),
        )
    return table


def results_json(results: Sequence[Result]) -> list[dict[str, Any]]:
    """The same, for `--json`."""
    return [
        {
            "name": r.name,
            "bpb": r.bpb,
            "low": r.low,
            "high": r.high,
            "seconds": r.seconds,
            "values": list(r.values),
        }
        for r in results
    ]
