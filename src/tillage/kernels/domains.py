"""Whether a document's words agree with its domain's: naive Bayes against the others, cross-fitted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tillage.kernels.likeness import count_features, likeness, log_ratio

LEAST_DOCUMENTS = 20
MOST_DOMAINS = 64
FOLDS = 2

Counts = dict[tuple[str, int], NDArray[np.int64]]
"""(domain, fold) -> how often each bucket of words and pairs occurs."""


def count_domains(
    texts: pa.Array, domains: Sequence[str], folds: NDArray[np.int64], counts: Counts, rows: dict[str, int]
) -> None:
    """Add texts to the counts of their domain and fold, and to the `rows` of their domain."""
    names = np.array(list(domains), dtype=object)
    for name in sorted(set(domains)):
        mine = names == name
        if name not in rows and len(rows) >= MOST_DOMAINS:
            continue
        rows[name] = rows.get(name, 0) + int(mine.sum())
        for fold in range(FOLDS):
            chosen = texts.filter(pa.array(mine & (folds == fold)))
            found = count_features(chosen)
            counts[name, fold] = counts[name, fold] + found if (name, fold) in counts else found


def domain_margins(
    texts: pa.Array, domains: Sequence[str], folds: NDArray[np.int64], counts: Counts, rows: dict[str, int]
) -> NDArray[np.float64]:
    """Mean log ratio a feature of a text's own domain against all others, by the other fold, in nats.

    Below zero the words speak for another domain. NaN for texts without words, and for domains of fewer than
    `LEAST_DOCUMENTS` documents or where there is no other one.
    """
    names = np.array(list(domains), dtype=object)
    large = [name for name in sorted(rows) if rows[name] >= LEAST_DOCUMENTS]
    out = np.full(len(texts), np.nan)
    if len(large) < 2:
        return out
    for fold in range(FOLDS):
        other = 1 - fold
        for name in large:
            mine = (names == name) & (folds == fold)
            if not mine.any():
                continue
            rest = sum((counts[n, other] for n in large if n != name), np.zeros_like(counts[name, other]))
            weights = log_ratio(counts[name, other], rest)
            scores = likeness(texts.filter(pa.array(mine)), weights).cast(pa.float64())
            share = np.asarray(scores.fill_null(float("nan")), np.float64).clip(1e-7, 1 - 1e-7)
            out[mine] = np.log(share / (1 - share))
    return out
