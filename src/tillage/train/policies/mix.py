"""Policies that set the probability of each group (domain)."""

from __future__ import annotations

from itertools import pairwise
from math import log, sqrt
from typing import Any, ClassVar

import numpy as np
from pydantic import Field, model_validator

from tillage.core.errors import UserError, nearest
from tillage.core.spec import Spec
from tillage.train.policies.scaling import clip_minimum, fit_power_law
from tillage.train.policy import Actions, Array, Factor, Policy, Signals, SignalSpec, State, policy


class Mix(Policy):
    """Base of the mixing policies."""

    factors: ClassVar[frozenset[Factor]] = frozenset({"mix"})

    def mixture(self, step: int) -> Array:
        """Probability of each group at `step`, `float64[groups]`, sums to 1."""
        raise NotImplementedError(type(self).__name__)

    def act(self, step: int) -> Actions:
        return Actions(mixture=self.mixture(step))


@policy
class Uniform(Mix):
    """The same probability for each domain (stratified sampling)."""

    def mixture(self, step: int) -> Array:
        return np.full(len(self.groups), 1.0 / len(self.groups))


@policy
class Proportional(Mix):
    """Each domain by its share of the tokens: what a plain loader over everything does."""

    def mixture(self, step: int) -> Array:
        return self.prior


@policy
class Temperature(Mix):
    """Shares raised to the power 1 / temperature: 1 is proportional, large is uniform.

    Arivazhagan et al. 2019, arXiv 1907.05019, section 4.2.
    """

    source: ClassVar[str] = "arXiv 1907.05019"
    temperature: float = Field(default=2.0, gt=0)

    def mixture(self, step: int) -> Array:
        powered = self.prior ** (1.0 / self.temperature)
        return powered / powered.sum()


@policy
class Fixed(Mix):
    """The probabilities given, scaled to sum 1; domains not named get none."""

    weights: dict[str, float]

    def mixture(self, step: int) -> Array:
        return named_mixture(self.weights, self.groups.names)


def named_mixture(weights: dict[str, float], names: tuple[str, ...]) -> Array:
    """Weights by name as probabilities in the order of `names`; `UserError` for an unknown name."""
    for name, value in weights.items():
        if name not in names:
            raise UserError(f"the mixture names no domain of the store: {name!r}", hint=nearest(name, names))
        if not value >= 0:
            raise UserError("a weight is negative", where=name, got=value)
    mixture = np.asarray([weights.get(name, 0.0) for name in names], dtype=np.float64)
    if mixture.sum() <= 0:
        raise UserError("the mixture gives every domain weight 0", got=weights)
    return mixture / mixture.sum()


class Stage(Spec):
    """Weights of domains until a step."""

    until: int = Field(ge=1)
    """First step of the next stage."""
    weights: dict[str, float]


@policy
class Curriculum(Mix):
    """A plan made by hand: stages, each with its own weights; the last one goes on to the end.

    Bengio et al. 2009, "Curriculum learning".
    """

    source: ClassVar[str] = "Bengio et al. 2009"
    stages: tuple[Stage, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _ordered(self) -> Curriculum:
        ends = [stage.until for stage in self.stages]
        if any(two <= one for one, two in pairwise(ends)):
            raise ValueError(f"stages do not follow one another: until {ends}")
        return self

    def initial(self) -> State:
        for stage in self.stages:
            named_mixture(stage.weights, self.groups.names)  # says what is wrong before training
        return {}

    def mixture(self, step: int) -> Array:
        now = next((stage for stage in self.stages if step < stage.until), self.stages[-1])
        return named_mixture(now.weights, self.groups.names)


@policy
class Odm(Mix):
    """Online data mixing: a bandit whose reward for a domain is the exponential of its loss (its perplexity).

    Albalak et al. 2023, arXiv 2312.02406, and its official code: R = s R + (1 - s) exp(loss);
    e = min(1/K, sqrt(ln K / (K t))); p = (1 - K e) R / sum R + e. Each domain of a mixed batch is
    credited with its own loss. The mixture stays proportional until a step was observed.
    """

    source: ClassVar[str] = "arXiv 2312.02406"
    chases_noise: ClassVar[bool] = True
    smoothing: float = Field(default=0.9, ge=0, lt=1)
    warmup: int = Field(default=0, ge=0)
    """Steps during which the mixture stays proportional; rewards are collected meanwhile."""

    def initial(self) -> State:
        return {"reward": [0.0] * len(self.groups), "seen": [0] * len(self.groups), "steps": 0}

    def observe(self, signals: Signals) -> None:
        self.state["steps"] += 1
        for k in np.flatnonzero(signals.counts > 0):
            gain = float(np.exp(min(signals.losses[k], 20.0)))
            self.state["reward"][k] = self.smoothing * self.state["reward"][k] + (1 - self.smoothing) * gain
            self.state["seen"][k] += 1

    def mixture(self, step: int) -> Array:
        steps: int = self.state["steps"]
        count = len(self.groups)
        if steps <= self.warmup or count == 1:
            return self.prior
        seen = np.asarray(self.state["seen"])
        reward = np.asarray(self.state["reward"])
        # A domain not yet seen has no estimate: it gets the mean of the others, not the zero it starts from.
        reward = np.where(seen > 0, reward, reward[seen > 0].mean())
        explore = min(1.0 / count, sqrt(log(count) / (count * steps)))
        return (1.0 - count * explore) * reward / reward.sum() + explore


@policy
class Ado(Mix):
    """Adaptive data optimisation: favour the domains whose loss falls fastest by their scaling laws.

    Jiang et al. 2024, arXiv 2410.11820, algorithm 1 and official code: per domain L(n) = e + b n^-a is fitted
    online; rho ~ prior * sqrt(h) * a (L - e) / n with h the smoothed share drawn of late; floor 0.01;
    p = (1 - s) mean(rho) + s rho. As in the code, n counts all tokens seen, so it is the same for all
    domains, and a is at least 0.05. The fit here is a grid over a with non-negative least squares
    (the paper: L-BFGS on a Huber loss of log L); it is exact, fast and the same on every machine.
    """

    source: ClassVar[str] = "arXiv 2410.11820"
    start_step: int = Field(default=16, ge=2)
    """Steps before the first fit; the mixture is proportional until then (the paper: 5000 of 60,000)."""
    ignore: int = Field(default=4, ge=0)
    """First steps left out of the fit."""
    every: int = Field(default=4, ge=1)
    """Steps between fits."""
    mixing: float = Field(default=0.1, gt=0, le=1)
    share_smoothing: float = Field(default=0.9, ge=0, lt=1)
    floor: float = Field(default=0.01, ge=0, lt=0.5)
    points: int = Field(default=128, ge=8)
    """Most points of the loss history kept; neighbours are merged beyond that."""

    def initial(self) -> State:
        prior = self.prior.tolist()
        return {
            "steps": 0,
            "tokens": 0,
            "width": 1,
            "history": [],  # [steps in it, mean tokens seen, [mean loss by domain], [samples by domain]]
            "share": prior,
            "mean": prior,
            "mixture": prior,
            "fits": 0,
        }

    def observe(self, signals: Signals) -> None:
        s = self.state
        s["steps"] += 1
        s["tokens"] += int(signals.counts.sum()) * signals.tokens
        drawn = signals.counts / signals.counts.sum()
        share = self.share_smoothing * np.asarray(s["share"]) + (1 - self.share_smoothing) * drawn
        s["share"] = share.tolist()
        if s["steps"] > self.ignore:
            self._remember(signals)
        if s["steps"] >= self.start_step and (s["steps"] - self.start_step) % self.every == 0:
            self._refit()

    def _remember(self, signals: Signals) -> None:
        s = self.state
        losses = np.where(signals.counts > 0, signals.losses, 0.0)
        point: list[Any] = [1, float(s["tokens"]), losses.tolist(), signals.counts.tolist()]
        history: list[list[Any]] = s["history"]
        if history and history[-1][0] < s["width"]:
            history[-1] = _merge(history[-1], point)
        else:
            history.append(point)
        if len(history) > self.points:
            s["history"] = [_merge(*history[i : i + 2]) for i in range(0, len(history) - 1, 2)] + (
                history[-1:] if len(history) % 2 else []
            )
            s["width"] *= 2

    def _refit(self) -> None:
        s = self.state
        if not s["history"]:
            return  # all steps so far were to be left out
        tokens = np.asarray([p[1] for p in s["history"]])
        losses = np.asarray([p[2] for p in s["history"]])
        weights = np.asarray([p[3] for p in s["history"]])
        slope = np.zeros(len(self.groups))
        now = float(s["tokens"])
        for k in range(len(self.groups)):
            known = weights[:, k] > 0
            if known.sum() < 3:
                return  # too little is known of one domain to compare: the mixture stays
            _, b, a = fit_power_law(tokens[known], losses[known, k], weights[known, k])
            slope[k] = max(a, 0.05) * b * now**-a / now
        rho = self.prior * np.sqrt(np.asarray(s["share"])) * slope
        if not rho.sum() > 0:
            return
        rho = clip_minimum(rho / rho.sum(), min(self.floor, 0.5 / len(self.groups)))
        mean = np.asarray(s["mean"])
        s["mixture"] = ((1 - self.mixing) * mean + self.mixing * rho).tolist()
        s["fits"] += 1
        s["mean"] = (mean + (rho - mean) / (s["fits"] + 1)).tolist()

    def mixture(self, step: int) -> Array:
        mixture = np.asarray(self.state["mixture"])
        return mixture / mixture.sum()


def _merge(one: list[Any], two: list[Any]) -> list[Any]:
    """Two neighbouring points of a history as one: means weighted by steps and by samples."""
    steps = one[0] + two[0]
    first, second = np.asarray(one[3]), np.asarray(two[3])
    count = first + second
    loss = (np.asarray(one[2]) * first + np.asarray(two[2]) * second) / np.maximum(count, 1e-12)
    return [steps, (one[1] * one[0] + two[1] * two[0]) / steps, loss.tolist(), count.tolist()]


@policy
class TargetMix(Mix):
    """Favour the domains that a model of the target finds easy and the model in training does not yet.

    The utility of a domain is the smoothed mean of loss - reference loss over its samples, the reference
    being trained on the target's search part: the difference of Moore and Lewis (2010) by domain, the general
    model being the one in training. p = (1 - explore) softmax(log prior + utility / temperature) + explore /
    K. The update has the form of DoReMi's (arXiv 2305.10429) without its clipping, and with a target.
    """

    source: ClassVar[str] = "Moore and Lewis 2010; form of arXiv 2305.10429"
    temperature: float = Field(default=0.25, gt=0)
    """Nats a token that change the odds of a domain by a factor e."""
    smoothing: float = Field(default=0.9, ge=0, lt=1)
    explore: float = Field(default=0.1, gt=0, le=1)
    warmup: int = Field(default=4, ge=0)

    def requires(self) -> SignalSpec:
        return SignalSpec(reference=True)

    def initial(self) -> State:
        return {"utility": [0.0] * len(self.groups), "seen": [0] * len(self.groups), "steps": 0}

    def observe(self, signals: Signals) -> None:
        s = self.state
        s["steps"] += 1
        gap = signals.losses - signals.reference
        for k in np.flatnonzero(np.isfinite(gap)):
            s["seen"][k] += 1
            # The first observations are averaged plainly, so that the zero at the start has no say.
            rate = max(1 - self.smoothing, 1.0 / s["seen"][k])
            s["utility"][k] += rate * (float(gap[k]) - s["utility"][k])

    def mixture(self, step: int) -> Array:
        s = self.state
        seen = np.asarray(s["seen"])
        if s["steps"] <= self.warmup or not (seen > 0).any():
            return self.prior
        utility = np.asarray(s["utility"])
        utility = np.where(seen > 0, utility, utility[seen > 0].mean())
        logits = np.log(self.prior) + (utility - utility.max()) / self.temperature
        powered = np.exp(logits - logits.max())
        return (1 - self.explore) * powered / powered.sum() + self.explore / len(self.groups)
