"""The headline: bits per byte on the holdout of each way to prepare and train."""

from __future__ import annotations

import math

from tillage.core.events import Result
from tillage.core.text import seconds, signed
from tillage.report.charts import Estimate, forest
from tillage.report.compare import rows
from tillage.report.html import Html, badge, el, figure, join
from tillage.report.log import Log


def interval(low: float, high: float, sign: bool = False) -> str:
    """`[low, high]`, or a dash where one observation gives no interval."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return "no interval"
    return f"[{signed(low)}, {signed(high)}]" if sign else f"[{low:.4f}, {high:.4f}]"


def section(log: Log) -> Html | None:
    results = log.all(Result)
    if not results:
        return None
    compared = rows(results)
    body: list[Html] = []
    marks: list[Estimate] = []
    for row in compared:
        result, change = row.result, row.change
        if change is None:
            against = "baseline" if result is results[0] else "\u2013"
        else:
            against = f"{signed(change.mean)} {interval(change.low, change.high, sign=True)}"
        name = join(result.name, " ", badge("best", "good") if row.best else None)
        cells = (
            name,
            f"{result.bpb:.4f}",
            interval(result.low, result.high),
            el("span", against, class_=row.tone or "soft"),
            str(len(result.values)),
            seconds(result.seconds),
        )
        tds = (el("td", cell, class_="num" if i else None) for i, cell in enumerate(cells))
        body.append(el("tr", tds, class_="best" if row.best else None))
        note = f"{result.bpb:.4f} {interval(result.low, result.high)}"
        marks.append(
            Estimate(
                result.name,
                result.bpb,
                result.low,
                result.high,
                note,
                "good" if row.best else "",
                result.values,
            )
        )
    head = ("", "bits per byte", "95 % interval", "against the first (paired)", "seeds", "wall clock")
    ths = (el("th", cell, class_="num" if i else None) for i, cell in enumerate(head))
    whole = el("table", el("thead", el("tr", ths)), el("tbody", body), class_="headline")
    plot = forest(marks, "bits per byte on the holdout (lower is better)", zero=None)
    return join(
        el("h2", "Result"),
        el(
            "p",
            "Bits per byte of models trained on the same token budget, on target text that nothing before "
            "the verdict has read. Lower is better.",
            class_="lead",
        ),
        el("div", whole, class_="scroll"),
        figure("Faint dots are single seeds; whiskers are 95 % t intervals over seeds.", plot),
    )
