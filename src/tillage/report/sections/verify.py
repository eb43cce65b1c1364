"""What verification measured: the ladder, effects with intervals, agreement of probes, repairs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tillage.core.events import EffectMeasured, ProbesAgree, Repaired, Verified
from tillage.core.text import seconds, signed
from tillage.report.charts import Estimate, forest
from tillage.report.html import Html, badge, details, el, figure, join, table
from tillage.report.log import Log, group
from tillage.report.sections.result import interval

LONG = 3


def section(log: Log) -> Html | None:
    verified, effects, repaired = log.all(Verified), log.all(EffectMeasured), log.all(Repaired)
    if not (verified or effects or repaired):
        return None
    return join(
        el("h2", "Verification"),
        el(
            "p",
            "Cheap checks first; only what passes climbs on to be trained on. A recipe works when its effect "
            "on a model was measured.",
            class_="lead",
        ),
        _ladder(verified),
        _effects(effects, log.all(ProbesAgree)),
        _repairs(repaired),
    )


def _ladder(verified: Sequence[Verified]) -> Html | None:
    if not verified:
        return None
    rungs = list(dict.fromkeys(event.rung for event in verified))
    candidates = group(verified, lambda event: event.candidate)
    rows: list[list[Html]] = []
    findings: list[Html] = []
    for name, events in candidates.items():
        last = {event.rung: event for event in events}
        rows.append([join(name), *(_cell(last.get(rung)) for rung in rungs)])
        for event in events:
            if not event.passed:
                hint = f" ({event.hint})" if event.hint else ""
                findings.append(el("li", el("b", f"{name}, {event.rung}: "), event.finding + hint))
    evidence = (
        details(
            join(f"{event.candidate}, {event.rung} ", _mark(event)),
            el("pre", pretty(event.evidence)),
        )
        for event in verified
        if event.evidence
    )
    return join(
        el("h3", "The ladder"),
        table(["candidate", *rungs], rows),
        _folded(f"{len(findings)} finding{'s' if len(findings) != 1 else ''}", findings),
        details(f"Evidence of all {len(verified)} checks", *evidence),
    )


def _mark(event: Verified) -> Html:
    return badge("passed", "good") if event.passed else badge("failed", "bad")


def _cell(event: Verified | None) -> Html:
    if event is None:
        return el("span", "not reached", class_="soft small")
    return join(_mark(event), " ", el("span", seconds(event.seconds), class_="soft small"))


def pretty(value: Mapping[str, Any]) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False)


def _effects(effects: Sequence[EffectMeasured], agreements: Sequence[ProbesAgree]) -> Html | None:
    if not effects:
        return None
    parts: list[Html] = [el("h3", "Effect on a trained model")]
    for probe, measured in group(effects, lambda event: event.probe).items():
        rows: list[Estimate] = []
        for event in measured:
            pairs = zip(event.candidate_bpb, event.control_bpb, strict=False)
            tone = "good" if event.high < 0 else "bad" if event.low > 0 else ""
            note = f"{signed(event.mean)} {interval(event.low, event.high, sign=True)}"
            label = f"{event.candidate} − {event.control}"
            rows.append(
                Estimate(label, event.mean, event.low, event.high, note, tone, [a - b for a, b in pairs])
            )
        seeds = sorted({len(event.seeds) for event in measured})
        spent = seconds(sum(event.seconds for event in measured))
        caption = (
            f"Probe {probe}: candidate minus control on the target, bits per byte, same tokens; below zero "
            f"is better. {' or '.join(map(str, seeds))} paired seeds, 95 % t interval, {spent} in all."
        )
        if any("#" in row.label for row in rows):
            caption += " A name with # is a repaired recipe, by its fingerprint."
        parts.append(figure(caption, forest(rows, f"Δ bits per byte ({probe})")))
    for event in agreements:
        said = f"The probes {' and '.join(event.probes)} put {len(event.candidates)} candidates in order"
        parts.append(
            el("p", f"{said}: Kendall's tau {event.tau:+.2f} (1 is the same order, 0 none in common).")
        )
    return join(parts)


def _folded(title: str, items: Sequence[Html]) -> Html | None:
    """A list, folded where it is long."""
    if not items:
        return None
    return details(title, el("ul", items, class_="small"), open_=len(items) <= LONG)


def _repairs(repaired: Sequence[Repaired]) -> Html | None:
    if not repaired:
        return None
    parts = (
        details(
            join(event.candidate, el("span", f"  {event.why}", class_="soft small")),
            el("p", event.finding, class_="soft small"),
            el("pre", diff(event.diff)),
            open_=len(repaired) <= LONG,
        )
        for event in repaired
    )
    said = "A candidate that failed a check was changed by a rule for its finding, and climbed again."
    return join(el("h3", "Repairs"), el("p", said, class_="soft small"), *parts)


def diff(text: str) -> Html:
    """A unified diff with its added and removed lines coloured."""
    lines: list[Html] = []
    for row in text.splitlines():
        head = row.startswith(("+++", "---", "@@"))
        kind = "soft" if head else "add" if row.startswith("+") else "del" if row.startswith("-") else None
        lines.append(join(el("span", row, class_=kind), "\n"))
    return join(lines)
