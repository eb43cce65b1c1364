"""A guard against loss spikes: a bad update is not made, or the model goes back to where it was well."""

from __future__ import annotations

from math import isfinite
from statistics import median
from typing import Any, Literal

from pydantic import Field

from tillage.core.spec import Spec


class SpikeGuard(Spec):
    """When a step's loss is an outlier, and what to do then.

    A loss is a spike above `median + deviations * 1.4826 * MAD` of the last `window` losses that were none,
    and at least `rise` nats above the median; so is a gradient that is not finite. Spikes and rewinding past
    their
    data: PaLM, arXiv 2204.02311, section 5.1.
    """

    action: Literal["skip", "rewind"] = "skip"
    """skip: the update is not made. rewind: weights and optimizer return to the last checkpoint, the data go
    on."""
    window: int = Field(default=64, ge=8)
    deviations: float = Field(default=6.0, gt=0)
    rise: float = Field(default=0.3, ge=0)
    most: int = Field(default=20, ge=1)
    """Spikes after which the run gives up."""


class SpikeWatch:
    """The state of a guard: the same on every rank, as it knows global losses only."""

    def __init__(self, guard: SpikeGuard) -> None:
        self.guard = guard
        self.recent: list[float] = []
        self.count = 0

    def limit(self) -> float:
        """Loss above which the next step is a spike; infinite while too little is known."""
        if len(self.recent) < self.guard.window // 2:
            return float("inf")
        middle = median(self.recent)
        spread = 1.4826 * median(abs(x - middle) for x in self.recent)
        return middle + max(self.guard.deviations * spread, self.guard.rise)

    def spike(self, loss: float, norm: float) -> bool:
        """Whether a step with this loss (nats a token) and gradient norm is a spike; it is remembered."""
        if loss > self.limit() or not isfinite(norm):
            self.count += 1
            return True
        self.recent = [*self.recent[1 - self.guard.window :], loss]
        return False

    def state_dict(self) -> dict[str, Any]:
        return {"recent": list(self.recent), "count": self.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.recent, self.count = list(state["recent"]), int(state["count"])
