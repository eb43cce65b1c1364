"""How often a policy that costs something does it: every so many steps, or as often as a budget allows."""

from __future__ import annotations

from math import ceil

from pydantic import Field

from tillage.train.policy import Policy, Signals, State

PACED = frozenset({"candidate_scoring", "gradients", "probes"})
"""Costs that occur at the steps that a policy chooses."""


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
        # Before the first use is seen it is taken to cost as much as training on the batch.
        every = self._spacing(1.0)
        first = 0 if self.budget is None else every - 1
        return {"pace": {"uses": 0, "cost": 0.0, "every": every, "next": first}}

    def _spacing(self, cost: float) -> int:
        """Steps of training that pay for `cost` steps' worth of measuring, at least `every`."""
        if self.budget is None:
            return self.every
        return max(self.every, ceil(cost * (1 - self.budget) / self.budget - 1e-9))

    def due(self, step: int) -> bool:
        pace = self.state["pace"]
        return step >= pace["next"] and (step - pace["next"]) % pace["every"] == 0

    def observe(self, signals: Signals) -> None:
        pace = self.state["pace"]
        cost = sum(spent for name, spent in signals.spent.items() if name in PACED)
        if cost > 0 and self.budget is not None:
            pace["uses"] += 1
            pace["cost"] += cost
            mean = pace["cost"] / pace["uses"]
            pace["every"] = self._spacing(mean)
            # Not before the steps until then, with this use, have paid for all of it.
            pace["next"] = max(signals.step + self.every, self._spacing(pace["cost"] + mean) - 1)
