"""Aioli: learn by short sweeps over the domains how training on one lowers the loss on all."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field, model_validator

from tillage.core.errors import UserError
from tillage.train.policies.mix import Mix
from tillage.train.policy import Actions, Array, Signals, SignalSpec, State, policy


@policy
class Aioli(Mix):
    """Sample the domains that lower the losses of all domains most, measured anew in every round.

    Chen et al. 2024, arXiv 2411.05735, algorithm 1 and official code: a round begins with `sweeps`
    passes over
    the domains, `sweep_steps` steps each with the share `one_hot` on one domain and the rest on the others.
    The falls of all held-out losses give B[i, j], on i while j was favoured; A = B P^-1 with P the
    mixtures of
    the sweep. A is shifted to be positive, scaled to sum 1, smoothed over rounds (`smoothing` of the
    old), and
    p_j ~ exp(eta * sum_i A_ij). Defaults are those of the authors' script; a first round without an end keeps
    the mixture uniform. Steps behind the sweep that were decided before its end use the older mixture.
    """

    source: ClassVar[str] = "arXiv 2411.05735"
    eta: float = Field(default=1.0, gt=0)
    every: int = Field(default=200, ge=2)
    """Steps of a round, sweeps included."""
    sweeps: int = Field(default=2, ge=1)
    sweep_steps: int = Field(default=10, ge=1)
    one_hot: float = Field(default=0.75, gt=0.5, le=1)
    smoothing: float = Field(default=0.1, ge=0, lt=1)
    heldout: int = Field(default=8, ge=1)
    """Samples of each domain that are held out."""

    @model_validator(mode="after")
    def _fits(self) -> Aioli:
        if self.sweeps * self.sweep_steps >= self.every:
            raise ValueError("one domain's sweeps are longer than a round")
        return self

    def requires(self) -> SignalSpec:
        return SignalSpec(heldout=self.heldout)

    def initial(self) -> State:
        count = len(self.groups)
        if self._length() >= self.every:
            raise UserError(
                "the sweeps over the domains are longer than a round",
                got=f"{self._length()} of {self.every} steps",
                hint="a larger `every`, or fewer `sweeps` or `sweep_steps`",
            )
        return {
            "mixture": [1.0 / count] * count,
            "falls": np.zeros((count, count)).tolist(),
            "before": None,
            "a": None,
        }

    def _length(self) -> int:
        """Steps of the sweeps at the beginning of a round."""
        return len(self.groups) * self.sweeps * self.sweep_steps

    def sweep(self) -> Array:
        """P: the mixture that favours each domain in turn, `float64[groups, groups]`."""
        count = len(self.groups)
        rest = (1 - self.one_hot) / max(count - 1, 1)
        return np.full((count, count), rest) + np.eye(count) * (self.one_hot - rest)

    def act(self, step: int) -> Actions:
        at = step % self.every
        probe = at <= self._length() and at % self.sweep_steps == 0
        return Actions(mixture=self.mixture(step), probe=probe)

    def mixture(self, step: int) -> Array:
        at = step % self.every
        if len(self.groups) > 1 and at < self._length():
            return self.sweep()[at // self.sweep_steps % len(self.groups)]
        return np.asarray(self.state["mixture"])

    def observe(self, signals: Signals) -> None:
        s, at = self.state, signals.step % self.every
        if signals.heldout is None or at > self._length() or at % self.sweep_steps or len(self.groups) == 1:
            return
        if at and s["before"] is not None:
            # A domain too small to hold samples out shows no fall.
            fall = np.nan_to_num(np.asarray(s["before"]) - signals.heldout) / self.sweeps
            falls = np.asarray(s["falls"])
            falls[:, (at // self.sweep_steps - 1) % len(self.groups)] += fall
            s["falls"] = falls.tolist()
        s["before"] = np.nan_to_num(signals.heldout).tolist()
        if at == self._length():
            self._update()

    def _update(self) -> None:
        s = self.state
        a = np.linalg.solve(self.sweep(), np.asarray(s["falls"]).T).T
        a = a - min(a.min(), 0.0)
        if a.sum() > 0:
            a = a / a.sum()
            if s["a"] is not None:
                a = (1 - self.smoothing) * a + self.smoothing * np.asarray(s["a"])
            p = np.exp(self.eta * a.sum(0))
            s.update(a=a.tolist(), mixture=(p / p.sum()).tolist())
        s.update(falls=np.zeros_like(a).tolist(), before=None)
