"""From a frozen goal to the recipe that measured best: profile, proposals, the ladder, the choice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tillage.agent.compete import compete
from tillage.agent.embedded import mended, refused_filters
from tillage.agent.evidence import CARE, Soundness, mended_sample
from tillage.agent.findings import Rung
from tillage.agent.goal import FrozenGoal
from tillage.agent.memory import Experience
from tillage.agent.planner import Catalogue, Planner, catalogue
from tillage.agent.planners import memory, planner_from_environment
from tillage.agent.probe import EffectMeter
from tillage.agent.verify import Ladder, Verdict, default_meter
from tillage.core.errors import WorkFailed
from tillage.core.events import EventLog, Note, phase
from tillage.core.text import percent
from tillage.core.workspace import Workspace
from tillage.data.fields import resolve_fields
from tillage.data.profile import Profile, profile
from tillage.flow.places import Places
from tillage.flow.recipe import parse_sources
from tillage.flow.sample import take_sample


@dataclass(frozen=True)
class Planned:
    """The chosen candidate, all of them, and what they were judged by."""

    chosen: Verdict
    why: str
    verdicts: Sequence[Verdict]
    profile: Profile
    ladder: Ladder
    sample: Path


def plan_goal(
    frozen: FrozenGoal,
    workspace: Workspace,
    log: EventLog,
    *,
    top: Rung = "effect",
    planner: Planner | None = None,
    second: Callable[[Path], EffectMeter] | None = None,
) -> Planned:
    """Profile a frozen sample, propose, verify each proposal up to `top`, choose by measured effect.

    Args:
        planner: by default the language model that the environment names, or else the embedded planner.
        second: makes the dearer probe's meter from the sample; it measures the better ones again and decides.

    Raises:
        WorkFailed: no proposal passed.
    """
    frozen = with_fields(frozen, log)
    goal = frozen.goal
    with phase(log, "profile", "profile the raw data"):
        sources = parse_sources([dict(source) for source in goal.sources], None, Places(goal.name))
        sample = take_sample(sources, workspace, goal.budget.sample_rows, goal.seed)
        found = profile(sample, frozen.search(), log)
    planner = planner or planner_from_environment(workspace, log)
    with phase(log, "plan", "propose recipes from the evidence"):
        allowed = catalogue(frozen)
        for name, trial in refused_filters(allowed, frozen.search()).items():
            lost = f"would drop {percent(trial.rate)} of {trial.documents} target documents, most as"
            log.emit(Note(f"{name} with its published bounds is left out: it {lost} {trial.worst()}"))
        found = _with_soundness(frozen, found, allowed, sample, workspace)
        proposals = planner.propose(frozen, found, allowed)
        for proposal in proposals:
            proposal.emit(log)
    with phase(log, "verify", "verify each on the sample: contract, accounts, distribution, effect"):
        ladder = Ladder(frozen, sample, workspace, default_meter(frozen, log), log)
        verdicts = [ladder.verify(proposal, top) for proposal in proposals]
        chosen, why = _choose(ladder, verdicts, second(sample) if second is not None else None, top, log)
    experiences = memory(workspace)
    for verdict in verdicts:
        if verdict.effect is not None:
            experiences.add(_experience(verdict, found))
    return Planned(chosen, why, verdicts, found, ladder, sample)


def with_fields(frozen: FrozenGoal, log: EventLog | None = None) -> FrozenGoal:
    """The goal with sources that read every schema among its files, where they lack its text field."""
    goal = frozen.goal
    changed: list[dict[str, Any]] = []
    for item in goal.sources:
        (source,) = parse_sources([dict(item)], None, Places(goal.name))
        kind, fields = next(iter(item.items()))
        resolved = resolve_fields(kind, fields or {}, source)
        changed += [item] if resolved is None else resolved.sources
        for note in resolved.notes if resolved is not None else ():
            if log is not None:
                log.emit(Note(f"{source.name}: {note}"))
    return FrozenGoal(goal.model_copy(update={"sources": tuple(changed)}), frozen.folder)


def _with_soundness(
    frozen: FrozenGoal, found: Profile, allowed: Catalogue, sample: Path, workspace: Workspace
) -> Profile:
    """The profile with what the mended sample has more of than the target."""
    target = frozen.search()
    if not target:
        return found
    rows = mended_sample(frozen, mended(frozen, found, allowed), sample, workspace)
    soundness = Soundness(rows, target)
    return found.model_copy(update={"excess": {care: tuple(soundness.bounds(care)) for care in CARE}})


def _choose(
    ladder: Ladder, verdicts: Sequence[Verdict], second: EffectMeter | None, top: Rung, log: EventLog
) -> tuple[Verdict, str]:
    passed = {verdict.name: verdict for verdict in verdicts if verdict.passed}
    if not passed:
        said = [f"{v.name}: " + "; ".join(map(str, v.findings)) for v in verdicts]
        raise WorkFailed("no proposal passed verification", got="\n    ".join(said))
    if any(verdict.effect is not None for verdict in passed.values()):
        choice = compete(ladder, verdicts, second, log)
        return passed[choice.winner.name], choice.why
    first = next(iter(passed.values()))
    return first, f"the first that passed; no effect was measured up to the rung {top}"


def _experience(verdict: Verdict, found: Profile) -> Experience:
    assert verdict.effect is not None
    interval = verdict.effect.interval
    return Experience(
        goal=verdict.recipe.name,
        strategy=verdict.proposal.strategy,
        evidence=found.evidence(),
        steps=tuple(step.op.name for step in verdict.recipe.steps),
        recipe=verdict.recipe.to_dict(),
        effect=interval.mean,
        low=interval.low,
        high=interval.high,
    )
