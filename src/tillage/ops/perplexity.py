"""How well a model of reference texts predicts each text."""

from __future__ import annotations

from functools import lru_cache, partial
from pathlib import Path
from threading import Lock
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute
from daft import DataFrame, Expression
from pydantic import Field, model_validator

from tillage.core.errors import UserError
from tillage.kernels.hashing import hash_strings
from tillage.kernels.ngram_lm import MAX_BYTES, NgramModel
from tillage.ops.base import Filter, operator
from tillage.ops.texts import file_fingerprint, read_texts
from tillage.ops.udf import above, below, with_measure

pc: Any = pyarrow.compute  # its functions are made at run time
_lock = Lock()


@operator
class Perplexity(Filter):
    """Measure the perplexity of each text under a byte n-gram model of reference texts; drop beyond bounds.

    It is per byte: 2 to the power of bits per byte, 1 and more; low for texts like the reference. Without
    bounds it only measures: cut at quantiles with `quantile`, as CCNet does by language.
    """

    source = "Wenzek et al. 2020 (CCNet), arXiv 1911.00359, section 4.2; smoothing of Witten and Bell 1991"

    reference: Path = Field(
        description="JSONL, Parquet or text file of texts to learn from, such as the target"
    )
    field: str = Field(default="text", description="field that holds the text in that file")
    max: float | None = Field(default=None, ge=1, description="largest perplexity that is kept")
    min: float | None = Field(
        default=None, ge=1, description="least perplexity; below are boilerplate and copies"
    )
    order: int = Field(default=6, ge=1, le=7, description="bytes of the longest n-gram")
    limit: int = Field(default=8000, ge=1, description="bytes read of each text")
    reference_bytes: int = Field(
        default=16 << 20,
        ge=1,
        le=MAX_BYTES,
        description="most bytes of the reference that are learnt from, of texts chosen by hash",
    )

    @model_validator(mode="after")
    def _bounds(self) -> Self:
        if self.min is not None and self.max is not None and self.min >= self.max:
            raise UserError("no perplexity lies within the bounds", got=f"min {self.min}, max {self.max}")
        return self

    @classmethod
    def example(cls) -> Self:
        return cls(reference=Path("reference.jsonl"), max=8.0, min=1.2)

    def canonical(self) -> Any:
        return {**super().canonical(), "reference": file_fingerprint(self.reference)}

    @classmethod
    def meanings(cls) -> dict[str, str]:
        return {"perplexity": "perplexity a byte under the reference's model; null without text"}

    def reads(self) -> frozenset[str]:
        return frozenset({"text"})

    def writes(self) -> dict[str, pa.DataType]:
        return {"perplexity": pa.float64()}

    def apply(self, frame: DataFrame, artifact: Path | None = None) -> DataFrame:
        score = partial(
            _perplexity,
            path=str(self.reference),
            content=file_fingerprint(self.reference),
            field=self.field,
            order=self.order,
            limit=self.limit,
            reference_bytes=self.reference_bytes,
        )
        return with_measure(frame, "perplexity", score, pa.float64())

    def reasons(self) -> dict[str, Expression]:
        reasons: dict[str, Expression] = {}
        if self.max is not None:
            reasons["unlike_reference"] = above("perplexity", self.max)
        if self.min is not None:
            reasons["too_predictable"] = below("perplexity", self.min)
        return reasons


def _perplexity(
    texts: pa.Array, path: str, content: str, field: str, order: int, limit: int, reference_bytes: int
) -> pa.Array:
    with _lock:  # or each thread would train a model of its own
        model = _model(path, content, field, order, reference_bytes)
    heads = pc.binary_slice(texts.cast(pa.large_binary()), 0, limit)
    sizes = pc.fill_null(pc.binary_length(heads), 0).to_numpy(zero_copy_only=False)
    bits = model.bits(heads)
    return pa.array(np.exp2(bits / np.maximum(sizes, 1)), mask=sizes == 0)


@lru_cache(maxsize=4)
def _model(path: str, content: str, field: str, order: int, limit: int) -> NgramModel:
    if file_fingerprint(Path(path)) != content:
        raise UserError("the file changed while the recipe ran", where=path)
    texts = read_texts(Path(path), field)
    sizes = pc.binary_length(texts).to_numpy()
    if int(sizes.sum()) > limit:
        # By the hash of the text alone: the order of the file does not matter.
        order_of = np.argsort(hash_strings(texts), kind="stable")
        within = int(np.searchsorted(np.cumsum(sizes[order_of]), limit, side="right"))
        if within == 0:
            raise UserError("no text of the reference fits", where=path, got=f"reference_bytes: {limit}")
        texts = texts.take(pa.array(order_of[:within]))
    return NgramModel(order).train(texts)
