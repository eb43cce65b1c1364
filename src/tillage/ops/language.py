"""The language of a text."""

from __future__ import annotations

from pathlib import Path
from typing import Self

import pyarrow as pa
from daft import DataFrame, Expression, col
from pydantic import Field

from tillage.kernels.language import detect
from tillage.ops.base import Annotate, Filter, operator
from tillage.ops.udf import below, with_measures


@operator
class Language(Annotate):
    """Name the language of each text (`lang`) and its probability (`lang_score`) with fastText's lid.176."""

    source = "Joulin et al. 2016, arXiv 1607.01759; model lid.176.ftz (CC-BY-SA-3.0)"

    @classmethod
    def meanings(cls) -> dict[str, str]:
        return {
            "lang": "language code (ISO 639-1, else 639-3); null without a letter",
            "lang_score": "probability of that language, 0 to 1",
        }

    def writes(self) -> dict[str, pa.DataType]:
        return {"lang": pa.large_string(), "lang_score": pa.float64()}

    def apply(self, frame: DataFrame, artifact: Path | None = None) -> DataFrame:
        return with_measures(frame, _detect, self.writes())


@operator
class LanguageFilter(Filter):
    """Keep documents in the given languages; those without a letter have no language and are dropped."""

    source = "Wenzek et al. 2020 (CCNet), arXiv 1911.00359"

    keep: tuple[str, ...] = Field(min_length=1, description="language codes to keep, such as en, de, zh")
    min_score: float = Field(default=0.5, ge=0, le=1, description="least probability of the language")

    @classmethod
    def example(cls) -> Self:
        return cls(keep=("en", "zh"))

    def requires(self) -> tuple[Annotate, ...]:
        return (Language(),)

    def reasons(self) -> dict[str, Expression]:
        return {
            "no_language": col("text").not_null() & col("lang").is_null(),
            "other_language": ~col("lang").is_in(list(self.keep)),
            "uncertain_language": below("lang_score", self.min_score),
        }

    def reads(self) -> frozenset[str]:
        return frozenset({"text", "lang", "lang_score"})


def _detect(texts: pa.Array) -> dict[str, pa.Array]:
    codes, scores = detect(texts)
    return {"lang": codes, "lang_score": scores}
