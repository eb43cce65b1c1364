"""The main job: plan, prepare, train, feed back, revise. Each phase is a function of what came before it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from tillage.agent.commits import RecipeHistory
from tillage.agent.goal import FrozenGoal, Goal, freeze, goal_folder
from tillage.agent.planner import Outcome, build
from tillage.agent.probe import EffectMeter, draw
from tillage.agent.revise import more_of, revise, verify_revision
from tillage.agent.rungs import domain_shares
from tillage.agent.verify import Verdict
from tillage.core.errors import UserError
from tillage.core.events import Chosen, EventLog, Note, Result, StepAccount, Utility, phase
from tillage.core.spec import fingerprint
from tillage.core.stats import paired_interval
from tillage.core.text import signed
from tillage.core.workspace import Workspace
from tillage.flow.recipe import Recipe
from tillage.flow.run import RunResult, run
from tillage.loop.arms import Arm, judge, train_arms
from tillage.loop.feedback import utilities
from tillage.loop.planning import Planned, plan_goal
from tillage.loop.probes import TransformerProbe
from tillage.loop.spec import LoopSpec
from tillage.loop.stores import shared_tokenizer, store_dataset, store_run, texts_of
from tillage.ops.decontaminate import Decontaminate
from tillage.train.evaluate import Target
from tillage.train.policies import Proportional
from tillage.train.tokens import Tokenizer

RAW, PLAIN, DYNAMIC = "raw, plain", "prepared, plain", "prepared, dynamic"


def loop(
    goal: Path | Goal,
    workspace: Workspace,
    log: EventLog,
    *,
    spec: LoopSpec = LoopSpec(),
    recipe: Recipe | None = None,
) -> dict[str, Any]:
    """Do the whole job for a goal with a target.

    The goal's target is split first. Everything is decided on its search part; the holdout is read once, at
    the end, for all arms together. Rounds go on until no revision improves (the interval of the gain covers
    zero), `spec.rounds` are done, or `spec.minutes` are over.

    Args:
        recipe: begin with its steps instead of planning anew; the rounds then revise it.

    Returns:
        `recipe` (path of the last accepted one), `dataset` (path, version), `run` and its `accounts`,
        `results`, `seconds`; all JSON values.

    Raises:
        UserError: a goal without a target, or input that cannot be read.
        WorkFailed: no candidate passed verification, too much in quarantine, a run that failed.
    """
    began = time.monotonic()
    wanted = Goal.from_yaml(goal) if isinstance(goal, Path) else goal
    if wanted.target is None:
        raise UserError("the loop needs a target", where=wanted.name, hint="give the goal a target")
    folder = goal_folder(wanted, workspace)
    return _Job(wanted, freeze(wanted, folder), folder, workspace, log, spec, recipe).work(began)


@dataclass
class _Job:
    goal: Goal
    frozen: FrozenGoal
    folder: Path
    workspace: Workspace
    log: EventLog
    spec: LoopSpec
    given: Recipe | None = None
    runs: list[RunResult] = field(default_factory=list[RunResult])
    arms: list[Arm] = field(default_factory=list[Arm])
    revised: list[Verdict] = field(default_factory=list[Verdict])
    tokenizer: Tokenizer = field(init=False)
    second: EffectMeter = field(init=False)

    def work(self, began: float) -> dict[str, Any]:
        planned = plan_goal(
            self.frozen, self.workspace, self.log, second=self._second, given=self.given
        )  # fmt: skip
        self.frozen = planned.ladder.frozen  # with sources that read every schema
        tokenizer = self.tokenizer
        targets = self._targets(tokenizer)
        current = planned.chosen
        prepared = self._prepare(current)
        with phase(self.log, "tokenise", "tokenise the prepared and the raw rows"):
            raw = run(build(self.frozen, "raw", []), self.workspace, None, commit=None)
            everything = store_run(raw, tokenizer, self.workspace, self.log)
            store = store_dataset(prepared, tokenizer, self.workspace, self.log)
        self.arms += [
            Arm(RAW, everything, Proportional()),
            Arm(PLAIN, store, Proportional()),
            Arm(DYNAMIC, store, self.spec.policy),
        ]
        with phase(
            self.log, "train", "train: all raw rows plainly, what was prepared plainly and dynamically"
        ):
            train_arms(self.arms, self.spec, self.goal.seed, targets, self._models(), self.log)
        minutes = self.spec.minutes
        for number in range(2, self.spec.rounds + 1):
            spent = (time.monotonic() - began) / 60
            if minutes is not None and spent > minutes:
                self.log.emit(Note(f"no round {number}: {spent:.1f} of {minutes:g} minutes are over"))
                break
            before, current = current, self._round(number, planned, current, targets)
            if current is before:
                break
        with phase(self.log, "verdict", "verdict: every model on the holdout, read once"):
            results = self._verdict(tokenizer)
        last = self.runs[-1]
        assert last.dataset is not None
        return {
            "recipe": str(self._write(current)),
            "dataset": {"path": last.dataset[0], "version": last.dataset[1]},
            "run": last.run,
            "accounts": [_account(account) for account in last.accounts],
            "results": [asdict(result) for result in results],
            "seconds": round(time.monotonic() - began, 2),
        }

    def _second(self, sample: Path) -> EffectMeter:
        """The transformer's meter; its tokenizer is the one that all arms share."""
        spec, goal = self.spec, self.goal
        raw = texts_of(pq.read_table(sample, columns=["text"])["text"])
        self.tokenizer = shared_tokenizer(
            raw, self.frozen.search(), self.folder, spec.vocab, spec.tokenizer_bytes
        )
        probe = TransformerProbe(
            spec.probe, self.tokenizer, workers=spec.workers, target_bytes=spec.probe_target_bytes
        )
        seeds = range(goal.seed, goal.seed + spec.seeds)
        self.second = EffectMeter(probe, self.frozen.search(), seeds, goal.budget.probe_bytes, self.log)
        return self.second

    def _targets(self, tokenizer: Tokenizer) -> dict[str, Target]:
        texts = draw(self.frozen.search(), seed=self.goal.seed, budget_bytes=self.spec.search_bytes)
        return {"search": Target.from_texts("search", texts, tokenizer)}

    def _models(self) -> Path:
        return self.folder / "models" / fingerprint(self.spec.canonical())

    def _write(self, verdict: Verdict) -> Path:
        path = self.folder / "recipe.yaml"
        RecipeHistory(path, self.workspace).enter(verdict, verdict.proposal.planner)
        return path

    def _prepare(self, chosen: Verdict) -> tuple[str, int]:
        """Run the recipe in full and commit; the dataset's path and version."""
        path = self._write(chosen)
        with phase(self.log, "prepare", f"prepare: {chosen.name} over all rows"):
            self.log.emit(Note(f"recipe written to {path}"))
            self.runs.append(run(self._guarded(chosen.recipe), self.workspace, self.log))
        dataset = self.runs[-1].dataset
        assert dataset is not None
        return dataset

    def _guarded(self, recipe: Recipe) -> Recipe:
        """With the target as an evaluation set: what of it is left in the rows stands in the lineage, and is
        warned of. It does not end a loop of hours."""
        protected = self.frozen.protected_path
        if protected is None or recipe.evaluation:
            return recipe
        gate = Decontaminate(against=protected)
        return recipe.model_copy(update={"evaluation": (gate,), "contamination": "mark"})

    def _better(self) -> Arm:
        """The prepared arm that did better on the search part: the next round trains as it did."""
        plain, dynamic = (next(a for a in self.arms if a.name == name) for name in (PLAIN, DYNAMIC))
        gap = paired_interval(dynamic.search_bpb(), plain.search_bpb())
        better = dynamic if gap.mean <= 0 else plain
        self.log.emit(
            Note(
                f"dynamic minus plain on the search part: {signed(gap.mean)} bits per byte "
                f"[{signed(gap.low)}, {signed(gap.high)}]: the next round trains as {better.name!r} did"
            )
        )
        return better

    def _round(self, number: int, planned: Planned, current: Verdict, targets: dict[str, Target]) -> Verdict:
        """Feed back, revise, verify; prepare and train with what was accepted."""
        best = self._better() if number == 2 else self.arms[-1]
        with phase(self.log, "feedback", f"round {number}: what training says about the data"):
            evidence = utilities(
                self.arms[0].results[0], best.store, targets["search"], self.runs[-1], self.spec,
                self._models(), self.goal.seed, self.log,
            )  # fmt: skip
        with phase(self.log, "revise", f"round {number}: revise the recipe, accept what improves"):
            accepted = self._revise(number, planned, current, evidence)
        name = "second round" if number == 2 else f"round {number}"
        if accepted is None:
            self.log.emit(Note(f"round {number} changes nothing, so its models are those of {best.name!r}"))
            self.arms.append(Arm(name, best.store, best.policy, best.results))
            return current
        dataset = self._prepare(accepted)
        with phase(self.log, "train", f"round {number}: train"):
            store = store_dataset(dataset, self.tokenizer, self.workspace, self.log)
            self.arms.append(Arm(name, store, best.policy))
            train_arms(self.arms[-1:], self.spec, self.goal.seed, targets, self._models(), self.log)
        return accepted

    def _revise(
        self, number: int, planned: Planned, current: Verdict, evidence: Sequence[Utility]
    ) -> Verdict | None:
        """The best revision that the quick probe accepts and the transformer does not contradict, or None."""
        assert current.sampled is not None
        shares = domain_shares(current.sampled.kept)
        for text in more_of(evidence, shares):
            self.log.emit(Note(text))
        tried = [*([] if self.given else planned.verdicts), *self.revised]
        history = [Outcome(v.name, v.proposal.strategy, v.recipe, v is current) for v in tried]
        proposals = revise(
            current.recipe, planned.profile, evidence, self.runs[-1].accounts, history,
            frozen=self.frozen, shares=shares, round=number,
        )  # fmt: skip
        for proposal in proposals:
            proposal.emit(self.log)
        found = verify_revision(planned.ladder, current, proposals, log=self.log, round=number)
        self.revised += found.verdicts
        accepted = found.accepted
        if accepted is None or accepted.sampled is None:
            return None
        check = self.second.effect(
            accepted.name, accepted.sampled.documents, current.name, current.sampled.documents
        )
        if check.harms:
            self.log.emit(
                Chosen(current.name, f"{accepted.name} taken back: {check.probe} {check.interval}", number)
            )
            return None
        return accepted

    def _verdict(self, tokenizer: Tokenizer) -> list[Result]:
        judged = fingerprint([(arm.name, arm.store.fingerprint) for arm in self.arms], self.spec.canonical())
        # A verdict of its own for each set of arms, and a warning from the second on: who picks the best of
        # several has searched on the holdout.
        verdicts = list(dict.fromkeys([*self.frozen.verdicts(), judged]))
        earlier = [verdict for verdict in verdicts if verdict != judged]
        if earlier:
            self.log.emit(
                Note(
                    f"the holdout was read for {len(earlier)} other verdict(s) on this goal: the best of "
                    "several is no longer an unbiased figure",
                    "warning",
                )
            )
        texts = self.frozen.holdout(verdicts.index(judged) + 1, judged)
        texts = draw(texts, seed=self.goal.seed, budget_bytes=self.spec.holdout_bytes)
        return judge(self.arms, Target.from_texts("holdout", texts, tokenizer), self.spec, self.log)


def _account(account: StepAccount) -> dict[str, Any]:
    """The books of a step; the run that they belong to is named beside them."""
    return {key: value for key, value in asdict(account).items() if key != "run"}
