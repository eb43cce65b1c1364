"""What each step of a chosen recipe earns, and the recipe without the steps that earn nothing."""

from __future__ import annotations

from dataclasses import dataclass

from tillage.agent.planner import Proposal
from tillage.agent.probe import Effect
from tillage.agent.repair import with_steps
from tillage.agent.rungs import PURPOSES
from tillage.agent.verify import Ladder, Verdict
from tillage.core.events import EventLog, Note
from tillage.flow.recipe import Recipe


@dataclass(frozen=True)
class Credit:
    """A step's effect against the recipe without it; below zero it helps. `kept`: why it stays, or empty."""

    step: str
    effect: Effect
    kept: str


def credits(ladder: Ladder, verdict: Verdict) -> list[Credit]:
    """Leave each step out in turn, as far as the budget goes, the steps nearest the end first.

    A step stays when it stands for a purpose of its own (`PURPOSES`), when other steps read what it makes,
    when the goal's aim is `clean`, or when the recipe without it measures worse.
    """
    found: list[Credit] = []
    steps = {step.id: step for step in verdict.recipe.steps}
    for step, effect in ladder.credits(verdict).items():
        found.append(Credit(step, effect, _reason(ladder, verdict.recipe, step, effect, steps[step].op.name)))
    return found


def _reason(ladder: Ladder, recipe: Recipe, step: str, effect: Effect, operator: str) -> str:
    if operator in PURPOSES:
        return "for its own purpose"
    made = recipe.step(step).op.writes().keys() - {"text"}
    if any(made & other.op.reads() for other in recipe.steps if other.id != step):
        return "others read what it measures"
    if ladder.frozen.goal.aim == "clean":
        return "for the goal's aim"
    return "for its effect" if effect.interval.mean < 0 else ""


def without_idle(
    ladder: Ladder, verdict: Verdict, log: EventLog | None = None
) -> tuple[Verdict, list[Credit]]:
    """The verdict on the recipe without the steps that earn nothing, verified anew, and every step's credit.

    The verdict itself comes back when every step stays, when the shorter recipe does not pass, or when it
    measures worse than the longer one.
    """
    earned = credits(ladder, verdict)
    idle = [credit.step for credit in earned if not credit.kept]
    if log is not None:
        for credit in earned:
            interval = credit.effect.interval
            kept = f"stays {credit.kept}" if credit.kept else "earns nothing and is left out"
            log.emit(
                Note(
                    f"credit of {credit.step}: {interval.mean:+.4f} bits/byte "
                    f"[{interval.low:+.4f}, {interval.high:+.4f}], {kept}"
                )
            )
    # One at a time from the idlest: two steps may stand in for each other.
    worst = max((c for c in earned if c.step in idle), key=lambda c: c.effect.interval.mean, default=None)
    if worst is None:
        return verdict, earned
    rest = tuple(step for step in verdict.recipe.steps if step.id != worst.step)
    shorter = Proposal(
        verdict.name,
        verdict.proposal.strategy,
        with_steps(verdict.recipe, rest),
        f"{verdict.proposal.summary}, without {worst.step}, which earned nothing",
        verdict.proposal.planner,
        verdict.proposal.round,
    )
    again = ladder.verify(shorter)
    if not again.passed or again.effect is None or verdict.effect is None:
        return verdict, earned
    better = again.effect.interval.mean <= verdict.effect.interval.mean + 1e-9 or not again.effect.harms
    return (again, earned) if better else (verdict, earned)
