"""How like the target a document is."""

from __future__ import annotations

from functools import cache, partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute
from daft import DataFrame, Expression, col
from numpy.typing import NDArray
from pydantic import Field

from tillage.core.errors import UserError
from tillage.kernels.likeness import count_features, likeness, log_ratio
from tillage.ops.base import Corpus, operator
from tillage.ops.select import unit_hash
from tillage.ops.texts import file_fingerprint, read_texts
from tillage.ops.udf import measure, with_measure

pc: Any = pyarrow.compute  # its functions are made at run time
_WEIGHTS = "weights.npy"


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
