"""What texts are about, by static embeddings: likeness to a reference, and topics of the corpus."""

from __future__ import annotations

import json
from functools import lru_cache, partial
from pathlib import Path
from threading import Lock
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute
from daft import DataFrame, Expression, col
from numpy.typing import NDArray
from pydantic import Field, model_validator

from tillage.core.errors import UserError
from tillage.kernels.arrow import buffers
from tillage.kernels.embedding import DIMENSIONS, LIMIT, embed, require_model, some
from tillage.kernels.hashing import hash_strings
from tillage.kernels.kmeans import kmeans, nearest, unit
from tillage.kernels.topics import cluster, telling_words
from tillage.ops.base import Corpus, Decisions, Filter, operator
from tillage.ops.dedup import fixed_rows
from tillage.ops.select import chance, sampled
from tillage.ops.texts import file_fingerprint, read_texts
from tillage.ops.udf import above, below, measure, with_measure, without

pc: Any = pyarrow.compute  # its functions are made at run time
_MODEL = (
    "WordLlama l2_supercat_256 (MIT), mean of token vectors as in Reimers and Gurevych 2019, arXiv 1908.10084"
)
_MOST_REFERENCES = 20_000
_LABELS = "labels.json"
_lock = Lock()


@operator
class Similarity(Filter):
    """Measure how near each text's static embedding is to reference texts (`similarity`); drop beyond bounds.

    The reference is summed up by a few centroids; the value is the cosine with the nearest one. Texts in
    languages that the model does not know (it knows English best) have no value and stay. Needs the extra
    `embed`.
    """

    source = _MODEL

    reference: Path = Field(
        description="JSONL, Parquet or text file of texts to be near to, such as the target"
    )
    field: str = Field(default="text", description="field that holds the text in that file")
    centroids: int = Field(
        default=8, ge=1, le=1024, description="clusters that the reference is summed up by"
    )
    min: float | None = Field(default=None, ge=-1, le=1, description="least similarity that is kept")
    max: float | None = Field(default=None, ge=-1, le=1, description="largest similarity that is kept")
    limit: int = Field(default=LIMIT, ge=1, description="characters read of each text")

    @model_validator(mode="after")
    def _bounds(self) -> Self:
        if self.min is not None and self.max is not None and self.min >= self.max:
            raise UserError("no similarity lies within the bounds", got=f"min {self.min}, max {self.max}")
        return self

    @classmethod
    def example(cls) -> Self:
        return cls(reference=Path("reference.jsonl"), min=0.2, max=0.99)

    def canonical(self) -> Any:
        return {**super().canonical(), "reference": file_fingerprint(self.reference)}

    @classmethod
    def meanings(cls) -> dict[str, str]:
        return {"similarity": "cosine with the nearest part of the reference, -1 to 1; null if not known"}

    def reads(self) -> frozenset[str]:
        return frozenset({"text"})

    def writes(self) -> dict[str, pa.DataType]:
        return {"similarity": pa.float32()}

    def apply(self, frame: DataFrame, artifact: Path | None = None) -> DataFrame:
        require_model()
        score = partial(
            _similarity,
            path=str(self.reference),
            content=file_fingerprint(self.reference),
            field=self.field,
            centroids=self.centroids,
            limit=self.limit,
        )
        return with_measure(frame, "similarity", score, pa.float32())

    def reasons(self) -> dict[str, Expression]:
        reasons: dict[str, Expression] = {}
        if self.min is not None:
            reasons["far_from_reference"] = below("similarity", self.min)
        if self.max is not None:
            reasons["too_near_to_reference"] = above("similarity", self.max)
        return reasons


@operator
class Topics(Corpus):
    """Name each text's topic: a cluster of static embeddings, found in a sample of the corpus.

    `topic` 0 is the largest; `topic_label` names it by the words that set it apart. Choose by either in
    `top_k`, `quantile`, `domain_quota` or `stratified_sample`. Texts in languages that the model does not
    know (it knows English best) have no topic. Needs the extra `embed`.
    """

    source = f"Dhillon and Modha 2001, doi 10.1023/A:1007612920971 (spherical k-means); {_MODEL}"

    topics: int = Field(default=32, ge=1, le=4096, description="most clusters")
    sample: int = Field(default=20_000, ge=1, description="most documents that clusters are found in")
    limit: int = Field(default=LIMIT, ge=1, description="characters read of each text")
    seed: int = Field(default=0, ge=0, description="seed of the sample and of the clusters")

    @classmethod
    def meanings(cls) -> dict[str, str]:
        return {
            "topic": "number of the topic, 0 the largest; null if the text is not known",
            "topic_label": "number of the topic and the words that tell most of its texts from others",
            "topic_similarity": "cosine with the middle of the topic: high for what is usual in it",
        }

    def writes(self) -> dict[str, pa.DataType]:
        return {"topic": pa.int64(), "topic_label": pa.large_string(), "topic_similarity": pa.float32()}

    def keys(self) -> dict[str, Expression]:
        return {f"_{self.name}": sketch(self.limit), **chance(self.seed)}

    def fit(self, frame: DataFrame, artifact: Path) -> None:
        key = f"_{self.name}"
        frame = frame.where(col(key).not_null())
        _, drawn = sampled(frame, self.sample)
        sample = drawn.select("id", "_chance", key, "text").to_arrow()
        sample = sample.take(
            pc.sort_indices(sample, sort_keys=[("_chance", "ascending"), ("id", "ascending")])
        )
        ids, topics, cosines = (
            [pa.array([], pa.large_string())],
            [np.zeros(0, np.int64)],
            [np.zeros(0, np.float32)],
        )
        names: list[str] = []
        if len(sample):
            vectors = unit(_matrix(sample.column(key)).astype(np.float32))
            centroids = cluster(vectors, self.topics, self.seed)
            own, _ = nearest(vectors, centroids)
            words = telling_words(sample.column("text").to_pylist(), own, len(centroids))
            names = [f"{i} {label}".strip() for i, label in enumerate(words)]
            for batch in frame.select("id", key).to_arrow_iter():
                found, cosine = nearest(unit(_matrix(batch.column(key)).astype(np.float32)), centroids)
                ids.append(batch.column("id").cast(pa.large_string()))
                topics.append(found)
                cosines.append(cosine)
        columns = [pa.array(np.concatenate(topics)), pa.array(np.concatenate(cosines))]
        table = pa.table([pa.concat_arrays(ids), *columns], names=["id", "topic", "topic_similarity"])
        Decisions.write(artifact, table)
        (artifact / _LABELS).write_text(json.dumps(names), encoding="utf-8")  # once, not in every row

    def apply(self, frame: DataFrame, artifact: Path | None = None) -> DataFrame:
        if artifact is None:
            raise UserError("topics was applied without being fitted to the corpus")
        frame = Decisions.join(without(frame, *self.writes()), artifact)
        name = partial(_named, path=str(artifact / _LABELS))
        return with_measure(frame, "topic_label", name, pa.large_string(), "topic")


def _named(topics: pa.Array, path: str) -> pa.Array:
    return _labels(path, Path(path).stat().st_mtime_ns).take(topics)


@lru_cache(maxsize=16)
def _labels(path: str, modified: int) -> pa.Array:
    del modified  # only there so that a file written anew is read anew
    return pa.array(json.loads(Path(path).read_text(encoding="utf-8")), pa.large_string())


def sketch(limit: int) -> Expression:
    """The embedding of the text as 256 bytes, null where there is none."""
    require_model()
    return measure(partial(_sketch, limit=limit), pa.large_binary())


def _sketch(texts: pa.Array, limit: int) -> pa.Array:
    sketches = embed(texts, limit)
    return fixed_rows(sketches.view(np.uint8), pa.array(some(sketches)))


def _matrix(sketches: pa.Array | pa.ChunkedArray) -> NDArray[np.int8]:
    """Sketches, none of them null, as a matrix of shape (rows, 256)."""
    view = buffers(sketches)
    return view.data[view.offsets[0] : view.offsets[-1]].view(np.int8).reshape(-1, DIMENSIONS)


def _similarity(texts: pa.Array, path: str, content: str, field: str, centroids: int, limit: int) -> pa.Array:
    with _lock:  # or each thread would read the reference itself
        middle = _middle(path, content, field, centroids, limit)
    sketches = embed(texts, limit)
    _, cosines = nearest(unit(sketches.astype(np.float32)), middle)
    return pa.array(cosines, mask=~some(sketches))


@lru_cache(maxsize=16)
def _middle(path: str, content: str, field: str, centroids: int, limit: int) -> NDArray[np.float32]:
    if file_fingerprint(Path(path)) != content:
        raise UserError("the file changed while the recipe ran", where=path)
    texts = read_texts(Path(path), field)
    order = np.argsort(hash_strings(texts), kind="stable")[:_MOST_REFERENCES]
    sketches = embed(texts.take(pa.array(order)), limit)
    known = sketches[some(sketches)]
    if not len(known):
        raise UserError(
            "the embedding model does not know the language of the reference", where=path, expected="English"
        )
    return kmeans(unit(known.astype(np.float32)), centroids)
