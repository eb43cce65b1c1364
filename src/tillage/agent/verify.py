"""The verification ladder: a candidate climbs rung by rung, and is repaired or refused where it fails."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import pyarrow.parquet as pq

from tillage.agent import rungs
from tillage.agent.findings import RUNGS, Finding, Rung, RungResult
from tillage.agent.goal import FrozenGoal
from tillage.agent.planner import Proposal
from tillage.agent.probe import Effect, EffectMeter, NgramProbe, draw
from tillage.agent.repair import Repair, repair, with_steps
from tillage.agent.rungs import Sampled, Yardstick
from tillage.core.errors import UserError, WorkFailed
from tillage.core.events import EventLog, Json
from tillage.core.workspace import Workspace
from tillage.flow.recipe import Recipe
from tillage.flow.run import sample_run

TARGET_BYTES = 500_000
"""At most so much of the target's search part is scored by a probe: more would cost time for little."""


@dataclass
class Verdict:
    """What became of a candidate. `recipe` is the proposal's, with its repairs."""

    proposal: Proposal
    recipe: Recipe
    rungs: list[RungResult] = field(default_factory=list[RungResult])
    repairs: list[Repair] = field(default_factory=list[Repair])
    sampled: Sampled | None = None
    effect: Effect | None = None

    @property
    def name(self) -> str:
        return self.proposal.name

    @property
    def findings(self) -> list[Finding]:
        """Of the last rung that was climbed; empty for a candidate that passed."""
        return self.rungs[-1].findings if self.rungs else []

    @property
    def cost(self) -> tuple[int, int]:
        """(corpus operators, steps) of the recipe."""
        return sum(step.op.scope == "corpus" for step in self.recipe.steps), len(self.recipe.steps)

    @property
    def passed(self) -> bool:
        return bool(self.rungs) and self.rungs[-1].passed


def default_meter(frozen: FrozenGoal, log: EventLog | None = None) -> EffectMeter | None:
    """The n-gram probe with the goal's budget and seeds; None for a goal without a target."""
    if frozen.goal.target is None:
        return None
    goal = frozen.goal
    target = draw(frozen.search(), seed=goal.seed, budget_bytes=TARGET_BYTES)
    seeds = range(goal.seed, goal.seed + goal.budget.seeds)
    return EffectMeter(NgramProbe(), target, seeds, goal.budget.probe_bytes, log)


class Ladder:
    """Verifies candidates of one goal on one frozen sample of raw rows.

    Args:
        sample: a Parquet file of raw rows (`tillage.flow.sample.take_sample`).
        meter: measures effects; without one (a goal without a target) the last rung is not climbed.

    The control of effects is the raw sample less the documents that overlap with the target: otherwise a
    candidate would be punished for decontaminating.
    """

    def __init__(
        self,
        frozen: FrozenGoal,
        sample: Path,
        workspace: Workspace,
        meter: EffectMeter | None,
        log: EventLog | None = None,
    ) -> None:
        self.frozen, self.sample, self.workspace, self.meter, self.log = frozen, sample, workspace, meter, log
        table = pq.read_table(sample)
        self.schema = table.schema
        self.raw = table.filter(table["text"].is_valid())
        if self.raw.num_rows == 0:
            raise UserError("the sample holds no text", where=sample)
        self.until = time.monotonic() + 60.0 * frozen.goal.budget.minutes
        search = frozen.search()
        self.raw_shares = rungs.domain_shares(self.raw)
        self.yardstick = Yardstick(search, self.raw) if search else None

    def time_left(self) -> bool:
        """Whether the goal's minutes, counted from the making of the ladder, are not spent."""
        return time.monotonic() < self.until

    @property
    def runs_left(self) -> int:
        """Trainings of the probe that the goal's budget still allows."""
        return self.frozen.goal.budget.probe_runs - (self.meter.runs if self.meter is not None else 0)

    @cached_property
    def control(self) -> list[str]:
        """The raw documents, less those that overlap with the target."""
        table = self.raw if self.yardstick is None else self.yardstick.clean
        return [text for text in table["text"].to_pylist() if text]

    def verify(self, proposal: Proposal, top: Rung = "effect") -> Verdict:
        """Climb to `top`; on a finding repair and climb again, at most `budget.repairs` times."""
        verdict = Verdict(proposal, proposal.recipe)
        self.climb(verdict, top)
        while verdict.findings and len(verdict.repairs) < self.frozen.goal.budget.repairs:
            mended = repair(verdict.recipe, verdict.findings[0], self.frozen, verdict.sampled)
            if mended is None:
                break
            mended.emit(verdict.name, self.log)
            verdict.repairs.append(mended)
            verdict.recipe = mended.recipe
            idle = mended.finding.code == "changes_nothing"
            self.climb(verdict, top, _less(verdict.sampled, mended.recipe) if idle else None)
        return verdict

    def climb(self, verdict: Verdict, top: Rung = "effect", known: Sampled | None = None) -> None:
        """Climb all rungs up to `top` once, stopping at the first that fails; emits `Verified` for each.

        `known` is a sample run that is known to hold for the recipe, which then is not run again.
        """
        verdict.sampled, verdict.effect = known, None
        verdict.rungs = []
        steps: dict[Rung, Callable[[Verdict], tuple[list[Finding], Json]]] = {
            "contract": lambda v: rungs.contract(self.frozen, v.recipe, self.schema),
            "sample": self._sample,
            "distribution": self._distribution,
            "effect": self._effect,
        }
        for rung in RUNGS[: RUNGS.index(top) + 1]:
            if rung == "effect" and self.meter is None:
                break
            begun = time.perf_counter()
            findings, evidence = steps[rung](verdict)
            result = RungResult(rung, findings, evidence, time.perf_counter() - begun)
            verdict.rungs.append(result)
            result.emit(verdict.name, self.log)
            if findings:
                break

    def run(self, recipe: Recipe) -> Sampled:
        """A sample run without commit. Its accounts do not enter the log: they are the sample's."""
        result = sample_run(recipe, self.workspace, None, self.sample)
        return Sampled(result.accounts, result.kept_table(), result.dropped_table(), result.seconds)

    def _sample(self, verdict: Verdict) -> tuple[list[Finding], Json]:
        try:
            verdict.sampled = verdict.sampled or self.run(verdict.recipe)
        except UserError as error:
            # An operator that fails on real rows is the candidate's fault; it is told, and others may win.
            message = f"{error.what}: {error.got}"
            return [
                Finding("sample", "run_failed", self._culprit(verdict.recipe), message, error.hint or "")
            ], {}
        return rungs.sample(self.frozen, verdict.recipe, verdict.sampled)

    def _culprit(self, recipe: Recipe) -> str:
        """The step whose addition makes the run fail; stages that ran before are not run again."""
        for count in range(1, len(recipe.steps)):
            try:
                self.run(with_steps(recipe, recipe.steps[:count]))
            except UserError:
                return recipe.steps[count - 1].id
        return recipe.steps[-1].id

    def _distribution(self, verdict: Verdict) -> tuple[list[Finding], Json]:
        assert verdict.sampled is not None
        return rungs.distribution(
            verdict.recipe, verdict.sampled, self.raw_shares, self.yardstick, self.frozen.goal.aim
        )

    def _effect(self, verdict: Verdict) -> tuple[list[Finding], Json]:
        assert verdict.sampled is not None
        assert self.meter is not None
        goal = self.frozen.goal
        if spent := self._spent():
            if all(step.op.name in rungs.PURPOSES for step in verdict.recipe.steps):
                return [], {"measured": False, "why": spent}
            return [Finding("effect", "budget_spent", "", spent, "raise the budget")], {}
        tolerated = rungs.TOLERATED if goal.aim == "clean" else 0.0
        findings, evidence, verdict.effect = rungs.effect(
            verdict.name, verdict.sampled, self.control, self.meter, tolerated
        )
        return findings, evidence

    def _spent(self) -> str:
        """Why no effect can be measured any more; empty where one can."""
        assert self.meter is not None
        budget = self.frozen.goal.budget
        if self.meter.runs and not self.time_left():
            return f"the {budget.minutes:g} minutes of the budget are spent"
        if self.runs_left < len(self.meter.seeds):
            return f"{self.runs_left} probe runs left, {len(self.meter.seeds)} needed"
        return ""

    def credits(self, verdict: Verdict) -> dict[str, Effect]:
        """Leave one step out: the effect of each step of a verified candidate, against the recipe without it.

        Below zero means that the step helps. Steps whose removal breaks the contract are left out; the
        last steps come first, as far as the budget goes.
        """
        if self.meter is None or verdict.sampled is None:
            raise WorkFailed("credit needs a verified candidate and a target", where=verdict.name)
        found: dict[str, Effect] = {}
        for step in reversed(verdict.recipe.steps):
            # A step costs the trainings without it, and of the whole on as many bytes.
            if self.runs_left < 2 * len(self.meter.seeds) or not self.time_left():
                break
            rest = tuple(s for s in verdict.recipe.steps if s.id != step.id)
            if step.op.name in rungs.GATES or not rest:
                continue
            without = with_steps(verdict.recipe, rest)
            if rungs.contract(self.frozen, without, self.schema)[0]:
                continue
            documents = self.run(without).documents
            if documents:
                found[step.id] = self.meter.effect(
                    verdict.name, verdict.sampled.documents,
                    f"{verdict.name} without {step.id}", documents,
                )  # fmt: skip
        return found


def _less(sampled: Sampled | None, recipe: Recipe) -> Sampled | None:
    """The run of a recipe with idle steps left out: the same rows, without those steps' accounts."""
    if sampled is None:
        return None
    ids = {step.id for step in recipe.steps}
    accounts = [a for a in sampled.accounts if a.step in ids or a.operator == "read"]
    return replace(sampled, accounts=accounts)
