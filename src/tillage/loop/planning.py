"""From a frozen goal to the recipe that measured best: profile, proposals, the ladder, the choice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tillage.agent.compete import compete
from tillage.agent.credit import without_idle
from tillage.agent.embedded import annotated, mended, refused_filters, searched
from tillage.agent.evidence import CARE, Soundness, mended_sample
from tillage.agent.findings import Rung
from tillage.agent.goal import FrozenGoal
from tillage.agent.memory import Experience
from tillage.agent.planner import Catalogue, Planner, Proposal, build, catalogue
from tillage.agent.planners import memory, planner_from_environment
from tillage.agent.probe import EffectMeter
from tillage.agent.search import Variant, halve, mask, variants
from tillage.agent.verify import Ladder, Verdict, default_meter
from tillage.core.errors import WorkFailed
from tillage.core.events import EventLog, Note, phase
from tillage.core.text import percent
from tillage.core.workspace import Workspace
from tillage.data.fields import resolve_fields
from tillage.data.profile import Profile, profile
from tillage.flow.places import Places
from tillage.flow.recipe import Recipe, parse_sources
from tillage.flow.run import sample_run
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
    given: Recipe | None = None,
) -> Planned:
    """Profile a frozen sample, propose, verify each proposal up to `top`, choose by measured effect.

    Args:
        given: steps of a recipe that exists already; it is run on the sample and nothing else is proposed.
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
    if given is not None:
        return _given(frozen, given, found, sample, workspace, second, log)
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
        if goal.aim == "target" and top == "effect":
            verdicts += _searched(ladder, found, allowed, sample, workspace, log)
        chosen, why = _choose(ladder, verdicts, second(sample) if second is not None else None, top, log)
        if goal.aim == "target" and chosen.effect is not None and ladder.runs_left > 0:
            chosen, _ = without_idle(ladder, chosen, log)
    experiences = memory(workspace)
    for verdict in verdicts:
        if verdict.effect is not None:
            experiences.add(_experience(verdict, found))
    return Planned(chosen, why, verdicts, found, ladder, sample)


def _given(
    frozen: FrozenGoal,
    given: Recipe,
    found: Profile,
    sample: Path,
    workspace: Workspace,
    second: Callable[[Path], EffectMeter] | None,
    log: EventLog,
) -> Planned:
    """The verdict on a recipe of the user's, over the goal's sources. `WorkFailed` where it does not pass.

    It climbs to the sample run only: what it does to the data is the user's choice until training tells.
    """
    steps = given.to_dict()["steps"]
    proposal = Proposal("given", "given", build(frozen, "given", steps), "the recipe given", "person")
    proposal.emit(log)
    with phase(log, "verify", "verify the recipe given on the sample"):
        ladder = Ladder(frozen, sample, workspace, default_meter(frozen, log), log)
        verdicts = [ladder.verify(proposal, "sample")]
        if second is not None:
            second(sample)
        chosen, why = _choose(ladder, verdicts, None, "sample", log)
    return Planned(chosen, why, verdicts, found, ladder, sample)


SEARCH_SHARE = 0.5
"""Of the probe runs and the time that are left when the proposals are measured; the rest is for credits."""


def _searched(
    ladder: Ladder, found: Profile, allowed: Catalogue, sample: Path, workspace: Workspace, log: EventLog
) -> list[Verdict]:
    """The verdict on the thresholds that a search finds within the budget; none without budget."""
    frozen, meter = ladder.frozen, ladder.meter
    if meter is None or found.target is None or ladder.runs_left <= len(meter.seeds):
        return []
    goal = frozen.goal
    recipe = build(frozen, "annotated", annotated(frozen, found, allowed))
    table = sample_run(recipe, workspace, None, sample).kept_table()
    if "target_score" not in table.column_names:
        return []
    floor = min(max(2 * goal.constraints.min_retention, goal.budget.probe_bytes / found.bytes, 0.05), 0.9)
    texts = table["text"].to_pylist()

    def documents(variant: Variant) -> list[str]:
        return [texts[i] for i in np.flatnonzero(mask(table, variant, found)) if texts[i]]

    runs = int(SEARCH_SHARE * ladder.runs_left)
    best = halve(
        variants(found, floor, goal.seed), documents, ladder.control, meter, runs, ladder.time_left, log
    )
    if best is None:
        return []
    why = (
        f"{best.variant.name}: best of {best.tried} variants by successive halving, {best.runs} probe runs, "
        f"{best.mean:+.4f} bits per byte [{best.low:+.4f}, {best.high:+.4f}] against raw"
    )
    proposal = searched(frozen, found, allowed, best.variant.care, best.variant.point, why)
    proposal.emit(log)
    return [ladder.verify(proposal)]


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
    texts, domains = mended_sample(frozen, mended(frozen, found, allowed), sample, workspace)
    soundness = Soundness(texts, target, domains)
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
