"""Whether texts are running language: words in an order, and words at all, that other texts know."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import daft
import numpy as np
import pyarrow as pa
from daft import DataFrame, DataType, Expression, Series, col, lit
from numpy.typing import NDArray
from pydantic import Field

from tillage.core.errors import UserError
from tillage.kernels.fluency import MEASURES, FluencyCounts, fluency, known_order, known_phrases
from tillage.ops.base import Corpus, operator, settled
from tillage.ops.select import chance, sampled, unit_hash
from tillage.ops.texts import file_fingerprint, read_texts
from tillage.ops.udf import without

_SEEN, _ABOUT = "seen.npy", "about.json"


@operator
class Fluency(Corpus):
    """Drop shuffled words, random letters and word salad: texts that are not language as the others are.

    `fluency` says how much better the order of the words is known to other texts than another order of the
    same words: about 0 for shuffled words, 0.3 and more for prose, code and notes in any language of which
    the corpus has something. `familiar_words` is the share of words that other texts, or other places of the
    text, have. Near-copies vouch for each other: deduplicate before.
    """

    source = "Brants et al. 2007, ACL D07-1090 (n-grams seen elsewhere); the control within a text is our own"

    reference: Path | None = Field(
        default=None,
        description="JSONL, Parquet or text file of fluent texts to hold against, not the corpus",
    )
    field: str = Field(default="text", description="field that holds the text in that file")
    min_fluency: float = Field(default=0.18, description="least known order of the words; below it: shuffled")
    min_familiar: float = Field(
        default=0.6,
        ge=0,
        le=1,
        description="least share of familiar words, or three quarters of the median, whichever is less",
    )
    max_salad: float = Field(
        default=0.55,
        ge=0,
        le=1,
        description="texts with nearly all pairs of words known, and fewer triples than this, are word salad",
    )
    min_words: int = Field(default=40, ge=3, description="shorter texts are measured and kept")
    mark: bool = Field(default=False, description="only add the columns, drop nothing")
    sample: int = Field(default=20_000, ge=1, description="most documents of the corpus that are counted")
    limit: int = Field(default=8000, ge=100, description="bytes read of each text")
    seed: int = Field(default=0, ge=0, description="seed of the sample")

    def canonical(self) -> Any:
        content = None if self.reference is None else file_fingerprint(self.reference)
        return {**super().canonical(), "reference": content}

    @classmethod
    def meanings(cls) -> dict[str, str]:
        return {
            "fluency": "known order of the words above that of another order; null where too little is known",
            "familiar_words": "share of words that other texts, or other places of the text, have",
            "familiar_phrases": "share of runs of three words that other texts have, about",
            "not_language": "shuffled, gibberish or salad; null for neither",
        }

    def reads(self) -> frozenset[str]:
        return frozenset({"text", "id"})

    def writes(self) -> dict[str, pa.DataType]:
        number = pa.float64()
        shares = {"familiar_words": number, "familiar_phrases": number}
        return {"fluency": number, **shares, "not_language": pa.large_string()}

    def keys(self) -> dict[str, Expression]:
        return chance(self.seed)

    def fit(self, frame: DataFrame, artifact: Path) -> None:
        counts = FluencyCounts(self.limit)
        frame = frame.where(col("text").not_null())
        if self.reference is not None:
            counts.add(read_texts(self.reference, self.field))
        last, frame = sampled(frame, self.sample)
        if self.reference is None:
            for batch in frame.select("text").to_arrow_iter():
                counts.add(batch.column(0))
        else:
            last = -1.0
        familiar = [np.zeros(0)]
        for batch in frame.select("text").to_arrow_iter():
            own = np.full(batch.num_rows, self.reference is None, np.uint8)
            measured = fluency(batch.column(0), own, counts.seen, self.limit)
            familiar.append(measured[measured[:, 0] >= self.min_words - 1, MEASURES.index("familiar")])
        every = np.concatenate(familiar)
        least = min(self.min_familiar, 0.75 * float(np.median(every))) if len(every) else 0.0
        np.save(artifact / _SEEN, counts.seen, allow_pickle=False)
        (artifact / _ABOUT).write_text(json.dumps({"last": last, "least": least}))

    def apply(self, frame: DataFrame, artifact: Path | None = None) -> DataFrame:
        if artifact is None:
            raise UserError("fluency was applied without being fitted to the corpus")
        path, op = str(artifact), self
        kinds = {name: DataType.from_arrow_type(kind) for name, kind in self.writes().items()}

        def measure(texts: Series, ids: Series) -> pa.Array:
            return op.measure(texts.to_arrow(), ids.to_arrow(), path)

        run = daft.func.batch(return_dtype=DataType.struct(kinds), unnest=True)(measure)
        frame = without(frame, *self.writes())
        return settled(frame.select("*", run(col("text"), col("id"))))

    def measure(self, texts: pa.Array, ids: pa.Array, path: str) -> pa.Array:
        """The columns of `writes()` as a struct array, by what `fit` left in the folder `path`."""
        seen, last, least = _fitted(path, (Path(path) / _SEEN).stat().st_mtime_ns)
        own = (unit_hash(ids, self.seed).to_numpy() <= last).astype(np.uint8)
        measured = fluency(texts, own, seen, self.limit)
        pairs, adjacent, _, familiar, chained = measured.T
        score = known_order(measured)
        kind = np.full(len(texts), "", object)
        long = pairs >= self.min_words - 1
        kind[long & (adjacent >= 0.93) & (chained <= self.max_salad) & (pairs >= 100)] = "salad"
        kind[long & (score < self.min_fluency)] = "shuffled"
        kind[long & (familiar < least)] = "gibberish"
        columns = [_nullable(values) for values in (score, familiar, known_phrases(measured))]
        kinds = pa.array(kind, pa.large_string(), mask=kind == "")
        return pa.StructArray.from_arrays([*columns, kinds], list(self.writes()))

    def reasons(self) -> dict[str, Expression]:
        kinds = () if self.mark else ("gibberish", "shuffled", "salad")
        return {kind: col("not_language") == lit(kind) for kind in kinds}


def _nullable(values: NDArray[np.float64]) -> pa.Array:
    return pa.array(values, mask=np.isnan(values))


@cache
def _fitted(path: str, modified: int) -> tuple[NDArray[np.uint8], float, float]:
    del modified  # only there so that a file written anew is read anew
    about = json.loads((Path(path) / _ABOUT).read_text())
    return np.load(Path(path) / _SEEN, allow_pickle=False), about["last"], about["least"]
