"""The line-wise corrections of RefinedWeb (Penedo et al. 2023, arXiv 2306.01116, appendix G.2)."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pyarrow as pa
from daft import DataFrame, Expression, col, lit
from daft.functions import when
from pydantic import Field

from tillage.kernels.refinedweb import correct_lines
from tillage.ops.base import Map, operator, settled
from tillage.ops.udf import above, with_measures


@operator
class RefinedwebLines(Map):
    """Drop lines that are one word, a number, a counter or upper case; drop pages that lose much by it.

    From lines of at most ten words "sign in", "read more" and "items in cart" are removed. A page that loses
    a larger share of its words than `max_removed` is dropped as it was; `removed_words` keeps the share.
    """

    source = (
        "Penedo et al. 2023 (RefinedWeb), arXiv 2306.01116, appendix G.2; bounds of Li et al. 2024 "
        "(DataComp-LM), arXiv 2406.11794"
    )

    rewrites_messages = False

    max_upper: float = Field(
        default=0.5, ge=0, le=1, description="largest share of upper-case characters in a line"
    )
    max_removed: float = Field(
        default=0.05, ge=0, le=1, description="largest share of its words that a page may lose"
    )

    @classmethod
    def meanings(cls) -> dict[str, str]:
        return {"removed_words": "share of the words that the corrections remove"}

    def writes(self) -> dict[str, pa.DataType]:
        return {**super().writes(), "removed_words": pa.float64()}

    def apply(self, frame: DataFrame, artifact: Path | None = None) -> DataFrame:
        types = {"_corrected": pa.large_string(), "removed_words": pa.float64()}
        frame = with_measures(frame, partial(_correct, max_upper=self.max_upper), types)
        chosen = col("_drop").is_null() & (col("removed_words") <= lit(self.max_removed))
        text = when(chosen, col("_corrected")).otherwise(col("text"))
        return settled(frame.with_column("text", text).exclude("_corrected"))

    def reasons(self) -> dict[str, Expression]:
        return {"much_removed": above("removed_words", self.max_removed)}


def _correct(texts: pa.Array, max_upper: float) -> dict[str, pa.Array]:
    corrected, removed = correct_lines(texts, max_upper)
    return {"_corrected": corrected, "removed_words": removed}
