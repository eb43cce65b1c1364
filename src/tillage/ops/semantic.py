"""Removal of documents that say the same as another one, in other words, by embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Self

import numpy as np
import pyarrow as pa
from daft import Expression
from pydantic import Field, model_validator

from tillage.core.errors import UserError
from tillage.kernels.arrow import string_array
from tillage.kernels.embedding import DIMENSIONS, LIMIT, embed, require_model, some
from tillage.kernels.lsh import COSINE, Keys, Sketches
from tillage.kernels.planes import MAX_BITS, MAX_PASSES, passes_needed, plane_passes
from tillage.ops.base import operator
from tillage.ops.dedup import Dedup, fixed_rows
from tillage.ops.udf import measure

_RECALL = 0.99


@operator
class SemanticDedup(Dedup):
    """Keep one of each cluster of documents whose embeddings are nearly the same: the same in other words.

    Candidates are on the same sides of random hyperplanes, and join if the cosine of their embeddings reaches
    the threshold: no clusters are fitted, so rows that come later change no earlier pair. The order of words
    does not count, and only the head of a text is read: take it after `minhash_dedup`. Texts in languages
    that the model does not know (it knows English best) stay. Needs the extra `embed`.
    """

    source = (
        "Abbas et al. 2023 (SemDeDup), arXiv 2303.09540, with hyperplanes (Charikar 2002, doi "
        "10.1145/509907.509965) in place of k-means"
    )
    noun = "semantic_duplicate"
    alike = "of its cluster"
    how = COSINE

    threshold: float = Field(default=0.95, gt=0, lt=1, description="least cosine of two embeddings that join")
    min_words: int = Field(default=8, ge=1, description="texts with fewer words are not compared")
    limit: int = Field(default=LIMIT, ge=1, description="characters read of each text")
    planes: int = Field(
        default=20,
        ge=1,
        le=MAX_BITS,
        description="planes a pass; more mean fewer pairs and more passes",
    )

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        try:
            passes_needed(self.threshold, self.planes, _RECALL)
        except ValueError as error:
            raise UserError(
                "the threshold is too low for so many planes",
                where=self.name,
                got=error,
                expected=f"at most {MAX_PASSES} passes",
                hint="fewer planes, or a higher threshold",
            ) from error
        return self

    def sketch(self) -> Expression:
        require_model()
        sign = partial(_sketch, limit=self.limit, min_words=self.min_words)
        return measure(sign, pa.large_binary())

    def shape(self) -> tuple[type[np.unsignedinteger], int]:
        return np.uint8, DIMENSIONS

    def passes(self, sketches: Sketches) -> tuple[Sequence[Keys], int]:
        keys = plane_passes(sketches, self.threshold, self.planes, _RECALL)
        return keys, round(self.threshold * 1_000_000)


def _sketch(texts: pa.Array, limit: int, min_words: int) -> pa.Array:
    heads = [(text or "")[:limit] for text in string_array(texts).to_pylist()]
    long = np.array([len(head.split(None, min_words)) >= min_words for head in heads], bool)
    sketches = embed(pa.array(heads, pa.large_string()), limit)
    return fixed_rows(sketches.view(np.uint8), pa.array(some(sketches) & long))
