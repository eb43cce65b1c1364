"""Scores of classifiers that the user brings: fastText files and Hugging Face folders."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
from daft import DataFrame, Expression
from pydantic import Field, model_validator

from tillage.core.errors import UserError, nearest
from tillage.data.schema import BASE
from tillage.kernels.fasttext_model import fasttext_labels, fasttext_scores
from tillage.ops.base import Filter, operator
from tillage.ops.hf_model import hf_labels, hf_scores
from tillage.ops.texts import model_fingerprint
from tillage.ops.udf import above, below, with_measure


class Classifier(Filter):
    """Base: one column with a classifier's score, and bounds for it."""

    model: Path = Field(description="the file of the model")
    label: str = Field(description="the label whose probability is the score")
    column: str = Field(
        default="classifier_score",
        pattern=r"^[a-z][a-z0-9_]*$",
        description="the column to write the score to",
    )
    min: float | None = Field(default=None, description="least score that is kept")
    max: float | None = Field(default=None, description="largest score that is kept")

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if self.column in BASE.names:
            raise UserError("the column belongs to the rows", where=self.name, got=f"column: {self.column}")
        if self.min is not None and self.max is not None and self.min > self.max:
            got = f"min {self.min}, max {self.max}"
            raise UserError("no score lies within the bounds", where=self.name, got=got)
        return self

    def canonical(self) -> Any:
        return {**super().canonical(), "model": model_fingerprint(self.model)}

    @classmethod
    def meanings(cls) -> dict[str, str]:
        return {cls.model_fields["column"].default: "score of the label; null without text"}

    def reads(self) -> frozenset[str]:
        return frozenset({"text"})

    def reasons(self) -> dict[str, Expression]:
        reasons: dict[str, Expression] = {}
        if self.min is not None:
            reasons["low_score"] = below(self.column, self.min)
        if self.max is not None:
            reasons["high_score"] = above(self.column, self.max)
        return reasons


@operator
class FasttextClassifier(Classifier):
    """Score each text with a supervised fastText model (.bin or .ftz): the probability of one label.

    It is how DCLM's and similar quality classifiers are given to others. Line breaks become spaces.
    """

    source = (
        "Joulin et al. 2016, arXiv 1607.01759; as a quality filter: Li et al. 2024 (DCLM), arXiv 2406.11794"
    )

    limit: int = Field(default=20_000, ge=1, description="characters read of each text")

    @classmethod
    def example(cls) -> Self:
        return cls(model=Path("quality.bin"), label="high", min=0.5, max=1.0)

    def writes(self) -> dict[str, pa.DataType]:
        return {self.column: pa.float64()}

    def apply(self, frame: DataFrame, artifact: Path | None = None) -> DataFrame:
        labels = fasttext_labels(self.model)
        if self.label not in labels:
            hint = nearest(self.label, labels)
            raise UserError(f"the model has no label {self.label!r}", where=self.model, hint=hint)
        score = partial(fasttext_scores, path=str(self.model), label=self.label, limit=self.limit)
        return with_measure(frame, self.column, score, pa.float64())


@operator
class HfClassifier(Classifier):
    """Score each text with a Hugging Face sequence classifier in a local folder.

    The score is the probability of one label; of a model with a single output, such as the FineWeb-Edu
    classifier, that output itself. Nothing is downloaded. Needs the extras `hf` and `train`.
    """

    source = "as a quality filter: Penedo et al. 2024 (FineWeb-Edu), arXiv 2406.17557, section 4"

    model: Path = Field(description="folder of the model and its tokenizer, as save_pretrained writes them")
    label: str = Field(
        default="", description="the label whose probability is the score; empty for a model with one output"
    )
    max_tokens: int = Field(
        default=512, ge=2, description="tokens read of each text, as far as the model goes"
    )
    batch: int = Field(
        default=1,
        ge=1,
        description="texts at a time; more is faster on a GPU, and last digits then depend on the neighbours",
    )

    @classmethod
    def example(cls) -> Self:
        return cls(model=Path("classifier"), label="good", min=0.5, max=1.0)

    def writes(self) -> dict[str, pa.DataType]:
        return {self.column: pa.float32()}

    def apply(self, frame: DataFrame, artifact: Path | None = None) -> DataFrame:
        labels = hf_labels(self.model)
        if self.label not in labels:
            raise UserError(
                f"the model has no label {self.label!r}" if self.label else "no label named",
                where=self.model,
                hint=nearest(self.label, labels) if labels != [""] else "it has one output: leave label out",
            )
        score = partial(
            hf_scores, path=str(self.model), label=self.label, max_tokens=self.max_tokens, batch=self.batch
        )
        return with_measure(frame, self.column, score, pa.float32())
