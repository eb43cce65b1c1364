"""Whether the words of a text stand in an order that the corpus knows."""

from __future__ import annotations

from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from daft import DataFrame, col
from pydantic import Field

from tillage.core.errors import UserError
from tillage.kernels.word_order import count_pairs, empty_counts, word_order
from tillage.ops.base import Corpus, operator
from tillage.ops.udf import with_measure

_COUNTS = "pairs.npz"


@operator
class WordOrder(Corpus):
    """Score whether words stand in an order that the other documents know (`word_order`, nats a pair).

    Prose scores well above 0; words in any order, and what has no words in common with the others, near 0.
    Near-copies vouch for each other: deduplicate before.
    """

    source = "Church and Hanks 1990, ACL J90-1003 (mutual information of neighbouring words), leaving one out"

    words: int = Field(default=2000, ge=2, description="words read of each text")

    @classmethod
    def meanings(cls) -> dict[str, str]:
        return {
            "word_order": "how well the other documents know the order of the words; near 0 for any order"
        }

    def writes(self) -> dict[str, pa.DataType]:
        return {"word_order": pa.float64()}

    def fit(self, frame: DataFrame, artifact: Path) -> None:
        counts = empty_counts()
        for batch in frame.where(col("text").not_null()).select("text").to_arrow_iter():
            count_pairs(batch.column(0), counts, self.words)
        np.savez_compressed(artifact / _COUNTS, counts=counts)

    def apply(self, frame: DataFrame, artifact: Path | None = None) -> DataFrame:
        if artifact is None:
            raise UserError("word_order was applied without being fitted to the corpus")
        return with_measure(
            frame,
            "word_order",
            partial(_word_order, path=str(artifact / _COUNTS), words=self.words),
            pa.float64(),
        )


def _word_order(texts: pa.Array, path: str, words: int) -> pa.Array:
    return word_order(texts, _counts(path, Path(path).stat().st_mtime_ns), counted=True, limit=words)


@cache
def _counts(path: str, modified: int) -> Any:
    del modified  # only there so that a file written anew is read anew
    with np.load(path, allow_pickle=False) as stored:
        return stored["counts"]
