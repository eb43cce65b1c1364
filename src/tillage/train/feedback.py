"""What training says about the data: the utilities that the planner gets as evidence.

The measure is the excess loss of a document: the loss of a model trained on raw data minus the loss of a
model trained for the target, in nats a token (Moore and Lewis 2010; RHO-1, arXiv 2404.07965, scores tokens
so). Positive means that the document is like the target and worth training on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from tillage.core.errors import UserError
from tillage.core.events import Utility
from tillage.core.stats import mean_interval
from tillage.train.evaluate import Model, Target, document_nats
from tillage.train.tokens import Floats, Tokenizer

LEAST = 8
"""A group of fewer documents is left out: its interval would say little, and look as if it said much."""


@dataclass(frozen=True)
class Document:
    """A document to score. `dropped` is the `step:reason` that dropped it, None if it was kept."""

    id: str
    text: str
    domain: str
    measurements: Mapping[str, float] = field(default_factory=dict[str, float])
    dropped: str | None = None


def excess_losses(
    general: Model,
    targeted: Model,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    seq_len: int,
    limit: int = 1024,
) -> tuple[Floats, Floats]:
    """Excess loss of each text in nats a token, and the tokens it rests on; NaN for empty texts.

    Args:
        general: model trained on raw data. targeted: model trained for the target. Both with `tokenizer`.
        limit: only the first so many tokens of a text are scored, which bounds the cost of long ones.
    """
    encoded = [ids[:limit] for ids in tokenizer.encode(texts)]
    count = np.asarray([len(ids) for ids in encoded], dtype=np.float64)
    excess = np.full(len(texts), np.nan)
    used = np.flatnonzero(count)
    if not len(used):
        return excess, count
    # Each document is padded to whole blocks, so that its context never comes from its neighbours.
    pieces: list[npt.NDArray[np.uint32]] = []
    starts = [0]
    for i in used:
        blocks = -(-(len(encoded[i]) + 1) // seq_len)
        padded = np.full(blocks * seq_len, tokenizer.eos, dtype=np.uint32)
        padded[: len(encoded[i])] = encoded[i]
        pieces.append(padded)
        starts.append(starts[-1] + len(padded))
    stream = Target(
        "documents",
        np.concatenate(pieces),
        np.ones(len(used), dtype=np.int64),
        np.asarray(starts),
        tokenizer.eos,
    )
    gap = document_nats(general, stream, seq_len) - document_nats(targeted, stream, seq_len)
    excess[used] = gap / count[used]
    return excess, count


def measure_utility(
    result_model: Model,
    reference_model: Model,
    tokenizer: Tokenizer,
    documents: Sequence[Document],
    *,
    seq_len: int = 256,
    buckets: int = 4,
    limit: int = 1024,
) -> list[Utility]:
    """Utilities by domain, by quantile bucket of each measurement and by reason of dropping.

    Domains and buckets are relative to the mean of all kept documents: above zero is better than the average
    document. Dropped documents are relative to the same mean: above zero, dropping them lost something.

    Args:
        result_model: a model trained on raw (or current) data. reference_model: one trained on the target.
        buckets: quantile buckets of a measurement; fewer where values repeat.

    Returns:
        kind "domain" (key: domain), "bucket" (key: `name[low,high)`), "dropped" (key: `step:reason`).
    """
    if not documents:
        raise UserError("there are no documents to measure", expected="a sample of kept and dropped rows")
    excess, _ = excess_losses(
        result_model, reference_model, tokenizer, [d.text for d in documents], seq_len, limit
    )
    known = np.isfinite(excess)
    kept = np.asarray([d.dropped is None for d in documents]) & known
    base = float(excess[kept].mean()) if kept.any() else float(excess[known].mean())
    value = excess - base
    found: list[Utility] = []

    def add(kind: str, key: str, mask: npt.NDArray[np.bool_]) -> None:
        if int(mask.sum()) >= LEAST:
            over = mean_interval(value[mask].tolist())
            found.append(
                Utility(kind, key, round(over.mean, 5), round(over.low, 5), round(over.high, 5), over.n)
            )

    for domain in sorted({d.domain for d in documents}):
        add("domain", domain, kept & np.asarray([d.domain == domain for d in documents]))
    for name in sorted({name for d in documents for name in d.measurements}):
        numbers = np.asarray([d.measurements.get(name, np.nan) for d in documents], dtype=np.float64)
        usable = kept & np.isfinite(numbers)
        if usable.sum() < LEAST:
            continue
        edges = np.unique(np.quantile(numbers[usable], np.linspace(0, 1, buckets + 1)))
        for i, (low, high) in enumerate(pairwise(edges.tolist())):
            last = i == len(edges) - 2
            inside = usable & (numbers >= low) & ((numbers <= high) if last else (numbers < high))
            add("bucket", f"{name}[{low:.4g},{high:.4g}{']' if last else ')'}", inside)
    for reason in sorted({d.dropped for d in documents if d.dropped is not None}):
        add("dropped", reason, known & np.asarray([d.dropped == reason for d in documents]))
    return found
