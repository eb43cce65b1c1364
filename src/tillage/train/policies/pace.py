"""How often a policy that costs something does it: every so many steps, or as often as a budget allows."""

from __future__ import annotations

from math import ceil

from pydantic import Field

from tillage.train.policy import Policy, Signals, State

PACED = frozenset({"candidate_scoring", "gradients", "probes"})
"""Costs that occur at the steps that a policy chooses."""
_UNKNOWN = 10.0
"""Cost of a use, in steps of training, before the first one was seen: enough for the few steps until then."""


class Paced(Policy):
    """Base: at `due` steps the policy measures and decides anew; at the others it costs nothing.

    With a budget the distance between due steps follows from the forward passes counted so far, not from a
    clock: so it is the same on every process and in a resumed run.
    """

    every: int = Field(default=1, ge=1)
    """Steps between those at which it measures, at least."""
    budget: float | None = Field(default=None, gt=0, lt=1)
    """Largest share of the run's work that measuring may take, in forward passes (a training step is three
    of them over its batch); what is spent before training is not in it."""

    def initial(self) -> State:
        return {"pace": {"uses": 0, "cost": 0.0, "every": self.spacing(_UNKNOWN)}}

    def spacing(self, cost: float) -> int:
        """Steps between uses that cost as much as `cost` steps of training, so that the budget holds."""
        if self.budget is None:
            return self.every
        return max(self.every, ceil(cost * (1 - self.budget) / self.budget - 1e-9))

    def due(self, step: int) -> bool:
        return step % self.state["pace"]["every"] == 0

    def observe(self, signals: Signals) -> None:
        pace = self.state["pace"]
        cost = sum(spent for name, spent in signals.spent.items() if name in PACED)
        if cost > 0:
            pace["uses"] += 1
            pace["cost"] += cost
            pace["every"] = self.spacing(pace["cost"] / pace["uses"])
