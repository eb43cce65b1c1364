"""How like the target each sample is, by its tokens and pairs of tokens: seconds of counting, no model.

The features and the score are those of DSIR (Xie et al. 2023, arXiv 2302.03169): hashed n-grams, the log
ratio of their frequencies in the target and in the data. There they are of words and weigh documents for a
draw; here they are of tokens, which a token store has, and rank documents.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from tillage.train.draw import permute
from tillage.train.evaluate import Target
from tillage.train.tokens import Floats, Ints, Samples, TokenStore

_BITS = 18
_PIECE = 1 << 20
"""Tokens that are looked at in one go."""
_FITTED = 20_000
"""Samples of the store that frequencies are counted on; all of a smaller one."""
_PRIOR = 0.1
"""Weight of the store's own frequencies beside the target's counts, so that a pair which the target lacks
lowers the score by a bounded amount."""
_SOUND = 0.1
"""Share of the target's own documents that may score below what counts as like the target."""

Tokens = npt.NDArray[np.integer]


def features(rows: Tokens) -> npt.NDArray[np.uint32]:
    """Hashed tokens and pairs of neighbours along the last axis, `uint32[..., 2 t - 1]` below `2 ** 18`."""
    one, two = _hashed(rows)
    return np.concatenate([one, two], axis=-1)


def _hashed(rows: Tokens) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32]]:
    tokens = rows.astype(np.uint32)
    one = tokens * np.uint32(2654435761)
    following = tokens[..., 1:] * np.uint32(40503) + np.uint32(0x9E3779B9)
    two = (one[..., :-1] ^ following) * np.uint32(2246822519)
    return one >> np.uint32(32 - _BITS), two >> np.uint32(32 - _BITS)


def counts(rows: Tokens) -> Floats:
    """How often each feature occurs, `float64[2 ** 18]`."""
    return np.bincount(features(rows).ravel(), minlength=1 << _BITS).astype(np.float64)


def weights(target: Floats, data: Floats) -> Floats:
    """Log ratio of each feature's frequency in the target, smoothed towards the data's, and in the data."""
    mixed = target / max(target.sum(), 1.0) / _shares(data)
    return np.log((mixed + _PRIOR) / (1 + _PRIOR))


def _shares(data: Floats) -> Floats:
    """Frequencies; what was never seen counts as half of once."""
    return np.maximum(data, 0.5) / max(data.sum(), 1.0)


def document_scores(table: Floats, tokens: Tokens, starts: Ints) -> Floats:
    """Mean weight of the features of each document.

    Args:
        tokens: documents one after the other. starts: `int64[documents + 1]`, where each begins.
    """
    small = table.astype(np.float32)
    total = np.zeros(len(starts) - 1)
    for low in range(0, len(tokens), _PIECE):
        high = min(low + _PIECE, len(tokens))
        one, two = _hashed(np.asarray(tokens[max(low - 1, 0) : high]))
        own = small[one[-(high - low) :]].astype(np.float64)
        own[len(own) - len(two) :] += small[two]
        first = int(np.searchsorted(starts, low, side="right")) - 1
        last = int(np.searchsorted(starts, high, side="left"))
        edges = np.maximum(starts[first:last] - low, 0)
        total[first:last] += np.add.reduceat(own, edges)
    return total / (2 * np.maximum(np.diff(starts), 1))


def likeness(target: Target, store: TokenStore, seq_len: int) -> Floats:
    """Score of every sample of the store, nats a token: the mean over its documents, weighted by tokens.

    Above zero a sample is more like the target than like the store. A document is scored as a whole, since
    256 tokens say less about it than it does (precision of the best fifth 0.83 and 0.93 on dirty data).
    """
    cut = store.samples(seq_len)
    table = weights(counts(target.tokens), counts(cut.read(_some(len(cut), _FITTED, 21))))
    return cut.average(document_scores(table, store.tokens, store.starts))


@dataclass(frozen=True)
class Offer:
    """What a store has for a target.

    Attributes:
        share: part of its tokens, in documents that score as the target's own do.
        like: the same of each group, `float64[groups]`; zero for groups without a token.
        composition: part of the target that each group explains, `float64[groups]`, sums to 1; zero for
            groups without a whole sample.
    """

    share: float
    like: Floats
    composition: Floats


def offer(target: Target, store: TokenStore, seq_len: int) -> Offer:
    """Compare the store with the target.

    The share: half of the target's documents give the table, the other half show how text of the target
    scores that the table has not seen; a document is like the target above the lowest tenth of these. The
    composition: each block of the target goes to the groups by how well their frequencies predict it (a
    mixture of naive Bayes models, its weights by expectation maximisation).
    """
    cut = store.samples(seq_len)
    data = counts(cut.read(_some(len(cut), _FITTED, 22)))
    known, (unseen, starts) = _halves(target, seq_len)
    table = weights(counts(known), data)
    own = document_scores(table, unseen, starts)
    like = document_scores(table, store.tokens, store.starts) > np.quantile(own, _SOUND)
    size = np.diff(store.starts)
    tokens = np.asarray(store.groups.tokens)
    by_group = np.bincount(store.domain, like * size, len(tokens)) / np.maximum(tokens, 1)
    return Offer(float((like * size).sum() / max(size.sum(), 1)), by_group, _composition(target, cut, data))


def _halves(target: Target, seq_len: int) -> tuple[Tokens, tuple[Tokens, Ints]]:
    """Tokens of every other document, and the others with where they begin; blocks of one document alone."""
    edges = target.starts
    if len(edges) < 3:
        edges = np.append(np.arange(0, len(target.tokens), seq_len), len(target.tokens))
    parts = [target.tokens[a:b] for a, b in pairwise(edges.tolist())]
    one, two = parts[::2], parts[1::2] or parts
    return np.concatenate(one), (np.concatenate(two), np.cumsum([0, *map(len, two)]))


def _composition(target: Target, cut: Samples, data: Floats) -> Floats:
    groups = np.flatnonzero(cut.counts)
    share = _shares(data)
    whole = max(len(target.tokens) // cut.seq_len, 1)
    rows = target.tokens[: whole * cut.seq_len].reshape(whole, -1)
    found = features(rows[_some(whole, 2000, 23)])
    logs = np.empty((len(groups), len(found)))
    for k, group in enumerate(groups):
        mine = counts(cut.read(cut.first[group] + _some(int(cut.counts[group]), _FITTED // len(groups), 24)))
        # Smoothed as in `weights`: what a group has never shown costs a bounded amount.
        logs[k] = np.log((mine / mine.sum() / share + _PRIOR) / (1 + _PRIOR))[found].sum(1)
    mixture = np.full(len(groups), 1.0 / len(groups))
    for _ in range(50):
        part = logs + np.log(np.maximum(mixture, 1e-300))[:, None]
        part = np.exp(part - part.max(0))
        mixture = (part / part.sum(0)).mean(1)
    every = np.zeros(len(cut.counts))
    every[groups] = mixture
    return every


def _some(count: int, most: int, key: int) -> Ints:
    """Up to `most` of `count` numbers, drawn evenly, the same ones each time."""
    return np.sort(permute(np.arange(min(count, most)), count, 0, key))
