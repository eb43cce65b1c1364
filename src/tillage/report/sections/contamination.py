"""Which evaluation items the rows overlap with: what the steps took out, and what the gate still found."""

from __future__ import annotations

from collections.abc import Sequence

from tillage.core.events import Contamination
from tillage.core.text import amount, percent
from tillage.report.html import Html, badge, details, el, join, table
from tillage.report.log import Log, group


def section(log: Log) -> Html | None:
    told = log.all(Contamination)
    if not told:
        return None
    parts: list[Html] = []
    for run, events in group(told, lambda event: event.run).items():
        # A run that was resumed tells it again: the last word counts.
        latest = list({(e.step, e.against, e.content): e for e in events}.values())
        parts.append(join(el("h3", "Run ", el("code", run)), _sets(latest), *map(_items, latest)))
    return join(
        el("h2", "Contamination"),
        el(
            "p",
            "Items of evaluation files that rows hold in words, whole or in part. What a step found it "
            "dropped; what the gate found was about to be committed.",
            class_="lead",
        ),
        parts,
    )


def _sets(told: Sequence[Contamination]) -> Html:
    rows: list[list[Html | str]] = [
        [
            one.step,
            one.against,
            amount(one.items),
            amount(one.hit),
            amount(one.rows),
            amount(one.boilerplate),
            badge("found at the gate", "bad") if one.step == "gate" and one.hit else join(),
        ]
        for one in told
    ]
    head = ("found by", "file", "items", "items hit", "rows", "items only as boilerplate", "")
    return table(head, rows, (2, 3, 4, 5))


def _items(one: Contamination) -> Html | None:
    if not one.worst:
        return None
    rows: list[list[Html | str]] = [
        [
            str(item["item"]),
            item["item_text"],
            amount(item["rows"]),
            amount(item["ngrams"]),
            "–" if item["share"] is None else percent(item["share"]),
            el("code", " ".join(id[:12] for id in item["ids"]), class_="small"),
        ]
        for item in one.worst
    ]
    head = ("item", "begins", "rows", "n-grams", "share", "some rows")
    return details(f"{one.step}: items of {one.against}", table(head, rows, (0, 2, 3, 4)))
