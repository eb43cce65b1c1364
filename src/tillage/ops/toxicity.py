"""Toxic language: by lists of words, and by a small trained classifier."""

from __future__ import annotations

import importlib
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import pyarrow as pa
from daft import DataFrame, Expression
from pydantic import Field, model_validator

from tillage.core.errors import UserError
from tillage.data.toxic import LEVELS, built_in, read_words, toxic_counts, toxic_ratio
from tillage.ops.base import Filter, operator
from tillage.ops.texts import file_fingerprint
from tillage.ops.udf import above, with_measures

_lock = Lock()


@operator
class ToxicWords(Filter):
    """Count words of a list of toxic words; drop texts that have too many of them.

    The built-in list is short, mostly English, in three levels: mild, strong, slurs against groups of people.
    It cannot tell use from mention: novels, court records and studies of abuse have such words too.
    """

    source = "Raffel et al. 2020 (C4), arXiv 1910.10683, section 2.2 (word list), as a share of the words"

    words: Path | None = Field(
        default=None,
        description="text file of further words or phrases, one a line, a tab and the level 1 to 3 after it",
    )
    built_in: bool = Field(default=True, description="whether the built-in list counts")
    level: int = Field(default=2, ge=1, le=LEVELS, description="least level that counts in `toxic_ratio`")
    max_ratio: float = Field(default=0.01, ge=0, le=1, description="largest share of toxic words")
    max_slurs: int | None = Field(default=None, ge=0, description="most words of level 3; no bound if empty")

    @model_validator(mode="after")
    def _some(self) -> ToxicWords:
        if not self.built_in and self.words is None:
            raise UserError("there is no list of words", where=self.name, expected="words, or built_in: true")
        return self

    def canonical(self) -> Any:
        own = None if self.words is None else file_fingerprint(self.words)
        return {**super().canonical(), "words": own}

    @classmethod
    def meanings(cls) -> dict[str, str]:
        return {
            "toxic_ratio": "share of the words that stand in the list, of the least level and above",
            "toxic_words": "words that stand in the list, of any level",
            "toxic_slurs": "words that stand in the list, of level 3",
        }

    def reads(self) -> frozenset[str]:
        return frozenset({"text"})

    def writes(self) -> dict[str, pa.DataType]:
        return {"toxic_ratio": pa.float64(), "toxic_words": pa.int64(), "toxic_slurs": pa.int64()}

    def apply(self, frame: DataFrame, artifact: Path | None = None) -> DataFrame:
        levels = {**(built_in() if self.built_in else {}), **(read_words(self.words) if self.words else {})}
        count = partial(_count, phrases=tuple(levels.items()), level=self.level)
        return with_measures(frame, count, self.writes())

    def reasons(self) -> dict[str, Expression]:
        reasons = {"toxic": above("toxic_ratio", self.max_ratio)}
        if self.max_slurs is not None:
            reasons["slurs"] = above("toxic_slurs", self.max_slurs)
        return reasons


@operator
class Profanity(Filter):
    """Score how toxic texts are with a linear classifier trained on comments; drop toxic ones.

    Texts are judged in pieces, since it was trained on short comments: `profanity` is the probability of the
    worst piece, `profane_share` the share of pieces more likely toxic than not. English. A classifier of your
    own comes with `fasttext_classifier` or `hf_classifier`. Needs the extra `toxicity`.
    """

    source = (
        "alt-profanity-check (MIT), linear SVM over 200,000 labelled comments; calibrated as in Platt 1999"
    )

    piece: int = Field(default=50, ge=1, description="words of a piece")
    max_pieces: int = Field(default=40, ge=1, description="pieces judged of each text, from its beginning")
    max_share: float = Field(default=0.2, ge=0, le=1, description="largest share of profane pieces")

    @classmethod
    def meanings(cls) -> dict[str, str]:
        return {
            "profanity": "probability that the worst piece is toxic; null without words",
            "profane_share": "share of the pieces that are more likely toxic than not; null without words",
        }

    def reads(self) -> frozenset[str]:
        return frozenset({"text"})

    def writes(self) -> dict[str, pa.DataType]:
        return {"profanity": pa.float64(), "profane_share": pa.float64()}

    def apply(self, frame: DataFrame, artifact: Path | None = None) -> DataFrame:
        _classifier()
        return with_measures(frame, partial(_profane, piece=self.piece, most=self.max_pieces), self.writes())

    def reasons(self) -> dict[str, Expression]:
        return {"profane": above("profane_share", self.max_share)}


def _count(texts: pa.Array, phrases: tuple[tuple[str, int], ...], level: int) -> dict[str, pa.Array]:
    counts = toxic_counts(texts, phrases)
    return {
        "toxic_ratio": pa.array(toxic_ratio(counts, level)),
        "toxic_words": pa.array(counts[:, 1:].sum(axis=1)),
        "toxic_slurs": pa.array(counts[:, LEVELS]),
    }


def _profane(texts: pa.Array, piece: int, most: int) -> dict[str, pa.Array]:
    pieces: list[str] = []
    owners: list[int] = []
    for row, text in enumerate(texts.to_pylist()):
        words = (text or "").split(None, piece * most)[: piece * most]
        for at in range(0, len(words), piece):
            pieces.append(" ".join(words[at : at + piece]))
            owners.append(row)
    worst, profane, counts = (np.zeros(len(texts)) for _ in range(3))
    if pieces:
        chances = np.asarray(_classifier()(pieces), np.float64)
        np.maximum.at(worst, owners, chances)
        np.add.at(profane, owners, chances > 0.5)
        np.add.at(counts, owners, 1)
    none = counts == 0
    share = profane / np.maximum(counts, 1)
    return {"profanity": pa.array(worst, mask=none), "profane_share": pa.array(share, mask=none)}


def _classifier() -> Any:
    """The function texts -> probabilities; by name, since the extra is optional and slow to load."""
    with _lock:
        try:
            return importlib.import_module("profanity_check").predict_prob
        except ModuleNotFoundError as error:
            raise UserError(
                "profanity needs a classifier that is not installed", hint="pip install 'tillage[toxicity]'"
            ) from error
