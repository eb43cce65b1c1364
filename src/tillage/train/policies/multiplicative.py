"""Mixing by multiplicative weights: probabilities grow by exp(eta * what a domain still has to learn)."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field, field_validator

from tillage.core.errors import UserError, nearest
from tillage.train.policies.mix import Mix
from tillage.train.policy import Array, Signals, SignalSpec, State, policy


def hedge(mixture: Array, gain: Array, smoothing: float) -> Array:
    """`mixture * exp(gain)` scaled to sum 1, then `1 - smoothing` of it and `smoothing` of uniform."""
    grown = mixture * np.exp(gain - gain.max())
    return (1 - smoothing) * grown / grown.sum() + smoothing / len(mixture)


@policy
class Doremi(Mix):
    """Minimax over domains: sample more where the excess loss over a reference model is large.

    Xie et al. 2023, arXiv 2305.10429, algorithm 1 and official code (doremiv1): lambda = mean over the
    domain's tokens of max(loss - reference, 0), the last known one where a step had none; alpha *= exp(eta
    lambda), scaled to sum 1, and smoothed with c / K. The reference model is trained on the store in its
    prior mixture. The paper draws domains evenly and weighs their losses by alpha; here alpha is the
    sampling probability: the same expected gradient. `mean` is the average over steps, the paper's result: a
    run with `fixed` and these weights is its second stage.
    """

    source: ClassVar[str] = "arXiv 2305.10429"
    eta: float = Field(default=1.0, gt=0)
    """Step size of the domain weights, for each step (the paper: 1)."""
    smoothing: float = Field(default=1e-4, gt=0, lt=1)
    """c: share of the uniform mixture (1e-4 in the authors' script)."""

    def requires(self) -> SignalSpec:
        return SignalSpec(reference=True, prior=True, tokens=True)

    def initial(self) -> State:
        uniform = [1.0 / len(self.groups)] * len(self.groups)
        return {"alpha": uniform, "mean": uniform, "excess": [0.0] * len(self.groups), "steps": 0}

    def observe(self, signals: Signals) -> None:
        if signals.excess is None:
            raise UserError("doremi was given no excess losses", hint="pass token_reference= to the feed")
        s = self.state
        excess = np.where(signals.counts > 0, signals.excess, s["excess"])
        alpha = hedge(np.asarray(s["alpha"]), self.eta * excess, self.smoothing)
        mean = np.asarray(s["mean"])
        s["steps"] += 1
        s.update(
            alpha=alpha.tolist(), excess=excess.tolist(), mean=(mean + (alpha - mean) / s["steps"]).tolist()
        )

    def mixture(self, step: int) -> Array:
        return np.asarray(self.state["alpha"])

    def weights(self) -> dict[str, float]:
        """The averaged weights by domain, for `fixed`."""
        return dict(zip(self.groups.names, self.state["mean"], strict=True))


@policy
class DynamicLoading(Mix):
    """Bring all domains to their reference losses at the same time: more of those that lag behind.

    Sheared LLaMA (Xia et al. 2023, arXiv 2310.06694, algorithm 1): every m steps alpha *= exp(max(loss -
    reference, 0)), scaled to sum 1, from the prior mixture on. As in the official code 1e-4 of the uniform
    mixture is added (it leaves the maximum out). The paper takes validation losses, and as references the
    losses that a scaling law predicts: give these as `references`. Without them a reference model trained on
    the store supplies them; losses are means over the samples of the last `every` steps.
    """

    source: ClassVar[str] = "arXiv 2310.06694"
    references: dict[str, float] | None = None
    """Reference loss of each domain in nats a token."""
    every: int = Field(default=50, ge=1)
    """Steps between updates (50 of 3200 in the authors' script for pruning)."""
    smoothing: float = Field(default=1e-4, gt=0, lt=1)

    def requires(self) -> SignalSpec:
        known = self.references is not None
        return SignalSpec(reference=not known, prior=not known)

    def initial(self) -> State:
        names, given = self.groups.names, self.references
        for name in names if given is not None else ():
            if name not in (given or {}):
                raise UserError(f"no reference loss for the domain {name!r}", hint=nearest(name, given or {}))
        zero = [0.0] * len(names)
        return {"alpha": self.prior.tolist(), "gap": zero, "samples": zero, "steps": 0}

    def observe(self, signals: Signals) -> None:
        s = self.state
        reference = signals.reference
        if self.references is not None:
            reference = np.asarray([self.references[name] for name in self.groups.names])
        gap = np.where(signals.counts > 0, (signals.losses - reference) * signals.counts, 0.0)
        s["gap"] = (np.asarray(s["gap"]) + gap).tolist()
        s["samples"] = (np.asarray(s["samples"]) + signals.counts).tolist()
        s["steps"] += 1
        if s["steps"] % self.every == 0:
            samples = np.asarray(s["samples"])
            delta = np.maximum(np.asarray(s["gap"]) / np.maximum(samples, 1.0), 0.0)
            # A domain without a sample has no measured gap: it moves with the others.
            delta = np.where(samples > 0, delta, delta[samples > 0].mean())
            zero = [0.0] * len(self.groups)
            alpha = hedge(np.asarray(s["alpha"]), delta, self.smoothing)
            s.update(alpha=alpha.tolist(), gap=zero, samples=zero)

    def mixture(self, step: int) -> Array:
        return np.asarray(self.state["alpha"])


@policy
class SkillIt(Mix):
    """Sample the skills whose loss is high, and those that others with high loss build on.

    Chen et al. 2023, arXiv 2307.14430, algorithm 1 and official code: p_i ~ exp(eta * sum over the last w
    rounds of sum_j A_ij L_j), A the skills graph: A_ij is the weight of the edge from i to j, that is how
    much training on i helps j. In the code A_ii is 1 and an edge 0.5; without edges every domain stands
    alone. L_j is here the mean loss of the samples of j in a round, in place of a validation loss; a domain
    without samples keeps its last one. The graph is given: learning it takes a training run for each pair.
    The first round is uniform. High loss counts whether or not it can be learnt, so noise attracts this
    policy.
    """

    source: ClassVar[str] = "arXiv 2307.14430"
    chases_noise: ClassVar[bool] = True
    edges: dict[str, dict[str, float]] = Field(default_factory=dict[str, dict[str, float]])
    """`edges[i][j]`: how much training on domain i helps domain j, at least 0 (0.5 in the code)."""
    eta: float = Field(default=0.2, gt=0)
    """Strength; the code has no default."""
    window: int = Field(default=3, ge=1)
    """Rounds whose losses are summed (default of the code: 3)."""
    every: int = Field(default=50, ge=1)
    """Steps of a round."""

    @field_validator("edges")
    @classmethod
    def _not_negative(cls, edges: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
        for one, row in edges.items():
            for two, weight in row.items():
                if not weight >= 0:
                    raise ValueError(f"the edge from {one!r} to {two!r} is negative: {weight}")
        return edges

    def graph(self) -> Array:
        """A, `float64[groups, groups]`; `UserError` for a domain that the store has not."""
        names = self.groups.names
        a = np.eye(len(names))
        for one, row in self.edges.items():
            for two, weight in row.items():
                for name in (one, two):
                    if name not in names:
                        raise UserError(
                            f"the skills graph names no domain of the store: {name!r}",
                            hint=nearest(name, names),
                        )
                a[names.index(one), names.index(two)] = weight
        return a

    def initial(self) -> State:
        self.graph()
        zero = [0.0] * len(self.groups)
        return {"rounds": [], "total": zero, "samples": zero, "steps": 0}

    def observe(self, signals: Signals) -> None:
        s = self.state
        total = np.where(signals.counts > 0, signals.losses * signals.counts, 0.0)
        s["total"] = (np.asarray(s["total"]) + total).tolist()
        s["samples"] = (np.asarray(s["samples"]) + signals.counts).tolist()
        s["steps"] += 1
        if s["steps"] % self.every == 0:
            samples = np.asarray(s["samples"])
            loss = np.asarray(s["total"]) / np.maximum(samples, 1.0)
            known = samples > 0
            last = s["rounds"][-1] if s["rounds"] else np.full(len(loss), loss[known].mean())
            rounds = [*s["rounds"], np.where(known, loss, last).tolist()]
            zero = [0.0] * len(self.groups)
            s.update(rounds=rounds[-self.window :], total=zero, samples=zero)

    def mixture(self, step: int) -> Array:
        uniform = np.full(len(self.groups), 1.0 / len(self.groups))
        if not self.state["rounds"]:
            return uniform
        losses = np.asarray(self.state["rounds"]).sum(0)
        return hedge(uniform, self.eta * (self.graph() @ losses), 0.0)
