"""Two planners at once: what the language model proposes competes with what the evidence rules propose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tillage.agent.goal import FrozenGoal
from tillage.agent.planner import Catalogue, Outcome, Planner, Proposal
from tillage.core.errors import WorkFailed
from tillage.core.events import EventLog, Note
from tillage.data.profile import Profile


class CompetingPlanner:
    """Proposals of `first` and of `second`, each recipe once, all verified and measured alike: so the choice
    is at least as good, by its measure, as that of `second` alone.

    Args:
        fallback: where `first` fails, go on with `second` alone and say so; otherwise its failure is raised.
    """

    def __init__(
        self, first: Planner, second: Planner, log: EventLog | None = None, fallback: bool = False
    ) -> None:
        self.first, self.second, self.log, self.fallback = first, second, log, fallback

    @property
    def name(self) -> str:
        return f"{self.first.name} and {self.second.name}"

    def propose(
        self,
        frozen: FrozenGoal,
        profile: Profile,
        catalogue: Catalogue,
        history: Sequence[Outcome] = (),
    ) -> list[Proposal]:
        """The proposals of both, those of `second` first: of two equal recipes its is kept.

        Raises:
            WorkFailed: `first` failed and there is no `fallback`.
        """
        found = list(self.second.propose(frozen, profile, catalogue, history))
        try:
            more = self.first.propose(frozen, profile, catalogue, history)
        except WorkFailed as error:
            if not self.fallback:
                raise
            more = []
            failed = f"{self.first.name} failed ({error.what}: {error.got})"
            self._note(f"{failed}; {self.second.name} goes on alone")
        names = {proposal.name for proposal in found}
        marks = {proposal.recipe.fingerprint(): proposal.name for proposal in found}
        for proposal in more:
            mark = proposal.recipe.fingerprint()
            if mark in marks:
                same = f"{proposal.name} of {self.first.name} is the same recipe as {marks[mark]}"
                self._note(same, "info")
                continue
            name = proposal.name if proposal.name not in names else f"llm-{proposal.name}"
            marks[mark] = name
            names.add(name)
            found.append(replace(proposal, name=name, strategy=name))
        return found

    def _note(self, text: str, level: str = "warning") -> None:
        if self.log is not None:
            self.log.emit(Note(text, level))
