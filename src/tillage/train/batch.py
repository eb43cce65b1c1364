"""What passes between a feed, the model and the policy: batches, what was trained on, and their checks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from tillage.core.errors import WorkFailed
from tillage.train.policy import Array
from tillage.train.tokens import Ints, TokenStore

Model = Callable[[Tensor], Tensor]
"""Token ids `int64[b, seq_len]` -> logits `[b, seq_len, vocab]`."""
Reference = Callable[[Ints], Array]
"""Global sample numbers -> reference losses in nats a token."""
TokenReference = Callable[[Ints], Array]
"""Global sample numbers -> reference losses of their tokens in nats, `[n, seq_len]`."""
TokenLosses = Callable[["Batch"], Tensor]
"""A batch -> losses of its tokens in nats, `[b, seq_len]`, 0 at targets that are not trained on."""


@dataclass
class Batch:
    """This rank's part of a micro-batch.

    Attributes:
        input_ids, targets: `int64[b, seq_len]` on the feed's device; targets are `losses.IGNORE` where
        nothing
            is learned.
        spans: `int64[b, seq_len]`, a number for each document in a sample, if the feed has `spans`; the
            end-of-text before a document counts as its beginning.
        samples: global sample numbers, `int64[b]`. `documents` names the rows in each.
        groups: index into `feed.groups.names`, `int64[b]`.
        weights: factor of each sample in the loss, set by `feed.loss`; mean 1 over the step where that is one
            micro-batch, else as the policy gave them.
        candidates: whether these still have to go through `feed.select`.
    """

    step: int
    micro: int
    input_ids: Tensor
    targets: Tensor
    spans: Tensor | None
    samples: Ints
    groups: Ints
    weights: Array
    candidates: bool
    world_samples: Ints
    world_groups: Ints
    store: TokenStore = field(repr=False)

    @property
    def documents(self) -> list[list[str]]:
        """Row ids of the documents that each sample touches."""
        cut = self.store.samples(self.input_ids.shape[1])
        return [[self.store.id(d) for d in cut.documents(int(s))] for s in self.samples]


@dataclass(frozen=True)
class Trained:
    """What the last step trained on, over all ranks; losses in nats a token."""

    step: int
    samples: Ints
    groups: Ints
    losses: Array
    weights: Array
    mixture: Array
    keep: float


def check_weights(weights: Array, shape: tuple[int, ...], step: int) -> None:
    fine = weights.shape == shape and np.isfinite(weights).all() and (weights >= 0).all() and weights.any()
    if not fine:
        raise WorkFailed(
            "the policy's weights are not usable", where=f"step {step}", got=weights.ravel()[:16].tolist()
        )


def check_finite(losses: Array, batch: Batch) -> None:
    if not np.isfinite(losses).all():
        raise WorkFailed("the loss is not finite", where=f"step {batch.step}", hint="lower the learning rate")


def group_means(values: Array, groups: Ints, counts: Array) -> Array:
    """Mean of samples' values by group, NaN where `counts` is 0."""
    total = np.bincount(groups, weights=values, minlength=len(counts))
    return np.divide(total, counts, out=np.full(len(counts), np.nan), where=counts > 0)
