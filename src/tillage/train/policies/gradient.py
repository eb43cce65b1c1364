"""Policies by gradients: what lowers the loss of the target, or of all domains, by a step on a sample."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from tillage.core.errors import UserError
from tillage.train.policies.mix import Mix
from tillage.train.policies.multiplicative import hedge
from tillage.train.policies.pace import Paced
from tillage.train.policy import Actions, Array, Factor, Scored, Signals, SignalSpec, State, policy


def greedy(scores: Array, products: Array) -> npt.NDArray[np.int64]:
    """All indices in the order of greedy choice: each time the highest score, less the products of those left
    with the one chosen, `[n]` and `[n, n]`."""
    left = scores.copy()
    order = np.empty(len(left), dtype=np.int64)
    for i in range(len(left)):
        order[i] = best = int(np.argmax(left))
        left -= products[best]
        left[order[: i + 1]] = -np.inf
    return order


@policy
class Greats(Paced):
    """Train on the candidates whose gradients point to the target's, each less what the chosen ones gave.

    GREATS (Wang et al., NeurIPS 2024, and official code): s_i = eta <g_i, g_target>; the highest is taken,
    and s_j -= eta^2 <g_i, g_j> for the rest. The target's gradient is renewed now and then; products of
    samples come from random projections (`train.gradients`), so nothing grows with the square of the tokens.
    At steps between (`every`, `budget`) the batch is taken as it comes.
    """

    factors: ClassVar[frozenset[Factor]] = frozenset({"select"})
    source: ClassVar[str] = "Wang et al., NeurIPS 2024"
    keep: float = Field(default=0.5, gt=0, le=1)
    """The code keeps half of each batch."""
    eta: float = Field(default=0.02, ge=0)
    """Step size; in the code the learning rate, here that of the trainer's matrices. 0: no diversity term."""
    scorer: bool = False
    """Measure gradients on a small model that is trained beside the run, not on the model itself."""

    def requires(self) -> SignalSpec:
        costs = self.keep < 1
        return SignalSpec(
            candidates=costs, dots=costs, sketch=costs and self.eta > 0, scorer=costs and self.scorer
        )

    def act(self, step: int) -> Actions:
        due = self.keep < 1 and self.due(step)
        return Actions(keep=self.keep if due else 1.0, gradients=due)

    def score(self, batch: Scored) -> Array:
        if batch.dots is None or (batch.sketch is None and self.eta > 0):
            return np.zeros(len(batch.losses))
        value = np.empty(len(batch.dots))
        if batch.sketch is None:
            return batch.dots
        order = greedy(batch.dots, self.eta * batch.sketch @ batch.sketch.T)
        value[order] = -np.arange(len(order), dtype=np.float64)
        return value


@policy
class Alignment(Paced):
    """Weigh samples by how far their gradients point along the target's; those against it count least.

    Ren et al. 2018, arXiv 1803.09050: w_i ~ max(<g_i, g_target>, 0), scaled to sum 1, from the gradients at
    the current weights. To that come a cap and a floor, so that no sample takes the whole step;
    at steps between (`every`, `budget`) all weigh the same.
    """

    factors: ClassVar[frozenset[Factor]] = frozenset({"weigh"})
    source: ClassVar[str] = "arXiv 1803.09050"
    cosine: bool = True
    """Divide by the norm of the sample's gradient (not in the paper): otherwise noise, whose gradients are
    long and point anywhere, gets more than its share."""
    cap: float = Field(default=4.0, gt=1)
    """Largest weight, in units of the mean of the positive parts."""
    floor: float = Field(default=0.1, ge=0, lt=1)
    """Share of the weight that is given evenly."""
    scorer: bool = False
    """Measure gradients on a small model that is trained beside the run, not on the model itself."""

    def requires(self) -> SignalSpec:
        return SignalSpec(dots=True, sketch=self.cosine, scorer=self.scorer)

    def act(self, step: int) -> Actions:
        return Actions(gradients=self.due(step))

    def weigh(self, batch: Scored) -> Array:
        even = np.ones(len(batch.losses))
        if batch.dots is None:
            return even
        along = np.maximum(batch.dots, 0.0)
        if batch.sketch is not None and self.cosine:
            along = along / np.maximum(np.linalg.norm(batch.sketch, axis=1), 1e-30)
        if not along.any():
            return even
        along = np.minimum(along / along.mean(), self.cap)
        return self.floor * even + (1 - self.floor) * along / along.mean()


class DomainGradients(Paced, Mix):
    """Base of the mixing policies by products of domains' mean gradients.

    Products are averaged over the due steps: a domain has few samples in a batch, and where it has none
    nothing is learned of it.
    """

    smoothing: float = Field(default=0.9, ge=0, lt=1)
    """Share of the older ones in the averages of products."""
    scorer: bool = False
    """Measure gradients on a small model that is trained beside the run, not on the model itself."""

    def requires(self) -> SignalSpec:
        return SignalSpec(gram=True, scorer=self.scorer)

    def initial(self) -> State:
        size = len(self.groups) + 1
        return {
            **super().initial(),
            "gram": np.zeros((size, size)).tolist(),
            "seen": np.zeros((size, size), dtype=int).tolist(),
            "mixture": self.prior.tolist(),
        }

    def act(self, step: int) -> Actions:
        return Actions(mixture=self.mixture(step), gradients=self.due(step))

    def mixture(self, step: int) -> Array:
        return np.asarray(self.state["mixture"])

    def observe(self, signals: Signals) -> None:
        super().observe(signals)
        if signals.gram is None:
            return
        s, known = self.state, np.isfinite(signals.gram)
        seen = np.asarray(s["seen"]) + known
        rate = np.maximum(1 - self.smoothing, 1.0 / np.maximum(seen, 1))
        gram = np.asarray(s["gram"])
        gram = np.where(known, gram + rate * (np.nan_to_num(signals.gram) - gram), gram)
        s.update(gram=gram.tolist(), seen=seen.tolist())
        if (seen.diagonal()[:-1] > 0).all():
            self.update(gram)

    def update(self, gram: Array) -> None:
        """Set the mixture by the products `[groups + 1, groups + 1]`, the target last."""
        raise NotImplementedError(type(self).__name__)

    def toward(self, gram: Array, target: bool) -> Array:
        """Product of each domain's gradient with the target's, or with the sum of those of the others."""
        own = gram[:-1, :-1]
        if not target:
            return own.sum(1) - own.diagonal()
        if not self.state["seen"][-1][-1]:
            raise UserError(
                f"policy {self.name!r} was told to follow a target, and there is none",
                where="gradients.target", hint="name a target, or set `target: false`",
            )  # fmt: skip
        return gram[:-1, -1]


@policy
class Doge(DomainGradients):
    """Sample the domains whose gradients lower the losses of the others, or of the target, most.

    DoGE (Fan et al. 2023, arXiv 2310.15393, algorithm 1 and official code): W_j = <g_j, sum of g_k, k != j>,
    or <g_j, g_target>, each g scaled down to norm 1 where it is longer; W is divided by the mean norm and
    clipped to [0, 5]; alpha_j ~ alpha_j exp(eta W_j), eta being learning rate / mu (5e-4 / 0.01 in the code).
    The paper averages alpha over a proxy run and trains anew with it (`weights()`, then `fixed`); here it
    also steers the run itself. Gradients are random projections of those of the blocks' matrices.
    """

    source: ClassVar[str] = "arXiv 2310.15393"
    every: int = Field(default=8, ge=1)
    """Steps between updates (the paper: 1, in a small proxy)."""
    eta: float = Field(default=0.05, gt=0)
    target: bool = False
    """Follow the target's gradient instead of those of all domains."""
    uniform: float = Field(default=0.01, ge=0, lt=1)
    """Share of the uniform mixture, so that no domain is lost for good (0 in the code)."""

    def initial(self) -> State:
        return {**super().initial(), "mean": [0.0] * len(self.groups), "updates": 0}

    def update(self, gram: Array) -> None:
        s = self.state
        norms = np.sqrt(np.maximum(gram.diagonal(), 1e-30))
        shorter = np.minimum(1.0, 1.0 / norms)
        clipped = gram * np.outer(shorter, shorter)
        w = self.toward(clipped, self.target) / ((norms * shorter)[:-1].mean() + 1e-6)
        alpha = hedge(np.asarray(s["mixture"]), self.eta * np.clip(w, 0.0, 5.0), self.uniform)
        s["updates"] += 1
        mean = np.asarray(s["mean"])
        s.update(mixture=alpha.tolist(), mean=(mean + (alpha - mean) / s["updates"]).tolist())

    def weights(self) -> dict[str, float]:
        """The averaged weights by domain, for `fixed`."""
        return dict(zip(self.groups.names, self.state["mean"], strict=True))


@policy
class Balance(DomainGradients):
    """Sample by the exponential of how far a domain's gradient agrees with the mean one, afresh each time.

    The balancing of R&B (Ge et al. 2025, arXiv 2505.00358): p ~ exp(strength G q), G the products of domains'
    gradients and q the mixture that is evaluated on: here all domains evenly, or the target. G is scaled by
    its mean diagonal, so that `strength` needs no unit. Unlike DoGE's weights these do not pile up over
    updates.
    """

    source: ClassVar[str] = "arXiv 2505.00358"
    every: int = Field(default=8, ge=1)
    strength: float = Field(default=2.0, gt=0)
    target: bool = False
    """Follow the target's gradient instead of those of all domains."""
    uniform: float = Field(default=0.05, ge=0, lt=1)
    """Share of the uniform mixture."""

    def update(self, gram: Array) -> None:
        own = gram[:-1, :-1]
        scale = max(float(own.diagonal().mean()), 1e-30)
        toward = self.toward(gram, True) if self.target else own.mean(1)
        p = hedge(self.prior, self.strength * toward / scale, self.uniform)
        self.state["mixture"] = p.tolist()
