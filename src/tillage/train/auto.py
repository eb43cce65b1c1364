"""`policy: auto`: what to train by where the user did not choose, from what the store offers for the target.

The rules are few, so that what they give can be read from the log and measured as one policy
(`bench/interaction`, arm "ours"):

1. No target: all domains alike, but none more than `VISITS` times; one domain is read as it is.
2. A target that several domains explain: they are mixed as the target is composed, with the same bound.
   Where most of what would then be read is not like the target, the most like of it are chosen.
3. A target that is mostly of one domain's kind, or a store of one domain: the documents most like it, as
   large a share as the store has of them, or as the budget needs with one to three visits of each.

Nothing of it runs a model: scores that need one cost more time than they saved (LOG.md).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tillage.train.evaluate import Target
from tillage.train.policies import Fixed, Likeness, Proportional
from tillage.train.policy import Array, Auto, Chain, Policy, dump_policy
from tillage.train.signals.likeness import Offer, offer
from tillage.train.tokens import Ints, TokenStore

VISITS = 4.0
"""Up to so many epochs repeated text is about as good as new (Muennighoff et al. 2023, arXiv 2305.16264)."""
_CHOSEN = 3.0
_MORE = 1.75
"""Epochs of a choice: once and `_MORE` for each epoch of the whole store that the budget would be, at most
`_CHOSEN`. Where the rest is there to be read too, reading on pays before repeating does: of 18 M tokens, 9 M
went best with 1.9 epochs of the quarter most like the target, 18 M with 2.8 of a third, 25 M with 2.6 of a
half (62 M parameters, docs/benchmarks.md)."""
_ONCE = 250_000
"""Tokens of a budget that chooses only what it reads once. Less than this, read again and again, is learnt by
heart: 130,000 tokens from a twentieth of 256,000 gave 4.31 bits per byte where all of them gave 2.63."""
_FOUND = 0.9
"""Part of the target's own documents that `offer` calls like the target."""
_PURE = 1 / 3
"""From this share on what is read needs no choice. Low, as a target of several kinds hides part of each:
seven clean domains were called 53 to 77 % like a target made of all of them."""
_SEVERAL = 1.5
"""Domains that a target is composed of, by the exponential of its entropy, from which on it is mixed."""

_LEAST = 32
"""Samples that a target must be long for a judgement on it."""


@dataclass(frozen=True)
class Resolved:
    """A policy and the reason for it in words."""

    policy: Policy
    why: str

    def __str__(self) -> str:
        return f"policy auto is {dump_policy(self.policy)}: {self.why}"


def resolve(policy: Policy, store: TokenStore, target: Target | None, seq_len: int, tokens: int) -> Resolved:
    """`policy` itself, or what `auto` stands for on this store; the same for the same data and budget.

    Args:
        target: text of what the model shall be good at, never the holdout; None if there is none.
        tokens: the budget of the run.
    """
    if not isinstance(policy, Auto):
        return Resolved(policy, "chosen by the user")
    counts = store.samples(seq_len).counts
    used, size = np.flatnonzero(counts), int(counts.sum()) * seq_len
    if target is None:
        if len(used) < 2:
            return Resolved(Proportional(), "one domain and no target")
        return Resolved(
            _fixed(np.full(len(used), 1.0 / len(used)), store, used, seq_len, tokens),
            f"no target: {len(used)} domains alike, at most {VISITS:g} visits each",
        )
    if len(target.tokens) < _LEAST * seq_len:
        return Resolved(Proportional(), f"the target is too small to tell: {len(target.tokens)} tokens")
    found = offer(target, store, seq_len)
    parts = found.composition[used]
    several = float(np.exp(-(parts[parts > 0] * np.log(parts[parts > 0])).sum()))
    if several < _SEVERAL:
        return _chosen(found, size, tokens)
    mix = _fixed(parts, store, used, seq_len, tokens)
    shares = np.asarray([mix.weights[store.groups.names[g]] for g in used])
    like = min(float(shares @ found.like[used]) / _FOUND, 1.0)
    why = f"the target is composed of some {several:.1f} domains; {like:.0%} of them is like it"
    if like >= _PURE:
        return Resolved(mix, why)
    return Resolved(Chain(mix, Likeness(keep=_share(like, needed(tokens, size)))), why)


def needed(tokens: int, size: int) -> float:
    """Share of a store of `size` tokens that a budget should be read from.

    With one visit of each sample where the budget is small, by itself or beside the store, and up to three.
    """
    passes = tokens / size
    return passes / min(max(tokens / _ONCE, 1.0), 1.0 + _MORE * passes, _CHOSEN)


def _share(like: float, least: float) -> float:
    """What is kept: all that is like the target, and no less than the budget needs."""
    return round(min(max(like, least, 0.05), 1.0), 3)


def _chosen(found: Offer, size: int, tokens: int) -> Resolved:
    like, least = found.share / _FOUND, needed(tokens, size)
    keep = _share(like, least)
    why = f"{like:.1%} of the store is like the target, and the budget needs {least:.1%} of it"
    return Resolved(Proportional() if keep > 0.9 else Likeness(keep=keep), why)


def _fixed(wanted: Array, store: TokenStore, used: Ints, seq_len: int, tokens: int) -> Fixed:
    sizes = (store.samples(seq_len).counts[used] * seq_len).astype(np.float64)
    shares = capped(wanted, VISITS * sizes / tokens, sizes)
    return Fixed(
        weights={store.groups.names[g]: round(float(p), 5) for g, p in zip(used, shares, strict=True)}
    )


def capped(wanted: Array, most: Array, spare: Array) -> Array:
    """Probabilities as near to `wanted` as bounds allow.

    Args:
        most: largest probability of each. spare: how what is cut off is shared out where all that is wanted
            is at its bound.
    """
    found = np.minimum(wanted / wanted.sum(), most)
    for weight in (wanted, spare):
        for _ in range(len(wanted)):
            left, free = 1.0 - found.sum(), np.where(found < most, weight, 0.0)
            if left < 1e-9 or not free.any():
                break
            found = np.minimum(found + left * free / free.sum(), most)
    return found / found.sum()
