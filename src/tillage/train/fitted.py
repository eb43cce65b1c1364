"""Samples of whole documents, one alone or several packed by best fit: for chats, and for text that should
not be cut."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from tillage.train.losses import IGNORE
from tillage.train.tokenizer import Ints

if TYPE_CHECKING:
    from tillage.train.tokens import TokenStore

Floats = npt.NDArray[np.float64]


def best_fit(lengths: Ints, capacity: int) -> tuple[Ints, int]:
    """Bins of items by best-fit decreasing: the longest first, each into the fullest bin that has room.

    The rule of Best-fit Packing (Ding et al. 2024, arXiv 2404.10830, algorithm 1). Items of one length keep
    their order; of bins with the same room the one that was filled last is taken. The amounts of room left,
    at most `capacity` of them, are kept sorted, so the time for an item does not grow with the bins.

    Args:
        lengths: `int64[n]`, each from 1 to `capacity`.

    Returns:
        The bin of each item, `int64[n]`, from 0; and the number of bins.
    """
    placed = np.empty(len(lengths), dtype=np.int64)
    bins: dict[int, list[int]] = {}
    rooms: list[int] = []
    count = 0
    order = np.argsort(-lengths, kind="stable")
    for item, need in zip(order.tolist(), lengths[order].tolist(), strict=True):
        at = bisect_left(rooms, need)
        if at < len(rooms):
            room = rooms[at]
            chosen = bins[room].pop()
            if not bins[room]:
                del bins[room], rooms[at]
        else:
            room, chosen = capacity, count
            count += 1
        placed[item] = chosen
        room -= need
        if room in bins:
            bins[room].append(chosen)
        elif room:
            bins[room] = [chosen]
            insort(rooms, room)
    return placed, count


class Pieces:
    """Documents of a store packed whole into samples, domain by domain.

    A document of n tokens gives n - 1 pairs of a token and its successor; only one with more than `seq_len`
    pairs is cut. Pieces of which nothing is learned are left out: within their document's mask nothing else
    could see them. So every sample has something to learn.

    Attributes:
        begin: where each piece begins in `store.tokens`, `int64[pieces]`; ordered by sample, then document.
        size: pairs of each piece. learned: how many of them are learned.
        edges: `int64[samples + 1]`, the pieces of each sample.
        counts: samples of each domain, `int64[domains]`.
    """

    def __init__(self, store: TokenStore, seq_len: int) -> None:
        sizes = np.diff(store.starts) - 1
        cuts = -(-sizes // seq_len)
        document = np.repeat(np.arange(len(sizes)), cuts)
        number = np.arange(len(document)) - np.repeat(np.cumsum(cuts) - cuts, cuts)
        begin = store.starts[document] + number * seq_len
        size = np.minimum(sizes[document] - number * seq_len, seq_len)
        learned = store.learned(begin + 1, begin + 1 + size)
        some = learned > 0
        document, begin, size, learned = document[some], begin[some], size[some], learned[some]
        group = store.domain[document]
        samples = np.empty(len(document), dtype=np.int64)
        self.counts: Ints = np.zeros(len(store.groups), dtype=np.int64)
        for g in range(len(store.groups)):
            mine = np.flatnonzero(group == g)
            alone = store.packing == "document"
            bins, count = (np.arange(len(mine)), len(mine)) if alone else best_fit(size[mine], seq_len)
            samples[mine] = self.counts.sum() + bins
            self.counts[g] = count
        order = np.argsort(samples, kind="stable")
        self.document: Ints = document[order]
        self.begin: Ints = begin[order]
        self.size: Ints = size[order]
        self.learned: Ints = learned[order]
        self.edges: Ints = np.searchsorted(samples[order], np.arange(int(self.counts.sum()) + 1))
        self._store, self._seq_len = store, seq_len

    def pairs(self, samples: npt.ArrayLike) -> tuple[Ints, Ints]:
        """Inputs and targets, `int64[n, seq_len]`; padded with end-of-text that is not learned."""
        chosen = np.asarray(samples)
        inputs = np.full((len(chosen), self._seq_len), self._store.tokenizer.eos, dtype=np.int64)
        targets = np.full_like(inputs, IGNORE)
        tokens, mask = self._store.tokens, self._store.mask
        for row, sample in enumerate(chosen.tolist()):
            at = 0
            for piece in range(int(self.edges[sample]), int(self.edges[sample + 1])):
                low, size = int(self.begin[piece]), int(self.size[piece])
                inputs[row, at : at + size] = tokens[low : low + size]
                goals = tokens[low + 1 : low + size + 1].astype(np.int64)
                if mask is not None:
                    goals[mask[low + 1 : low + size + 1] == 0] = IGNORE
                targets[row, at : at + size] = goals
                at += size
        return inputs, targets

    def spans(self, samples: npt.ArrayLike) -> Ints:
        """A number for each piece within its sample, `int64[n, seq_len]`; padding has one of its own."""
        chosen = np.asarray(samples)
        spans = np.empty((len(chosen), self._seq_len), dtype=np.int64)
        for row, sample in enumerate(chosen.tolist()):
            sizes = self.size[self.edges[sample] : self.edges[sample + 1]]
            ends = np.searchsorted(np.cumsum(sizes), np.arange(self._seq_len), side="right")
            spans[row] = ends
        return spans

    def documents(self, sample: int) -> Sequence[int]:
        """Documents in a sample, ascending."""
        return np.unique(self.document[self.edges[sample] : self.edges[sample + 1]]).tolist()

    def share_learned(self) -> Floats:
        """Share of each sample's tokens that are learned."""
        total = np.add.reduceat(self.learned, self.edges[:-1]) if len(self.edges) > 1 else np.zeros(0)
        return total / self._seq_len

    def column(self, values: Floats) -> Floats:
        """Mean over each sample of a value by document, weighted by tokens; NaN where none has one."""
        mine, known = values[self.document], np.isfinite(values[self.document])
        mass = np.add.reduceat(self.size * known, self.edges[:-1])
        total = np.add.reduceat(self.size * np.where(known, mine, 0.0), self.edges[:-1])
        return np.divide(total, mass, out=np.full(len(mass), np.nan), where=mass > 0)
