"""The protocol of planners, and what they propose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tillage.agent.goal import FrozenGoal
from tillage.core.events import EventLog, Proposed
from tillage.data.profile import Profile
from tillage.flow.recipe import Recipe
from tillage.ops.base import Operator, operators

Catalogue = Mapping[str, type[Operator]]


@dataclass(frozen=True)
class Proposal:
    """A candidate. `strategy` is the idea behind it, the same name whenever the idea is used."""

    name: str
    strategy: str
    recipe: Recipe
    summary: str
    planner: str
    round: int = 1

    @property
    def whys(self) -> dict[str, str]:
        """Step id -> one line citing the figure behind the step."""
        return {step.id: step.why for step in self.recipe.steps}

    def emit(self, log: EventLog | None) -> None:
        if log is not None:
            log.emit(
                Proposed(self.name, self.planner, self.summary, self.recipe.to_dict(), self.whys, self.round)
            )


@dataclass(frozen=True)
class Outcome:
    """What became of an earlier candidate; the history that planners read."""

    candidate: str
    strategy: str
    recipe: Recipe
    accepted: bool
    finding: str = ""
    effect: float | None = None


class Planner(Protocol):
    """Turns evidence into candidates. What it returns is checked and run by others, never trusted."""

    @property
    def name(self) -> str: ...

    def propose(
        self,
        frozen: FrozenGoal,
        profile: Profile,
        catalogue: Catalogue,
        history: Sequence[Outcome] = (),
    ) -> list[Proposal]:
        """Candidates, the most promising first."""
        ...


def catalogue(frozen: FrozenGoal) -> dict[str, type[Operator]]:
    """The operators that a planner may propose, by name: what the goal forbids is left out, and so is code,
    which only `synthesise` may write, since that vets it."""
    barred = frozen.goal.constraints.forbidden
    return {name: cls for name, cls in operators if name not in barred and not name.startswith("sandboxed_")}


def build(frozen: FrozenGoal, name: str, steps: Sequence[dict[str, Any]], base: Path | None = None) -> Recipe:
    """A recipe over the goal's sources. `steps` are as in YAML: `{operator: fields, why: ..., id: ...}`."""
    goal = frozen.goal
    return Recipe.from_dict(
        {
            "name": f"{goal.name}-{name}",
            "seed": goal.seed,
            "sources": [dict(source) for source in goal.sources],
            "steps": [dict(step) for step in steps],
            "dataset": goal.dataset or goal.name,
            "max_quarantine": goal.constraints.max_quarantine,
        },
        where=f"candidate {name}",
        base=base,
    )
