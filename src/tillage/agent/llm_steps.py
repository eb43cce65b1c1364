"""Planning with a weak model: it picks from a menu, one step at a time, in JSON that its server constrains.

The menu holds what the evidence offers (the embedded planner's steps, with their figures), and where that is
little, operators that need no parameters. The model decides what goes in and in which order; picks that make
no sense are findings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationError, create_model

from tillage.agent.embedded import EmbeddedPlanner
from tillage.agent.fence import DATA_RULE, fenced
from tillage.agent.findings import Finding, FindingCode, RungResult
from tillage.agent.goal import FrozenGoal
from tillage.agent.planner import Catalogue, Outcome, Proposal, build
from tillage.core.errors import UserError, WorkFailed
from tillage.core.events import EventLog
from tillage.data.profile import Profile
from tillage.flow.check import check
from tillage.llm.client import LLMClient
from tillage.ops.catalogue import describe

INSTRUCTIONS = f"""You clean text for training. Pick the next step from the menu, or finish.
Prefer steps whose reason cites a large share. {DATA_RULE}"""
FINISH = "finish"
MOST_PICKS = 5
MOST_OFFERS, FEW_OFFERS = 14, 6
MOST_FAULTS = 2
LINE = 90
"""Characters of a line of the menu: a small model reads some hundred tokens a second."""


class Pick(BaseModel):
    """What the model answers; the real type has the names on the menu for `step`."""

    step: str
    why: str = Field(max_length=50)


@dataclass(frozen=True)
class Offer:
    """One line of the menu: `step` as in a recipe's YAML."""

    name: str
    line: str
    step: dict[str, Any]


def menu(frozen: FrozenGoal, profile: Profile, catalogue: Catalogue) -> list[Offer]:
    """What the evidence offers, in the order of the embedded planner; and where that is little, operators
    that fit anything: given many of both, a small model picks filters that no figure asks for."""
    offers: dict[str, Offer] = {}
    for proposal in EmbeddedPlanner().propose(frozen, profile, catalogue):
        for step in proposal.recipe.to_dict()["steps"]:
            name = str(step.get("id") or next(iter(step)))
            offers.setdefault(name, Offer(name, str(step.get("why", ""))[:LINE], step))
    for name, cls in sorted(catalogue.items()):
        if len(offers) >= FEW_OFFERS:
            break
        known = describe(cls)
        plain = not any(p["required"] for p in known["parameters"])
        if plain and known["kind"] in ("map", "filter"):
            step = {name: {}, "why": "no figure: picked by the language model"}
            offers.setdefault(name, Offer(name, known["description"][:LINE], step))
    return list(offers.values())[:MOST_OFFERS]


def chosen_steps(
    client: LLMClient,
    planner: str,
    frozen: FrozenGoal,
    profile: Profile,
    catalogue: Catalogue,
    history: Sequence[Outcome] = (),
    log: EventLog | None = None,
) -> list[Proposal]:
    """The recipe that the model puts together from the menu, if it holds its contract.

    A pick that repeats another, or breaks the contract, is a finding and is told to the model; after
    `MOST_FAULTS` of them, or `MOST_PICKS` picks, the recipe is what it is.

    Raises:
        WorkFailed: nothing was picked that holds, or the endpoint failed.
    """
    offers = {offer.name: offer for offer in menu(frozen, profile, catalogue)}
    tried = {outcome.recipe.fingerprint() for outcome in history}
    picked: list[Offer] = []
    faults: list[str] = []
    while offers and len(picked) < MOST_PICKS and len(faults) <= MOST_FAULTS:
        pick = _ask(client, offers, picked, faults)
        if pick.step == FINISH:
            break
        offer = offers.get(pick.step)
        if offer is None or offer in picked:
            _fault(planner, "repeated_step", pick.step, "is in the recipe already", faults, log)
            continue
        broken = _broken(frozen, [*picked, offer])
        if broken:
            _fault(planner, "invalid_step", pick.step, broken, faults, log)
            continue
        picked.append(offer)
    steps = [offer.step for offer in picked]
    if not steps:
        raise WorkFailed(
            "the language model picked no step that holds",
            where=planner,
            got="; ".join(faults) or "nothing",
            hint="use the embedded planner, or another model",
        )
    recipe = build(frozen, "picked", steps)
    if recipe.fingerprint() in tried:
        return []
    summary = f"picked step by step: {', '.join(offer.name for offer in picked)}"
    return [Proposal("picked", "picked", recipe, summary, planner)]


def _ask(client: LLMClient, offers: dict[str, Offer], picked: list[Offer], faults: list[str]) -> Pick:
    left = [offer for offer in offers.values() if offer not in picked]
    # An empty recipe is no answer: the first pick cannot be the end.
    names = [offer.name for offer in left] + ([FINISH] if picked else [])
    shown: dict[str, Any] = {
        # The whole menu, every time: what is the same at the beginning of a prompt is read once.
        "menu": {offer.name: offer.line for offer in offers.values()},
        "recipe_so_far": [offer.name for offer in picked],
    }
    if faults:
        shown["faults"] = faults
    named: Any = Literal[tuple(names)]  # pyright: ignore[reportInvalidTypeArguments]
    kind = create_model("Pick", __base__=Pick, step=(named, ...))
    return client.ask(INSTRUCTIONS, fenced(shown), kind)


def _broken(frozen: FrozenGoal, offers: list[Offer]) -> str:
    try:
        findings = check(build(frozen, "picked", [offer.step for offer in offers]), inputs=False)
    except (UserError, ValidationError) as error:
        return str(error).splitlines()[0]
    return str(findings[0]) if findings else ""


def _fault(
    planner: str, code: FindingCode, step: str, message: str, faults: list[str], log: EventLog | None
) -> None:
    finding = Finding("contract", code, step, message)
    RungResult("contract", [finding], {"planner": planner}).emit("picked", log)
    faults.append(f"{step} {message}")
