"""Rows that were kept and dropped, step by step, for a person to judge."""

from __future__ import annotations

from collections.abc import Sequence

from tillage.core.events import Committed, Example, StepAccount
from tillage.report.html import Html, details, el, join
from tillage.report.log import Log, group

PER_REASON = 4
EXCERPT = 700


def section(log: Log) -> Html | None:
    final = {event.lineage.get("run") for event in log.all(Committed)}
    examples = [event for event in log.all(Example) if not final or event.run in final]
    if not examples:
        return None
    parts: list[Html] = []
    opened = False
    runs = group(examples, lambda event: event.run)
    for run, of in runs.items():
        if len(runs) > 1:
            parts.append(el("h3", "Run ", el("code", run)))
        # Examples come by reason; people read in the order of the steps.
        order = [account.step for account in log.all(StepAccount) if account.run == run]
        of.sort(key=lambda event: order.index(event.step) if event.step in order else len(order))
        for step, found in group(of, lambda event: event.step).items():
            unique = list({(event.id, event.reason): event for event in found}.values())
            dropped = [event for event in unique if not event.kept]
            reasons = ", ".join(dict.fromkeys(event.reason for event in dropped if event.reason))
            columns = (
                _column("Dropped", dropped, "lost"),
                _column("Kept", [event for event in unique if event.kept], "kept"),
            )
            summary = join(step, el("span", f"  {reasons}", class_="soft small"))
            # The first step that judged rows is open: what it dropped and kept says most.
            first = not opened and bool(dropped) and any(event.kept for event in unique)
            opened = opened or first
            parts.append(details(summary, el("div", columns, class_="pair"), open_=first))
    return join(
        el("h2", "Examples"),
        el(
            "p",
            "Excerpts of rows as they were when the step decided. ",
            el("code", "tillage why ID"),
            " tells a row's whole life.",
            class_="lead",
        ),
        parts,
    )


def _column(title: str, examples: Sequence[Example], kind: str) -> Html | None:
    if not examples:
        return None
    shown: list[Html] = []
    for reason, of in group(examples, lambda event: event.reason).items():
        shown += [_example(event, reason, kind) for event in of[:PER_REASON]]
    return el("div", el("h4", title), shown)


def _example(event: Example, reason: str, kind: str) -> Html:
    excerpt = event.text[:EXCERPT] + ("…" if len(event.text) > EXCERPT else "")
    head = el("p", el("b", reason) if reason else None, " ", el("code", event.id))
    return el("div", head, el("pre", excerpt), class_=f"example {kind}")
