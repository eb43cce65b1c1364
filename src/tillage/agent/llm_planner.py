"""The planner that asks a language model. It drafts typed recipes; nothing that it says is run unchecked.

Three ways, by the strength of the model (`LLMSettings.mode`): a conversation with tools, in which it can
look, try and measure before it proposes; one draft of whole recipes, sent back with its findings; or a
choice from a menu, step by step. In all of them what the model sees of the data is fenced
(`tillage.agent.fence`).
"""

from __future__ import annotations

from collections.abc import Sequence

from tillage.agent.fence import DATA_RULE, fenced
from tillage.agent.findings import Finding, RungResult
from tillage.agent.goal import FrozenGoal
from tillage.agent.library import Library
from tillage.agent.llm_steps import chosen_steps
from tillage.agent.llm_synthesis import synthesise
from tillage.agent.planner import Catalogue, Outcome, Proposal
from tillage.agent.synthesis import Kind
from tillage.agent.tools.bench import Bench, about, brief
from tillage.agent.tools.drafts import FILES_RULE, PROTECTED, SEARCH, PlanDraft, recipe_of, told
from tillage.agent.tools.typed import Finish, tools
from tillage.core.errors import WorkFailed
from tillage.core.events import EventLog, Json, Note
from tillage.core.workspace import Workspace
from tillage.data.profile import Profile
from tillage.llm.client import LLMClient
from tillage.ops.base import Operator

TURNS = 24
"""Requests of one conversation with tools, at most."""

RULES = f"""You plan how raw text is prepared for training a language model.
Propose at least three recipes that differ in a way that matters. A recipe is a list of steps; a step names an
operator of the catalogue, its parameters and, in one line that cites a measured figure, why it is there.
Order: repairs of text first, then gates and deduplication, then filters, then quotas.
Filters that would drop much of the target are wrong whatever papers say. Always keep decontamination.
{FILES_RULE}
{DATA_RULE}"""
INSTRUCTIONS = f"""{RULES}
Use the tools: look at the profile, search the operators, propose recipes, run them on the sample, read what
they drop and measure the effect of the better ones. Then call finish with the names of the recipes, the best
first."""


class LLMPlanner:
    """Asks `client`.

    Args:
        workspace: where samples are run and operators kept; without it there is no conversation with tools.
        corrections: how often a draft that does not hold is sent back.
    """

    def __init__(
        self,
        client: LLMClient,
        log: EventLog | None = None,
        corrections: int = 2,
        workspace: Workspace | None = None,
    ) -> None:
        self.client, self.log, self.corrections, self.workspace = client, log, corrections, workspace

    @property
    def name(self) -> str:
        return f"llm:{self.client.settings.model}"

    def propose(
        self,
        frozen: FrozenGoal,
        profile: Profile,
        catalogue: Catalogue,
        history: Sequence[Outcome] = (),
    ) -> list[Proposal]:
        """Recipes that hold their contract.

        Raises:
            WorkFailed: no draft held after all corrections, or the endpoint failed.
        """
        mode = self.client.settings.mode
        if mode == "steps":
            return chosen_steps(self.client, self.name, frozen, profile, catalogue, history, self.log)
        if mode == "tools" and self.workspace is not None:
            return self._by_tools(self.workspace, frozen, profile, catalogue, history)
        return self._by_draft(frozen, profile, catalogue, history)

    def _by_tools(
        self,
        workspace: Workspace,
        frozen: FrozenGoal,
        profile: Profile,
        catalogue: Catalogue,
        history: Sequence[Outcome],
    ) -> list[Proposal]:
        bench = Bench(
            frozen, profile, catalogue, workspace, self.name, self.log, tuple(history), self._synthesise
        )
        question = fenced({"task": frozen.goal.task, "history": _told_history(history)})
        order: list[str] = []
        try:
            end = self.client.converse(
                INSTRUCTIONS, question, tools(bench, self.client.settings.rows), Finish, TURNS
            )
            order = end.recipes
        except WorkFailed as error:
            if not bench.held:
                raise
            # What was proposed before the end holds; that the end was not a good one is said.
            self._note(f"the conversation with {self.name} broke off: {error.what} ({error.got})")
        found = bench.finished(order)
        if not found:
            raise WorkFailed(
                "no recipe of the language model holds its contract",
                where=self.name,
                got="; ".join(f"{n}: {f[0]}" for n, f in bench.drafts.items() if f) or "none proposed",
                hint="use the embedded planner, or another model",
            )
        return found

    def _synthesise(self, need: str, kind: Kind, log: EventLog | None) -> tuple[str, Operator, Json]:
        made = synthesise(self.client, need, kind, log=log, corrections=1)
        if self.workspace is not None:
            Library(self.workspace).save(made)
        figures = {"precision": made.vetting.precision, "recall": made.vetting.recall}
        return made.name, made.op, {**figures, "judged_on": made.judged_on}

    def _by_draft(
        self, frozen: FrozenGoal, profile: Profile, catalogue: Catalogue, history: Sequence[Outcome]
    ) -> list[Proposal]:
        question = {
            "task": frozen.goal.task,
            "kind": frozen.goal.kind,
            "constraints": frozen.goal.constraints.model_dump(mode="json"),
            "files": {SEARCH: frozen.search_path is not None, PROTECTED: frozen.protected_path is not None},
            "profile": brief(profile),
            "operators": [about(cls) for _, cls in sorted(catalogue.items())],
            "history": _told_history(history),
        }
        prompt = fenced(question)
        held: dict[str, Proposal] = {}
        wrong: dict[str, list[Finding]] = {}
        for _ in range(self.corrections + 1):
            plan = self.client.ask(RULES, prompt, PlanDraft)
            wrong = {}
            for draft in plan.candidates:
                recipe, findings = recipe_of(draft, frozen, catalogue)
                if recipe is not None and not findings:
                    held.setdefault(
                        draft.name, Proposal(draft.name, draft.name, recipe, draft.summary, self.name)
                    )
                elif draft.name not in held:
                    wrong[draft.name] = findings
            if not wrong:
                break
            for name, findings in wrong.items():
                RungResult("contract", findings, {"planner": self.name}).emit(name, self.log)
            faults = {name: [told(f) for f in findings] for name, findings in wrong.items()}
            prompt = fenced({"question": question, "draft": plan.model_dump(), "findings": faults})
        if not held:
            raise WorkFailed(
                "no recipe of the language model holds its contract",
                where=self.name,
                got="; ".join(f"{name}: {findings[0]}" for name, findings in wrong.items()),
                hint="use the embedded planner, or another model",
            )
        return list(held.values())

    def _note(self, text: str) -> None:
        if self.log is not None:
            self.log.emit(Note(text, "warning"))


def _told_history(history: Sequence[Outcome]) -> list[Json]:
    return [
        {"name": o.candidate, "accepted": o.accepted, "finding": o.finding, "effect": o.effect}
        for o in history
    ]
