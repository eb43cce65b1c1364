"""The recipes that were proposed, each step with the figure that caused it, and which one was chosen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from tillage.core.events import Chosen, Proposed, Repaired
from tillage.report.html import Html, badge, details, el, join
from tillage.report.log import Log, group


def section(log: Log) -> Html | None:
    proposals = log.all(Proposed)
    if not proposals:
        return None
    chosen = {(event.round, event.candidate): event for event in log.all(Chosen)}
    repaired = {event.candidate for event in log.all(Repaired)}
    parts: list[Html] = []
    for number, candidates in group(proposals, lambda p: p.round).items():
        # A candidate that is proposed again (a repair) replaces what it was before.
        latest = list({p.candidate: p for p in candidates}.values())
        latest.sort(key=lambda p: (number, p.candidate) not in chosen)
        parts.append(el("h3", f"Round {number}: {len(latest)} recipe{'s' if len(latest) != 1 else ''}"))
        for (of, name), event in chosen.items():
            if of == number:
                parts.append(el("p", el("b", f"{name} was chosen: "), event.why))
        cards = (_card(p, (number, p.candidate) in chosen, p.candidate in repaired) for p in latest)
        # Four cards in rows of three would leave one alone.
        parts.append(el("div", cards, class_="cards two" if len(latest) in (2, 4) else "cards"))
    return join(
        el("h2", "Plan"),
        el(
            "p",
            "What the planner proposed from the evidence. Each step names the measured figure behind it.",
            class_="lead",
        ),
        parts,
    )


def steps_of(recipe: Mapping[str, Any]) -> list[tuple[str, str, Mapping[str, Any], str]]:
    """Steps of a recipe in its YAML form as (id, operator, parameters, why)."""
    out: list[tuple[str, str, Mapping[str, Any], str]] = []
    seen: dict[str, int] = {}
    for step in recipe.get("steps", []):
        keys = [key for key in step if key not in ("why", "id", "checkpoint")]
        operator = keys[0] if keys else str(step.get("id", "?"))
        seen[operator] = seen.get(operator, 0) + 1
        default = operator if seen[operator] == 1 else f"{operator}_{seen[operator]}"
        parameters = step.get(operator)
        known = parameters if isinstance(parameters, Mapping) else {}
        out.append((str(step.get("id") or default), operator, known, str(step.get("why") or "")))
    return out


def _card(proposal: Proposed, chosen: bool, repaired: bool) -> Html:
    items: list[Html] = []
    for step, operator, parameters, why in steps_of(proposal.recipe):
        given = ", ".join(f"{name}={_short(value)}" for name, value in parameters.items())
        label = el("b", step) if step == operator else join(el("b", step), " ", el("code", operator))
        reason = proposal.whys.get(step, why)
        items.append(
            el(
                "li",
                label,
                " ",
                el("code", given) if given else None,
                el("span", reason, class_="why") if reason else None,
            )
        )
    marks = join(badge("chosen", "good") if chosen else None, badge("repaired", "warn") if repaired else None)
    text = yaml.safe_dump(dict(proposal.recipe), sort_keys=False, allow_unicode=True, width=88)
    return el(
        "div",
        el("h4", proposal.candidate, " ", marks),
        el("p", proposal.summary, class_="soft small"),
        el("ol", items, class_="steps"),
        details(f"recipe.yaml ({proposal.planner} planner)", el("pre", text)),
        class_="card chosen" if chosen else "card",
    )


def _short(value: Any) -> str:
    """A parameter in a few characters; of a path, its name."""
    text = str(value)
    if isinstance(value, str) and text.startswith("/"):
        text = "…/" + text.rpartition("/")[2]
    return text if len(text) <= 60 else text[:57] + "…"
