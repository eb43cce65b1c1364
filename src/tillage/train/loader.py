"""A plain static loader: what training without a policy does, written without any of the feed's machinery."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor

from tillage.train.draw import permute, uniform
from tillage.train.tokens import Ints, TokenStore


class StaticLoader:
    """Endless shuffled batches `(input_ids, targets, samples)` with fixed domain shares.

    Args:
        weights: share of each domain, in any scale; in proportion to tokens by default.
        batch: samples in a batch.
    """

    def __init__(
        self,
        store: TokenStore,
        *,
        batch: int,
        seq_len: int = 256,
        seed: int = 0,
        weights: Mapping[str, float] | None = None,
    ) -> None:
        self.cut, self.batch, self.seed = store.samples(seq_len), batch, seed
        self.usable = [g for g in range(len(store.groups)) if self.cut.counts[g] > 0]
        names, tokens = store.groups.names, store.groups.tokens
        share = np.asarray(
            [weights[names[g]] if weights else tokens[g] for g in self.usable], dtype=np.float64
        )
        self.share = share / share.sum()

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Ints]]:
        orders = {g: self._epoch(g, 0) for g in self.usable}
        taken = dict.fromkeys(self.usable, 0)
        edges = np.cumsum(self.share)
        number = 0
        while True:
            samples: list[int] = []
            for _ in range(self.batch):
                draw = float(uniform(self.seed, 1, number)[0])
                group = self.usable[int(np.searchsorted(edges / edges[-1], draw, side="right"))]
                size = int(self.cut.counts[group])
                if taken[group] and taken[group] % size == 0:
                    orders[group] = self._epoch(group, taken[group] // size)
                samples.append(int(orders[group][taken[group] % size]))
                taken[group] += 1
                number += 1
            ids, targets = self.cut.pairs(samples)
            yield torch.from_numpy(ids), torch.from_numpy(targets), np.asarray(samples)

    def _epoch(self, group: int, epoch: int) -> Ints:
        """The order of a group's samples in an epoch, written out."""
        size = int(self.cut.counts[group])
        return self.cut.first[group] + permute(np.arange(size), size, self.seed, 2, group, epoch)
