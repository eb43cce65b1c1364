"""The planner's workbench: what the tools do, over one goal, one sample of its rows and one ladder.

Nothing here writes outside the workspace, reads outside the goal's sources, or learns anything of the
holdout.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tillage.agent.findings import RungResult
from tillage.agent.goal import FrozenGoal
from tillage.agent.planner import Catalogue, Outcome, Proposal
from tillage.agent.synthesis import Kind
from tillage.agent.tools.drafts import RecipeDraft, StepDraft, recipe_of, told
from tillage.agent.verify import Ladder, Verdict, default_meter
from tillage.core.errors import UserError, nearest
from tillage.core.events import EventLog
from tillage.core.workspace import Workspace
from tillage.data.profile import Profile
from tillage.flow.places import Places
from tillage.flow.recipe import parse_sources
from tillage.flow.sample import take_sample
from tillage.ops.base import Operator
from tillage.ops.catalogue import describe

Json = dict[str, Any]

MOST_ROWS = 5
MOST_EFFECTS = 4
EXCERPT = 400
QUALITY = (
    "words",
    "mean_word_length",
    "alpha_words",
    "stop_words",
    "symbol_share",
    "digit_share",
    "dup_line_chars",
)


def brief(profile: Profile) -> Json:
    """The profile without its long tails: what fits a prompt."""
    value = profile.model_dump(mode="json", exclude={"fields": True, "domains": {"__all__": {"quality"}}})
    value["quality"] = {k: v for k, v in value["quality"].items() if k in QUALITY}
    if value["target"] is not None:
        value["target"]["quality"] = {k: v for k, v in value["target"]["quality"].items() if k in QUALITY}
    return value


def about(cls: type[Operator]) -> Json:
    """An operator as a planner reads it."""
    known = describe(cls)
    return {key: known[key] for key in ("name", "kind", "description", "parameters", "writes", "reasons")}


@dataclass
class Bench:
    """State of one planning session. Methods that begin with no underscore are the tools' deeds; each returns
    JSON values, and answers a wrong request with `{"error": ...}` instead of raising.

    `held` are the proposals whose contract holds, by name; `made` the operators that were synthesised.
    """

    frozen: FrozenGoal
    profile: Profile
    catalogue: Catalogue
    workspace: Workspace
    planner: str
    log: EventLog | None = None
    history: tuple[Outcome, ...] = ()
    synthesiser: Callable[[str, Kind, EventLog | None], tuple[str, Operator, Json]] | None = None
    held: dict[str, Proposal] = field(default_factory=dict[str, Proposal])
    drafts: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    verdicts: dict[str, Verdict] = field(default_factory=dict[str, Verdict])
    made: dict[str, Operator] = field(default_factory=dict[str, Operator])
    effects: int = 0

    def facts(self) -> Json:
        """What was measured on the sample, and what the goal asks for."""
        goal = self.frozen.goal
        return {
            "task": goal.task,
            "kind": goal.kind,
            "constraints": goal.constraints.model_dump(mode="json"),
            "profile": brief(self.profile),
        }

    def sample_rows(self, count: int, domain: str = "") -> Json:
        """Rows of the raw sample, spread over it, with the beginnings of their texts."""
        table = self._sample
        if domain:
            wanted = np.asarray([name == domain for name in table["domain"].to_pylist()], np.bool_)
            table = table.filter(pa.array(wanted))
        return {"rows": _rows(table, count), "of": len(table)}

    def search_operators(self, words: str) -> Json:
        """Operators whose name, description or columns have most of the words, the best first."""
        asked = {word for word in words.lower().replace("_", " ").split() if len(word) > 2}
        scored: list[tuple[int, str, str]] = []
        for name, cls in sorted(self.catalogue.items()):
            known = describe(cls)
            text = " ".join([name, known["kind"], known["description"], known["details"], *known["writes"]])
            score = sum(word.rstrip("s") in text.lower() for word in asked)
            if score or not asked:
                scored.append((-score, name, f"{known['kind']}: {known['description']}"))
        made = dict.fromkeys(self.made, "made in this session")
        return {"operators": {name: line for _, name, line in sorted(scored)[:12]} | made}

    def describe_operator(self, name: str) -> Json:
        """Parameters, columns and reasons of one operator."""
        if name in self.catalogue:
            return about(self.catalogue[name])
        return {"error": f"no operator {name[:60]!r}", "hint": nearest(name, self.catalogue)}

    def propose(self, name: str, summary: str, steps: list[StepDraft]) -> Json:
        """Enter a recipe under a name, in place of an earlier one of that name; says whether it holds."""
        try:
            draft = RecipeDraft(name=name, summary=summary, steps=steps)
        except ValueError as error:
            return {"error": str(error)[:400]}
        recipe, findings = recipe_of(draft, self.frozen, self.catalogue, self.made)
        RungResult("contract", findings, {"planner": self.planner}).emit(name, self.log)
        self.held.pop(name, None)
        self.verdicts.pop(name, None)
        self.drafts[name] = [told(finding) for finding in findings]
        if recipe is not None and not findings:
            self.held[name] = Proposal(name, name, recipe, summary, self.planner)
        return self.check(name)

    def check(self, name: str) -> Json:
        """What is wrong with the contract of a proposed recipe."""
        if name not in self.drafts:
            return self._unknown(name)
        return {"name": name, "holds": name in self.held, "findings": self.drafts[name]}

    def run_on_sample(self, name: str) -> Json:
        """Run a recipe on the sample: findings of the rungs contract, sample and distribution."""
        return self._climbed(name, effect=False)

    def accounts(self, name: str) -> Json:
        """Rows and bytes in and out of each step, and what was dropped for which reason."""
        verdict = self._verdict(name)
        if isinstance(verdict, dict):
            return verdict
        if verdict.sampled is None:
            return {"error": "the recipe did not run", "findings": [told(f) for f in verdict.findings]}
        steps = verdict.sampled.accounts
        kept = ("step", "operator", "rows_in", "rows_out", "bytes_in", "bytes_out", "dropped")
        return {"accounts": [{key: getattr(step, key) for key in kept} for step in steps]}

    def dropped_rows(self, name: str, step: str, count: int) -> Json:
        """Rows that a step dropped, with its reasons: to see whether it drops the right ones."""
        verdict = self._verdict(name)
        if isinstance(verdict, dict):
            return verdict
        if verdict.sampled is None:
            return {"error": "the recipe did not run", "findings": [told(f) for f in verdict.findings]}
        table = verdict.sampled.dropped
        steps = sorted(set(table["step"].to_pylist()))
        if step not in steps:
            return {"error": f"step {step[:60]!r} dropped nothing", "steps_that_did": steps}
        mask = pa.array([at == step for at in table["step"].to_pylist()])
        return {"rows": _rows(table.filter(mask), count, "reason"), "of": int(np.sum(np.asarray(mask)))}

    def measure_effect(self, name: str) -> Json:
        """The effect on the target's search part, bits per byte against the raw rows; below zero helps."""
        if self._ladder.meter is None:
            return {"error": "the goal has no target, so there is no effect to measure"}
        known = self.verdicts.get(name)
        if (known is None or known.effect is None) and self.effects >= MOST_EFFECTS:
            return {"error": f"{MOST_EFFECTS} effects were measured; finish with what is known"}
        return self._climbed(name, effect=True)

    def synthesise(self, need: str, kind: Kind) -> Json:
        """Have an operator written for a need that none of the catalogue meets; kept only if it passes."""
        if self.synthesiser is None:
            return {"error": "operators cannot be written in this session"}
        try:
            name, op, figures = self.synthesiser(need, kind, self.log)
        except UserError as error:
            return {"error": error.what, "got": str(error.got)[:400]}
        self.made[name] = op
        return {"operator": name, "kind": kind, "columns": list(op.writes()), **figures}

    def finished(self, names: list[str]) -> list[Proposal]:
        """The proposals to hand on, those named first; what does not hold is left out."""
        order = [*(name for name in names if name in self.held), *self.held]
        return [self.held[name] for name in dict.fromkeys(order)]

    @cached_property
    def _file(self) -> Path:
        goal = self.frozen.goal
        sources = parse_sources([dict(source) for source in goal.sources], None, Places(goal.name))
        # The same rows as for everybody else who plans for this goal.
        return take_sample(sources, self.workspace, goal.budget.sample_rows, goal.seed)

    @cached_property
    def _sample(self) -> pa.Table:
        table = pq.read_table(self._file)
        return table.filter(table["text"].is_valid())

    @cached_property
    def _ladder(self) -> Ladder:
        return Ladder(self.frozen, self._file, self.workspace, default_meter(self.frozen, self.log), self.log)

    def _unknown(self, name: str) -> Json:
        known = list(self.drafts)
        return {"error": f"no recipe {name[:60]!r}", "hint": nearest(name, known) if known else "propose one"}

    def _verdict(self, name: str) -> Verdict | Json:
        if name not in self.held:
            return self.check(name) if name in self.drafts else self._unknown(name)
        if name not in self.verdicts:
            verdict = Verdict(self.held[name], self.held[name].recipe)
            self._ladder.climb(verdict, "distribution")
            self.verdicts[name] = verdict
        return self.verdicts[name]

    def _climbed(self, name: str, effect: bool) -> Json:
        verdict = self._verdict(name)
        if isinstance(verdict, dict):
            return verdict
        if effect and verdict.passed and verdict.effect is None:
            self._ladder.climb(verdict, "effect", verdict.sampled)
            self.effects += 1
        rungs: Mapping[str, Any] = {result.rung: result.evidence for result in verdict.rungs}
        found = [told(finding) for finding in verdict.findings]
        return {"name": name, "passed": verdict.passed, "findings": found, "evidence": rungs}


def _rows(table: pa.Table, count: int, *more: str) -> list[Json]:
    """At most `count` rows at equal distances, with the beginnings of their texts."""
    count = max(1, min(count, MOST_ROWS, len(table)))
    at = np.unique(np.linspace(0, max(len(table) - 1, 0), count).astype(np.int64)) if len(table) else []
    shown = table.take(pa.array(at, pa.int64()))
    names = [name for name in ("id", "domain", *more) if name in shown.column_names]
    texts = shown["text"].to_pylist() if len(shown) else []
    return [
        {**{name: shown[name][i].as_py() for name in names}, "text": (text or "")[:EXCERPT]}
        for i, text in enumerate(texts)
    ]
