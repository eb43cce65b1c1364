"""Selection by predicted influence: a regression learns from the gradients of a few samples what to take."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from tillage.train.draw import uniform
from tillage.train.policies.pace import Paced
from tillage.train.policy import Actions, Array, Factor, Scored, Signals, SignalSpec, State, policy

_STREAM = 7


@policy
class Influence(Paced):
    """Train on the candidates that a regression expects to lower the target's loss most.

    In the manner of MATES (Yu et al. 2024, arXiv 2406.06046): now and then the influence of some samples on
    the target's loss is measured, a small model learns to predict it, and candidates are taken by prediction
    with Gumbel noise. There it is the change of the loss by a step on the sample and a BERT that reads it;
    here the product of the sample's gradient with the target's (the same to first order) and a ridge
    regression on what costs nothing in a step: domain, reference loss and its square, columns of the store.
    """

    factors: ClassVar[frozenset[Factor]] = frozenset({"select"})
    source: ClassVar[str] = "after arXiv 2406.06046"
    keep: float = Field(default=0.5, gt=0, le=1)
    """The paper keeps a fifth of what it chooses from."""
    every: int = Field(default=8, ge=1)
    """Steps between those at which gradients are measured."""
    columns: tuple[str, ...] = ()
    """Measurements of the store that may tell about influence."""
    temperature: float = Field(default=0.5, ge=0)
    """Of the Gumbel noise, in standard deviations of the influence (0.5 in the authors' script): where little
    can be predicted, choice is by chance."""
    ridge: float = Field(default=0.1, gt=0)
    memory: float = Field(default=0.95, gt=0, le=1)
    """Share of what was measured before that still counts when more comes: the model changes."""
    least: int = Field(default=32, ge=2)
    """Measured samples before the first selection."""
    scorer: bool = False
    """Measure gradients on a small model that is trained beside the run, not on the model itself."""

    def requires(self) -> SignalSpec:
        return SignalSpec(reference=True, dots=True, columns=frozenset(self.columns), scorer=self.scorer)

    def initial(self) -> State:
        size = len(self.groups) + 2 + 2 * len(self.columns)
        zero: list[Any] = [0.0] * size
        sums = {"n": 0.0, "x": zero, "xx": np.zeros((size, size)).tolist(), "y": 0.0, "xy": zero, "yy": 0.0}
        return {**super().initial(), "sums": sums, "fit": None}

    def act(self, step: int) -> Actions:
        return Actions(keep=1.0 if self.state["fit"] is None else self.keep, gradients=self.due(step))

    def features(self, batch: Scored) -> Array:
        """`[n, k]`: domain, reference loss, its square, of each column the value and whether there is one."""
        reference = batch.reference[:, None]
        parts = [np.eye(len(self.groups))[batch.groups], reference, reference**2]
        for name in self.columns:
            value = batch.columns[name]
            parts += [np.nan_to_num(value)[:, None], np.isfinite(value).astype(np.float64)[:, None]]
        return np.concatenate(parts, 1)

    def observe(self, signals: Signals) -> None:
        super().observe(signals)
        measured = signals.measured
        if measured is None or measured.dots is None:
            return
        x, y = self.features(measured), measured.dots
        old = self.state["sums"]
        new = {"n": float(len(y)), "x": x.sum(0), "xx": x.T @ x, "y": y.sum(), "xy": x.T @ y, "yy": y @ y}
        sums = {name: self.memory * np.asarray(old[name]) + np.asarray(new[name]) for name in new}
        self.state["sums"] = {name: value.tolist() for name, value in sums.items()}
        if sums["n"] >= self.least:
            self.state["fit"] = self._fit(sums)

    def _fit(self, sums: dict[str, Array]) -> dict[str, list[float]] | None:
        """Means of the features, and slopes of influence in its standard deviations."""
        n = float(sums["n"])
        mean, level = sums["x"] / n, float(sums["y"]) / n
        spread = sums["xx"] / n - np.outer(mean, mean)
        together = sums["xy"] / n - mean * level
        deviation = float(np.sqrt(max(float(sums["yy"]) / n - level**2, 0.0)))
        if deviation < 1e-12:
            return self.state["fit"]
        scale = np.sqrt(np.maximum(spread.diagonal(), 1e-12))
        matrix = spread / np.outer(scale, scale) + self.ridge * np.eye(len(scale))
        slope = np.linalg.solve(matrix, together / scale / deviation) / scale
        return {"mean": mean.tolist(), "slope": np.where(spread.diagonal() > 1e-9, slope, 0.0).tolist()}

    def score(self, batch: Scored) -> Array:
        fit, count = self.state["fit"], len(batch.groups)
        if fit is None:
            return np.zeros(count)
        predicted = (self.features(batch) - np.asarray(fit["mean"])) @ np.asarray(fit["slope"])
        chance = np.clip(uniform(_STREAM, batch.step, np.arange(count)), 1e-12, 1 - 1e-12)
        return predicted - self.temperature * np.log(-np.log(chance))
