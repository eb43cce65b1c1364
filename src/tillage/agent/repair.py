"""One repair for each finding: an edit of the recipe, small, named and kept as a diff."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from difflib import unified_diff

import numpy as np

from tillage.agent.findings import Finding, FindingCode
from tillage.agent.goal import FrozenGoal
from tillage.agent.rungs import PURPOSES, Sampled
from tillage.core.errors import UserError
from tillage.core.events import EventLog, Repaired
from tillage.core.text import percent
from tillage.data.sources import Source
from tillage.flow.recipe import Recipe, Step
from tillage.ops.base import Corpus, operators

_BOUND = re.compile(
    r"(?P<column>[a-z_][a-z0-9_]*)\s*(?P<relation>>=|<=|>|<)\s*(?P<value>-?[\d.]+(?:e-?\d+)?)"
)


@dataclass(frozen=True)
class Repair:
    recipe: Recipe
    finding: Finding
    why: str
    diff: str

    def emit(self, candidate: str, log: EventLog | None) -> None:
        if log is not None:
            log.emit(Repaired(candidate, str(self.finding), self.diff, self.why))


def repair(
    recipe: Recipe, finding: Finding, frozen: FrozenGoal, sampled: Sampled | None = None
) -> Repair | None:
    """The repair that the finding's code asks for, or None where none can be made (it is refused)."""
    edited = REPAIRS[finding.code](recipe, finding, frozen, sampled)
    if edited is None:
        return None
    changed, why = edited
    if changed.fingerprint() == recipe.fingerprint() or (recipe.steps and not changed.steps):
        return None
    return Repair(changed, finding, why, diff(recipe, changed))


def diff(before: Recipe, after: Recipe) -> str:
    """A unified diff of the two recipes' YAML."""
    lines = unified_diff(
        before.to_yaml().splitlines(), after.to_yaml().splitlines(), before.name, after.name, lineterm="", n=1
    )
    return "\n".join(lines)


Edited = tuple[Recipe, str] | None
Edit = Callable[[Recipe, Finding, FrozenGoal, Sampled | None], Edited]


def _without(recipe: Recipe, finding: Finding, frozen: FrozenGoal, sampled: Sampled | None) -> Edited:
    """Leave the step out, and the steps that read what only it made."""
    if finding.step not in {step.id for step in recipe.steps}:
        return None
    gone = {finding.step}
    columns = set(recipe.step(finding.step).op.writes()) - {"text"}
    for step in recipe.steps:
        if step.id not in gone and step.op.reads() & columns and not step.op.requires():
            gone.add(step.id)
    steps = tuple(step for step in recipe.steps if step.id not in gone)
    return with_steps(recipe, steps), f"left out {', '.join(sorted(gone))}: {finding.message}"


def _loosen(recipe: Recipe, finding: Finding, frozen: FrozenGoal, sampled: Sampled | None) -> Edited:
    """Move a threshold of a `where` so that it drops half of what it dropped; other steps are left out."""
    if finding.step not in {step.id for step in recipe.steps}:
        return None
    step = recipe.step(finding.step)
    if step.op.name != "where" or sampled is None:
        return _without(recipe, finding, frozen, sampled)
    moved = loosened(step, sampled, _missing(finding, frozen, sampled))
    if moved is None:
        return _without(recipe, finding, frozen, sampled)
    changed, why = moved
    steps = tuple(changed if s.id == step.id else s for s in recipe.steps)
    return with_steps(recipe, steps), f"{why}: {finding.message}"


def _missing(finding: Finding, frozen: FrozenGoal, sampled: Sampled) -> float:
    """The share of what the step dropped that brings retention back to the goal's bound; else a half."""
    account = next((a for a in sampled.accounts if a.step == finding.step), None)
    if finding.code == "away_from_target" or account is None:
        return 0.5
    wanted = 1.25 * frozen.goal.constraints.min_retention * sampled.accounts[0].bytes_in - sampled.kept_bytes
    lost = max(account.bytes_in - account.bytes_out, 1)
    return min(max(wanted / lost, 0.05), 1.0)


def loosened(step: Step, sampled: Sampled, share: float = 0.5) -> tuple[Step, str] | None:
    """A `where` step with the bound that drops most moved to keep `share` of what it dropped, and how."""
    text = str(getattr(step.op, "keep", ""))
    best: tuple[int, re.Match[str], float] | None = None
    for bound in _BOUND.finditer(text):
        column = bound["column"]
        if column not in sampled.dropped.column_names:
            continue
        mask = np.asarray([name == step.id for name in sampled.dropped["step"].to_pylist()], np.bool_)
        values = np.asarray(sampled.dropped[column].cast("float64").to_numpy(), np.float64)[mask]
        values = values[~np.isnan(values)]
        limit = float(bound["value"])
        lower = bound["relation"].startswith(">")
        outside = values[values < limit] if lower else values[values > limit]
        if len(outside) and (best is None or len(outside) > best[0]):
            best = (len(outside), bound, float(np.quantile(outside, 1 - share if lower else share)))
    if best is None:
        return None
    count, bound, moved = best
    lower = bound["relation"].startswith(">")
    value = _outward(moved, lower)
    keep = text[: bound.start("value")] + value + text[bound.end("value") :]
    op = step.op.model_copy(update={"keep": keep})
    why = (
        f"{bound['column']} moved from {bound['value']} to {value}, keeping {percent(share)} of {count} rows"
    )
    return step.model_copy(update={"op": op, "why": f"{step.why}; then {why}"}), why


def _outward(value: float, lower: bool) -> str:
    """Six figures, rounded to the side that keeps more."""
    rounded = float(f"{value:.6g}")
    if (rounded > value) if lower else (rounded < value):
        rounded = float(f"{value - abs(value) * 1e-5 if lower else value + abs(value) * 1e-5:.6g}")
    return f"{rounded:.6g}"


def _decontaminated(recipe: Recipe, finding: Finding, frozen: FrozenGoal, sampled: Sampled | None) -> Edited:
    if frozen.protected_path is None or "decontaminate" in frozen.goal.constraints.forbidden:
        return None
    op = operators.get("decontaminate").load({"against": str(frozen.protected_path)}, "repair")
    gate = Step(op=op, id="decontaminate", why=finding.message)
    # Before the first operator that needs the whole corpus, so that no copy of the target steers it.
    at = next((i for i, s in enumerate(recipe.steps) if isinstance(s.op, Corpus)), len(recipe.steps))
    steps = (*recipe.steps[:at], gate, *recipe.steps[at:])
    return with_steps(recipe, steps), f"added decontaminate: {finding.message}"


def _ordered(recipe: Recipe, finding: Finding, frozen: FrozenGoal, sampled: Sampled | None) -> Edited:
    """Move the step behind the last one that makes what it reads."""
    steps = list(recipe.steps)
    at = next((i for i, s in enumerate(steps) if s.id == finding.step), None)
    if at is None:
        return None
    makers = [i for i, s in enumerate(steps) if i > at and s.op.writes().keys() & steps[at].op.reads()]
    if not makers:
        return None
    step = steps.pop(at)
    steps.insert(makers[-1], step)
    return with_steps(
        recipe, tuple(steps)
    ), f"moved {step.id} behind {steps[makers[-1] - 1].id}: {finding.message}"


def _readable(recipe: Recipe, finding: Finding, frozen: FrozenGoal, sampled: Sampled | None) -> Edited:
    """Leave out the sources that have no files, where others have some."""
    kept = tuple(source for source in recipe.sources if _has_files(source))
    if not kept or len(kept) == len(recipe.sources):
        return None
    gone = len(recipe.sources) - len(kept)
    return recipe.model_copy(update={"sources": kept}), f"left out {gone} sources: {finding.message}"


def _has_files(source: Source) -> bool:
    try:
        return bool(source.files()[1])
    except UserError:
        return False


def _unjudged(recipe: Recipe, finding: Finding, frozen: FrozenGoal, sampled: Sampled | None) -> Edited:
    """Keep the steps that stand for a purpose of their own: the others need an effect that was measured."""
    kept = tuple(step for step in recipe.steps if step.op.name in PURPOSES)
    gone = ", ".join(step.id for step in recipe.steps if step.op.name not in PURPOSES)
    return with_steps(recipe, kept), f"left out {gone}, whose effect cannot be measured: {finding.message}"


REPAIRS: dict[FindingCode, Edit] = {
    "no_input": _readable,
    "missing_column": _without,
    "order": _ordered,
    "reserved_column": _without,
    "lost_column": _without,
    "undeclared_column": _without,
    "wrong_type": _without,
    "not_boolean": _without,
    "bad_expression": _without,
    "invalid_parameter": _without,
    "keys_not_private": _without,
    "forbidden_operator": _without,
    "unknown_operator": _without,
    "repeated_step": _without,
    "invalid_step": _without,
    "run_failed": _without,
    "accounts_unbalanced": _without,
    "retention_low": _loosen,
    "drops_everything": _loosen,
    "changes_nothing": _without,
    "contaminated": _decontaminated,
    "away_from_target": _loosen,
    "harmful": _without,
    "budget_spent": _unjudged,
}
"""Every code with its repair."""


def with_steps(recipe: Recipe, steps: tuple[Step, ...]) -> Recipe:
    """The recipe with other steps, their ids as they were."""
    return recipe.model_copy(update={"steps": steps})
