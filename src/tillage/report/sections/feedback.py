"""What training measured about the data, which the next round was planned from."""

from __future__ import annotations

from tillage.core.events import Utility
from tillage.core.text import amount, signed
from tillage.report.charts import Estimate, forest
from tillage.report.html import Html, el, figure, join
from tillage.report.log import Log, group

TITLES = {
    "domain": ("By domain", "How useful each domain was for the target."),
    "bucket": ("By measurement", "Excess loss by bucket of each measurement taken during preparation."),
    "dropped": (
        "Dropped rows",
        "A sample of dropped rows, scored by what the models learned: above zero, they would have helped.",
    ),
    "step": ("By step", "Credit of each step, by leaving it out."),
}


def section(log: Log) -> Html | None:
    utilities = log.all(Utility)
    if not utilities:
        return None
    parts: list[Html] = []
    for kind, of in group(utilities, lambda event: event.kind).items():
        title, caption = TITLES.get(kind, (kind, ""))
        # A second round measures again: the last word on each part counts.
        latest = list({event.key: event for event in of}.values())
        if kind != "bucket":
            latest.sort(key=lambda event: -event.value)
        rows = [
            Estimate(
                u.key,
                u.value,
                u.low,
                u.high,
                f"{signed(u.value, 3)} · n = {amount(u.n)}",
                "good" if u.low > 0 else "bad" if u.high < 0 else "",
            )
            for u in latest
        ]
        parts.append(el("h3", title))
        parts.append(
            figure(f"{caption} Nats a token, higher is more useful, 95 % intervals.", forest(rows, "utility"))
        )
    return join(
        el("h2", "Feedback"),
        el(
            "p",
            "What the trainer measured goes back to the planner as evidence for the next round.",
            class_="lead",
        ),
        parts,
    )
