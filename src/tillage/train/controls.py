"""Two controls for any data policy, on simulated losses: seconds of numpy, no training.

    check_identical(MyPolicy())     # identical domains: the mixture stays near the prior, nothing is lost
    check_noise(MyPolicy())         # one domain that nobody can learn: it is not run after

The simulated model learns domain k as L_k(n) = e + b (1 + n / 20)^-a with the weight n that its samples got;
the reference model is further along the same curves. Noise has the same high loss for both, whatever is
trained on it. Samples differ in difficulty, tokens too, and the reference finds the same ones hard. Gradients
of a domain have a direction of their own and one that all share, and are as long as it still learns;
those of noise point anywhere. The target is the mean of the domains that can be learnt.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil

import numpy as np
import numpy.typing as npt

from tillage.core.errors import WorkFailed
from tillage.train.policies import Proportional
from tillage.train.policy import Array, Policy, Scored, ScoredTokens, Signals, as_chain
from tillage.train.signals.gradients import domain_products
from tillage.train.tokens import Groups

GROUPS = Groups(("a", "b", "c", "d"), (1_000_000,) * 4, (1000,) * 4)
"""Four domains of the same size, so the prior is uniform; in the noise control "d" is noise."""
_NOISE_LOSS = 7.0
_BATCH, _TOKENS, _WIDE = 32, 8, 64


@dataclass(frozen=True)
class Outcome:
    """What came of a simulated run.

    Attributes:
        shares: part of the weight in the loss that each domain had in the second half, sums to 1.
        losses: loss of each domain at the end, nats a token.
    """

    shares: Array
    losses: Array


def simulate(policy: Policy, noise: bool, steps: int = 240, seed: int = 0) -> Outcome:
    """Train the simulated model on `GROUPS` by `policy`; with `noise`, domain "d" cannot be learnt."""
    rng = np.random.default_rng(seed)
    run = as_chain(policy).start(GROUPS)
    needs, size = run.requires(), len(GROUPS)
    seen, late = np.zeros(size), np.zeros(size)
    reference = _losses(np.full(size, 4.0 * steps * _BATCH), noise)
    for step in range(steps):
        actions, now = run.act(step), _losses(seen, noise)
        mixture = run.prior if actions.mixture is None else actions.mixture
        groups = rng.choice(size, ceil(_BATCH / (actions.keep or 1.0) - 1e-9), p=mixture)
        hard = rng.normal(0, 0.3, (len(groups), 1)) + rng.normal(0, 0.5, (len(groups), _TOKENS))
        losses = now[groups, None] + hard
        expected = reference[groups, None] + hard + rng.normal(0, 0.1, hard.shape)
        columns = {
            name: np.where(noise & (groups == size - 1), 0.3, 1.0) * np.exp(rng.normal(0, 0.1, len(groups)))
            for name in sorted(needs.columns | needs.ahead)
        }
        rows, target = _gradients(rng, groups, seen, noise)
        dots = rows @ target if needs.dots and actions.gradients else None
        sketch = rows if needs.sketch and actions.gradients else None
        # Each view shows what the feed would show: nothing that was not declared.
        means = losses.mean(1), expected.mean(1) if needs.reference else np.full(len(groups), np.nan)
        offered = Scored(step, groups, *means, columns, dots, sketch)
        every = np.arange(len(groups))
        kept = every
        if actions.keep is not None and len(groups) > _BATCH:
            unscored = replace(offered, losses=np.full(len(groups), np.nan))
            value = run.score(offered if needs.candidates else unscored)
            kept = np.sort(np.argsort(-value, kind="stable")[:_BATCH])
        weights = np.ones((len(kept), _TOKENS))
        if run.owner("weigh"):
            weights *= run.weigh(offered.part(kept))[:, None]
        if run.owner("token"):
            absent = np.full((len(kept), _TOKENS), np.nan)
            tokens = expected[kept] if needs.tokens else absent
            weights *= run.weigh_tokens(ScoredTokens(step, groups[kept], losses[kept], tokens))
        gained = np.bincount(groups[kept], (weights / weights.mean()).mean(1), size)
        seen += gained
        late += gained * (step >= steps // 2)
        shown = every if needs.candidates else kept
        signals = _signals(step, groups[shown], losses[shown], expected[shown], policy)
        if actions.probe and needs.heldout:
            signals = replace(signals, heldout=now)
        if actions.gradients and needs.gradients:
            signals = replace(signals, measured=offered, spent={"gradients": len(groups) / _BATCH})
            if needs.gram:
                gram, spread = domain_products(groups, rows, target, size)
                signals = replace(signals, gram=gram, spread=spread)
        run.observe(signals)
    return Outcome(late / late.sum(), _losses(seen, noise))


def _gradients(
    rng: np.random.Generator, groups: npt.NDArray[np.int64], seen: Array, noise: bool
) -> tuple[Array, Array]:
    """Gradients of samples `[n, _WIDE]`, and that of the target.

    A sample's gradient is about twice as long as its domain's mean one, that of noise four times as long as
    the others' mean ones.
    """
    size = len(GROUPS)
    length = (1.0 + seen / 20.0) ** -0.75
    means = 0.8 * np.eye(size, _WIDE) + 0.6 * np.eye(1, _WIDE, size)
    if noise:
        length[-1], means[-1] = 2 * length[:-1].mean(), 0.0
    means = length[:, None] * means
    rows = means[groups] + length[groups, None] * rng.normal(0, 2 * _WIDE**-0.5, (len(groups), _WIDE))
    return rows, means[: size - noise].mean(0)


def _losses(seen: Array, noise: bool) -> Array:
    losses = 2.0 + 4.0 * (1.0 + seen / 20.0) ** -0.5
    if noise:
        losses[-1] = _NOISE_LOSS
    return losses


def _signals(
    step: int, groups: npt.NDArray[np.int64], losses: Array, reference: Array, policy: Policy
) -> Signals:
    size, needs = len(GROUPS), policy.requires()
    counts = np.bincount(groups, minlength=size).astype(np.float64)
    means = [
        np.divide(np.bincount(groups, v.mean(1), size), counts, out=np.full(size, np.nan), where=counts > 0)
        for v in (losses, reference, np.maximum(losses - reference, 0.0))
    ]
    unknown = np.full(size, np.nan)
    return Signals(
        step, counts, means[0], means[1] if needs.reference else unknown, _TOKENS,
        means[2] if needs.tokens else None,
    )  # fmt: skip


def check_identical(policy: Policy, near: float = 0.1, loss: float = 0.05) -> Outcome:
    """Raise `WorkFailed` if identical domains are not treated alike, or training gets worse by it.

    Args:
        near: most that a domain's share of the training may differ from its prior.
        loss: most nats a token that the mean final loss may exceed that of proportional sampling.
    """
    found, plain = simulate(policy, noise=False), simulate(Proportional(), noise=False)
    prior = 1.0 / len(GROUPS)
    if np.abs(found.shares - prior).max() > near:
        raise WorkFailed(
            f"policy {policy.name!r} prefers one of several identical domains",
            got=np.round(found.shares, 3).tolist(), expected=f"shares within {near} of {prior}",
        )  # fmt: skip
    if found.losses.mean() > plain.losses.mean() + loss:
        raise WorkFailed(
            f"policy {policy.name!r} loses against proportional sampling on identical domains",
            got=round(float(found.losses.mean()), 4), expected=round(float(plain.losses.mean()), 4),
        )  # fmt: skip
    return found


def check_noise(policy: Policy, most: float = 1.25) -> Outcome:
    """Raise `WorkFailed` if noise gets more than `most` times its prior share of the training.

    A policy that is known to do that by its formula says so with `chases_noise`; then it is an error if it
    does not, so that the claim stays true.
    """
    found = simulate(policy, noise=True)
    share, bound = float(found.shares[-1]), most / len(GROUPS)
    if (share > bound) != policy.chases_noise:
        raise WorkFailed(
            f"policy {policy.name!r} {'does not chase' if policy.chases_noise else 'runs after'} noise",
            got=f"a share of {share:.3f}",
            expected=f"{'above' if policy.chases_noise else 'at most'} {bound:.3f}",
        )  # fmt: skip
    return found
