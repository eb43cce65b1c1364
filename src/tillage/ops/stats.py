"""Text statistics: what filters, searches and training read instead of the text."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pyarrow as pa
from daft import DataFrame
from pydantic import Field, field_validator

from tillage.core.errors import UserError, nearest
from tillage.kernels.repetition import REPETITION, repetition
from tillage.kernels.text_stats import STATS, text_stats
from tillage.ops.base import Annotate, operator
from tillage.ops.udf import with_measures

MEASURES = {**STATS, **REPETITION}
"""Every column that `TextStats` can measure -> Arrow type and meaning."""


@operator
class TextStats(Annotate):
    """Measure words, lines, symbols, character classes and repetition of each text in compiled passes."""

    version = 3
    source = "Rae et al. 2021 (Gopher), arXiv 2112.11446, table A1; Raffel et al. 2020 (C4), arXiv 1910.10683"

    measures: tuple[str, ...] = Field(
        default=tuple(MEASURES), description="which measurements to add as columns"
    )

    @field_validator("measures")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in MEASURES:
                raise UserError(
                    f"unknown measurement {name!r}",
                    where="text_stats: measures",
                    hint=nearest(name, MEASURES),
                )
        if not names:
            raise UserError("no measurement named", where="text_stats: measures", expected="at least one")
        return tuple(name for name in MEASURES if name in names)

    @classmethod
    def meanings(cls) -> dict[str, str]:
        return {name: meaning for name, (_, meaning) in MEASURES.items()}

    def writes(self) -> dict[str, pa.DataType]:
        return {name: MEASURES[name][0] for name in self.measures}

    def apply(self, frame: DataFrame, artifact: Path | None = None) -> DataFrame:
        return with_measures(frame, partial(_measure, names=self.measures), self.writes())

    def merge(self, other: Annotate) -> Annotate | None:
        if not isinstance(other, TextStats):
            return None
        return TextStats(measures=self.measures + other.measures)


def _measure(texts: pa.Array, names: tuple[str, ...]) -> dict[str, pa.Array]:
    columns: dict[str, pa.Array] = {}
    if any(name in STATS for name in names):
        columns |= text_stats(texts)
    if any(name in REPETITION for name in names):
        columns |= repetition(texts)
    return {name: columns[name] for name in names}
