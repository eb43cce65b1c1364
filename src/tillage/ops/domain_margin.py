"""Whether a document's words agree with its domain's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
from daft import DataFrame, col
from pydantic import Field

from tillage.core.errors import UserError
from tillage.kernels.domains import FOLDS, Counts, count_domains, domain_margins
from tillage.kernels.hashing import hash_strings
from tillage.ops.base import Corpus, Decisions, operator
from tillage.ops.udf import without


@operator
class DomainMargin(Corpus):
    """Measure how far each text's words speak for its own domain (`domain_margin`, below 0: for another one).

    Each half of the documents is judged by the other half. Drop mislabelled documents with `where`.
    """

    source = "Northcutt et al. 2021, arXiv 1911.00068 (label errors by cross-fitted predictions), naive Bayes"

    seed: int = Field(default=0, ge=0, description="seed of the halves")

    @classmethod
    def meanings(cls) -> dict[str, str]:
        return {
            "domain_margin": "nats a word that speak for the document's own domain; null in small domains"
        }

    def reads(self) -> frozenset[str]:
        return frozenset({"text", "domain", "id"})

    def writes(self) -> dict[str, pa.DataType]:
        return {"domain_margin": pa.float64()}

    def fit(self, frame: DataFrame, artifact: Path) -> None:
        frame = frame.where(col("text").not_null() & col("domain").not_null()).select("id", "domain", "text")
        counts: Counts = {}
        rows: dict[str, int] = {}
        for batch in frame.to_arrow_iter():
            count_domains(batch["text"], batch["domain"].to_pylist(), self._folds(batch["id"]), counts, rows)
        ids: list[pa.Array] = [pa.array([], pa.large_string())]
        margins: list[pa.Array] = [pa.array([], pa.float64())]
        for batch in frame.to_arrow_iter():
            folds = self._folds(batch["id"])
            found = domain_margins(batch["text"], batch["domain"].to_pylist(), folds, counts, rows)
            ids.append(batch["id"].cast(pa.large_string()))
            margins.append(pa.array(found, mask=np.isnan(found)))
        Decisions.write(
            artifact, pa.table({"id": pa.concat_arrays(ids), "domain_margin": pa.concat_arrays(margins)})
        )

    def _folds(self, ids: pa.Array) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        return (hash_strings(ids.cast(pa.large_string()), self.seed) % np.uint64(FOLDS)).astype(np.int64)

    def apply(self, frame: DataFrame, artifact: Path | None = None) -> DataFrame:
        if artifact is None:
            raise UserError("domain_margin was applied without being fitted to the corpus")
        return Decisions.join(without(frame, "domain_margin"), artifact)
