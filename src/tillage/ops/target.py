"""What a document has to do with the target: how like it is, and whether it gives it away."""

from __future__ import annotations

from functools import cache, partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute
from daft import DataFrame, Expression, col, lit
from numpy.typing import NDArray
from pydantic import Field

from tillage.core.errors import UserError
from tillage.kernels.likeness import count_features, likeness, log_ratio
from tillage.kernels.overlap import MAX_DOCUMENTS, NgramSet, common, matches, ngram_set, uncommon
from tillage.ops.base import Corpus, Decisions, operator
from tillage.ops.select import unit_hash
from tillage.ops.texts import file_fingerprint, read_texts
from tillage.ops.udf import above, measure, with_measure, without

pc: Any = pyarrow.compute  # its functions are made at run time
_WEIGHTS = "weights.npy"


@operator
class Decontaminate(Corpus):
    """Drop documents that share a word n-gram with an evaluation file; `overlap_ngrams` counts them.

    N-grams that many documents of the corpus have are boilerplate, such as licences, and do not count.
    """

    source = "Brown et al. 2020 (GPT-3), arXiv 2005.14165, appendix C"
    version = 2

    against: Path = Field(description="JSONL, Parquet or text file of the texts that must not be trained on")
    field: str = Field(default="text", description="field that holds the text in that file")
    ngram: int = Field(
        default=13, ge=1, le=255, description="words an n-gram; shorter texts count as a whole"
    )
    min_words: int = Field(default=5, ge=1, description="texts shorter than this are not looked for")
    max_overlap: int = Field(default=0, ge=0, description="most n-grams in common that are let through")
    max_documents: int = Field(
        default=MAX_DOCUMENTS, ge=1, description="an n-gram that more documents of the corpus have is ignored"
    )

    @classmethod
    def example(cls) -> Self:
        return cls(against=Path("evaluation.jsonl"))

    def canonical(self) -> Any:
        return {**super().canonical(), "against": file_fingerprint(self.against)}

    @classmethod
    def meanings(cls) -> dict[str, str]:
        return {"overlap_ngrams": "distinct word n-grams in common with the file, boilerplate left out"}

    def writes(self) -> dict[str, pa.DataType]:
        return {"overlap_ngrams": pa.int64()}

    def keys(self) -> dict[str, Expression]:
        known = partial(
            _matches,
            path=str(self.against),
            content=file_fingerprint(self.against),
            field=self.field,
            ngram=self.ngram,
            min_words=self.min_words,
        )
        return {"_overlap": measure(known, pa.list_(pa.int64()))}

    def fit(self, frame: DataFrame, artifact: Path) -> None:
        table = frame.where(col("_overlap").length() > lit(0)).select("id", "_overlap").to_arrow()
        found = table.column("_overlap")
        counts = uncommon(found, common(found, self.max_documents))
        ids = table.column("id").cast(pa.large_string())
        Decisions.write(artifact, pa.table({"id": ids, "overlap_ngrams": counts}))

    def apply(self, frame: DataFrame, artifact: Path | None = None) -> DataFrame:
        if artifact is None:
            raise UserError("decontaminate was applied without being fitted to the corpus")
        joined = Decisions.join(without(frame, "overlap_ngrams"), artifact)
        return joined.with_column("overlap_ngrams", col("overlap_ngrams").fill_null(lit(0)))

    def reasons(self) -> dict[str, Expression]:
        return {"overlap": above("overlap_ngrams", self.max_overlap)}


@operator
class TargetLikeness(Corpus):
    """Score how like the target each text is (`target_score`, above 0.5 more like it than like the corpus).

    `fit` counts hashed words and word pairs of the target file and of a sample of the corpus.
    """

    source = "Xie et al. 2023 (DSIR), arXiv 2302.03169; Li et al. 2024 (DCLM), arXiv 2406.11794"

    target: Path = Field(description="JSONL, Parquet or text file of target texts")
    field: str = Field(default="text", description="field that holds the text in that file")
    sample: int = Field(default=20_000, ge=1, description="most documents of the corpus to compare with")
    buckets: int = Field(default=18, ge=8, le=24, description="power of two of the number of hash buckets")
    words: int = Field(default=2000, ge=1, description="words read of each text")
    seed: int = Field(default=0, ge=0, description="seed of the sample")

    @classmethod
    def example(cls) -> Self:
        return cls(target=Path("target.jsonl"))

    def canonical(self) -> Any:
        return {**super().canonical(), "target": file_fingerprint(self.target)}

    @classmethod
    def meanings(cls) -> dict[str, str]:
        return {"target_score": "likeness to the target, 0 to 1; above 0.5 more like it than like the corpus"}

    def writes(self) -> dict[str, pa.DataType]:
        return {"target_score": pa.float32()}

    def keys(self) -> dict[str, Expression]:
        return {"_chance": measure(partial(unit_hash, seed=self.seed), pa.float64(), "id")}

    def fit(self, frame: DataFrame, artifact: Path) -> None:
        # Two passes: the sample is chosen by ids alone, so that only its texts are ever held.
        frame = frame.where(col("text").not_null())
        chances = pc.sort_indices(chosen := frame.select("_chance", "id").to_arrow(), sort_keys=_BY_CHANCE)
        raw = np.zeros(1 << self.buckets, np.int64)
        if len(chosen):
            last = chosen.column("_chance")[chances[min(self.sample, len(chosen)) - 1].as_py()].as_py()
            for batch in frame.where(col("_chance") <= last).select("text").to_arrow_iter():
                raw += count_features(batch.column(0), len(raw), self.words)
        target = count_features(read_texts(self.target, self.field), len(raw), self.words)
        np.save(artifact / _WEIGHTS, log_ratio(target, raw), allow_pickle=False)

    def apply(self, frame: DataFrame, artifact: Path | None = None) -> DataFrame:
        if artifact is None:
            raise UserError("target_likeness was applied without being fitted to the corpus")
        score = partial(_likeness, path=str(artifact / _WEIGHTS), words=self.words)
        return with_measure(frame, "target_score", score, pa.float32())


_BY_CHANCE = [("_chance", "ascending"), ("id", "ascending")]


def _likeness(texts: pa.Array, path: str, words: int) -> pa.Array:
    return likeness(texts, _weights(path, Path(path).stat().st_mtime_ns), words)


@cache
def _weights(path: str, modified: int) -> NDArray[np.float32]:
    del modified  # only there so that a file written anew is read anew
    return np.load(path, allow_pickle=False)


def _matches(texts: pa.Array, path: str, content: str, field: str, ngram: int, min_words: int) -> pa.Array:
    return matches(texts, _known(path, content, field, ngram, min_words))


@cache
def _known(path: str, content: str, field: str, ngram: int, min_words: int) -> NgramSet:
    if file_fingerprint(Path(path)) != content:
        raise UserError("the file changed while the recipe ran", where=path)
    return ngram_set(read_texts(Path(path), field), ngram, min_words)
