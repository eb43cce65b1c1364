"""Removal of whole documents that copy another one: exactly, by URL, by MinHash and by SimHash."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute
from daft import DataFrame, Expression, col, lit
from numpy.typing import NDArray
from pydantic import Field, model_validator

from tillage.core.errors import UserError
from tillage.kernels.hashing import hash_strings
from tillage.kernels.lsh import BITS, EQUAL, Forget, Keys, Sketches, join
from tillage.kernels.minhash import band_passes, least_equal, minhash, sketch_type
from tillage.kernels.simhash import MAX_DISTANCE, simhash, simhash_passes
from tillage.kernels.urls import normalise_url
from tillage.ops.base import Annotate, Corpus, Decisions, operator
from tillage.ops.index import CopyIndex
from tillage.ops.stats import MEASURES, TextStats
from tillage.ops.udf import measure, without

pc: Any = pyarrow.compute  # its functions are made at run time


class Keeps(Corpus):
    """Base: what removes copies and asks which of them stays."""

    keep: Literal["first", "longest", "best"] = Field(
        default="first",
        description="what stays of copies: the first by file and line, that of the longest text, or the best",
    )
    best_by: str = Field(
        default="", description="with `keep: best`, the column of numbers whose highest value stays"
    )
    mark: bool = Field(default=False, description="only add the columns, drop and rewrite nothing")

    @model_validator(mode="after")
    def _best_by_something(self) -> Self:
        if (self.keep == "best") != bool(self.best_by):
            got = f"keep: {self.keep}, best_by: {self.best_by!r}"
            raise UserError("keep: best and best_by go together", where=self.name, got=got)
        return self

    def requires(self) -> tuple[Annotate, ...]:
        return (TextStats(measures=(self.best_by,)),) if self.best_by in MEASURES else ()

    def reads(self) -> frozenset[str]:
        return frozenset({"text", "source", "line"} | ({self.best_by} if self.best_by else set()))

    @property
    def keep_key(self) -> str | None:
        """The key column that the keep rule ranks by, if any."""
        return None if self.keep == "first" else f"_{self.name}_keep"

    def keep_keys(self) -> dict[str, Expression]:
        if self.keep == "longest":
            return {f"_{self.name}_keep": measure(_byte_length, pa.float64())}
        return {f"_{self.name}_keep": col(self.best_by).cast("float64")} if self.keep == "best" else {}


class Dedup(Keeps):
    """Base: an index of sketches on disk; each row of a cluster names the one that stays in its stead.

    Subclasses say what a sketch is and which of them are alike.
    """

    extends = True
    noun: ClassVar[str]
    """Of the columns `<noun>_of`, `<noun>s`, `<noun>_cluster`, and the reason for which rows are dropped."""
    alike: ClassVar[str]
    """What the rows of a cluster share, in words."""

    @abstractmethod
    def sketch(self) -> Expression:
        """A sketch as binary, null in rows that have none."""

    @abstractmethod
    def shape(self) -> tuple[type[np.unsignedinteger], int]:
        """The type and the number of a sketch's elements."""

    def passes(self, sketches: Sketches) -> tuple[Sequence[Keys], int]:
        """How to find alike sketches beyond the equal ones, and how many elements of these must agree."""
        return (), sketches.shape[1]

    how: ClassVar[int] = EQUAL
    """What of two sketches is compared: see `tillage.kernels.lsh`."""

    @classmethod
    def meanings(cls) -> dict[str, str]:
        return {
            f"{cls.noun}_of": "id of the row that is kept in its stead; null in rows that stay",
            f"{cls.noun}s": f"rows {cls.alike}, itself included; 1 over it weighs each cluster as one row",
            f"{cls.noun}_cluster": "id of the row that stands for its cluster; with `mark` only",
        }

    def writes(self) -> dict[str, pa.DataType]:
        columns = {f"{self.noun}_of": pa.large_string(), f"{self.noun}s": pa.int64()}
        return {**columns, f"{self.noun}_cluster": pa.large_string()} if self.mark else columns

    def keys(self) -> dict[str, Expression]:
        return {f"_{self.name}": self.sketch(), **self.keep_keys()}

    def fit(self, frame: DataFrame, artifact: Path) -> None:
        self._index(frame, None, artifact)

    def extend(self, frame: DataFrame, before: Path, artifact: Path) -> None:
        self._index(frame, before, artifact)

    def _index(self, frame: DataFrame, before: Path | None, artifact: Path) -> None:
        index = CopyIndex(artifact, *self.shape())
        index.build(frame, f"_{self.name}", self.keep_key, self._join, before)
        table, first, sizes = index.copies()
        ids = table.column("id").combine_chunks()
        kept = ids.take(pa.array(first))
        copies = first != np.arange(len(first))
        of = pc.if_else(pa.array(copies), kept, pa.scalar(None, pa.large_string()))
        columns = dict(zip(self.writes(), (of, pa.array(sizes, pa.int64()), kept), strict=False))
        Decisions.write(artifact, pa.table({"id": ids, **columns}))

    def _join(self, sketches: Sketches, parents: NDArray[np.int64], fresh: int, forget: Forget) -> None:
        passes, least = self.passes(sketches)
        join(sketches, parents, passes, least, how=self.how, fresh=fresh, forget=forget)

    def apply(self, frame: DataFrame, artifact: Path | None = None) -> DataFrame:
        if artifact is None:
            raise UserError(f"{self.name} was applied without being fitted to the corpus")
        _, count, *cluster = names = tuple(self.writes())
        joined = Decisions.join(without(frame, *names), artifact)
        joined = joined.with_column(count, col(count).fill_null(lit(1)))
        return joined.with_columns({name: col(name).fill_null(col("id")) for name in cluster})

    def reasons(self) -> dict[str, Expression]:
        return {} if self.mark else {self.noun: col(f"{self.noun}_of").not_null()}


@operator
class ExactDedup(Dedup):
    """Keep one of all documents with the same text, the first by file and line; name it in `duplicate_of`."""

    source = "Lee et al. 2022, arXiv 2107.06499 (exact documents)"
    version = 2
    noun = "duplicate"
    alike = "with this very text"

    def sketch(self) -> Expression:
        return measure(_document_hash, pa.large_binary())

    def shape(self) -> tuple[type[np.unsignedinteger], int]:
        return np.uint64, 2


@operator
class UrlDedup(Dedup):
    """Keep one of all documents with the same URL; name it in `url_duplicate_of`.

    URLs are compared after syntax-based normalisation: case of scheme and host, default ports, dot segments,
    percent-encoding and fragments do not count. Rows without a URL stay.
    """

    source = "Penedo et al. 2023 (RefinedWeb), arXiv 2306.01116, section 3.3; RFC 3986, section 6.2"
    version = 2
    noun = "url_duplicate"
    alike = "with this URL"

    column: str = Field(default="url", min_length=1, description="the column that holds the URL")

    @classmethod
    def example(cls) -> Self:
        return cls(column="source")

    def reads(self) -> frozenset[str]:
        text = {"text"} if self.keep == "longest" else set[str]()
        return (super().reads() - {"text"}) | {self.column} | text

    def sketch(self) -> Expression:
        return measure(_url_hash, pa.large_binary(), self.column)

    def shape(self) -> tuple[type[np.unsignedinteger], int]:
        return np.uint64, 2


@operator
class MinHashDedup(Dedup):
    """Keep one of each cluster of near-copies, found by MinHash; name it in `near_duplicate_of`.

    Candidates share a band of the sketch, and join if the similarity that the whole sketch estimates reaches
    the threshold. The same sketch is cut a second time, into shorter bands, so that pairs near the threshold
    are seldom missed.
    """

    source = (
        "Broder 1997; Lee et al. 2022, arXiv 2107.06499; bands as in FineWeb, arXiv 2406.17557; sketches of "
        "Li and Koenig 2010, doi 10.1145/1772690.1772759"
    )
    version = 2
    noun = "near_duplicate"
    alike = "of its cluster"

    ngram: int = Field(default=5, ge=1, le=64, description="words a shingle")
    bands: int = Field(default=14, ge=1, le=256, description="bands of the sketch")
    rows: int = Field(default=8, ge=1, le=64, description="hashes a band")
    second_rows: int = Field(
        default=6, ge=0, le=64, description="hashes a band of the second cut of the sketch; 0 cuts once"
    )
    threshold: float = Field(
        default=0.7, ge=0, le=1, description="least estimated Jaccard similarity of a pair"
    )
    seed: int = Field(default=0, ge=0, description="seed of the hash functions")

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if self.bands * self.rows > 1024:
            raise UserError(
                "the signature is too long", got=f"{self.bands} x {self.rows} hashes", expected="at most 1024"
            )
        return self

    def sketch(self) -> Expression:
        sign = partial(
            minhash_sketch,
            ngram=self.ngram,
            hashes=self.bands * self.rows,
            seed=self.seed,
            rows=self.least_rows(),
        )
        return measure(sign, pa.large_binary())

    def least_rows(self) -> int:
        """Hashes of the shortest band: the sketch's elements must tell that many apart."""
        return min(self.rows, self.second_rows or self.rows)

    def shape(self) -> tuple[type[np.unsignedinteger], int]:
        return sketch_type(self.least_rows()), self.bands * self.rows

    def passes(self, sketches: Sketches) -> tuple[Sequence[Keys], int]:
        return band_passes(sketches, self.rows, self.second_rows), least_equal(sketches, self.threshold)


@operator
class SimHashDedup(Dedup):
    """Keep one of each cluster of near-copies, found by SimHash; name it in `simhash_duplicate_of`.

    It keeps 8 bytes a document, and sees less than MinHash: a few changed words of a short text are beyond
    the distance. Clusters join by steps.
    """

    source = "Charikar 2002, doi 10.1145/509907.509965; Manku et al. 2007, doi 10.1145/1242572.1242592"
    version = 2
    noun = "simhash_duplicate"
    alike = "of its cluster"
    how = BITS

    ngram: int = Field(default=1, ge=1, le=64, description="words an n-gram")
    distance: int = Field(
        default=3, ge=0, le=MAX_DISTANCE, description="most bits in which two fingerprints of 64 may differ"
    )
    min_words: int = Field(default=20, ge=1, description="texts with fewer words are not compared")

    def sketch(self) -> Expression:
        sign = partial(_fingerprint, ngram=self.ngram, min_words=self.min_words)
        return measure(sign, pa.large_binary())

    def shape(self) -> tuple[type[np.unsignedinteger], int]:
        return np.uint64, 1

    def passes(self, sketches: Sketches) -> tuple[Sequence[Keys], int]:
        return simhash_passes(sketches, self.distance), 64 - self.distance


def _url_hash(urls: pa.Array) -> pa.Array:
    normal = [normalise_url(url) if url is not None else None for url in urls.to_pylist()]
    return _document_hash(pa.array([url or None for url in normal], pa.large_string()))


def _fingerprint(texts: pa.Array, ngram: int, min_words: int) -> pa.Array:
    fingerprints, words = simhash(texts, ngram)
    return fixed_rows(fingerprints[:, None].view(np.uint8), pa.array(words >= min_words))


def _document_hash(texts: pa.Array) -> pa.Array:
    """128 bits, so that a billion documents do not collide."""
    pairs = np.stack([hash_strings(texts, 1), hash_strings(texts, 2)], axis=1)
    return fixed_rows(pairs.view(np.uint8), pc.is_valid(texts))


def minhash_sketch(texts: pa.Array, ngram: int, hashes: int, seed: int, rows: int) -> pa.Array:
    """The MinHash sketch of each text as binary, null for one without a word."""
    sketches, some = minhash(texts, ngram, hashes, seed, rows)
    return fixed_rows(sketches.view(np.uint8), pa.array(some))


def _byte_length(texts: pa.Array) -> pa.Array:
    return pc.binary_length(texts).cast(pa.float64())


def fixed_rows(data: NDArray[np.uint8], valid: pa.Array) -> pa.Array:
    """The rows of a matrix of bytes as binary values, null where `valid` is false."""
    rows, size = data.shape
    offsets = pa.py_buffer(np.arange(rows + 1, dtype=np.int64) * size)
    values = pa.Array.from_buffers(
        pa.large_binary(), rows, [None, offsets, pa.py_buffer(np.ascontiguousarray(data))]
    )
    return pc.if_else(valid, values, pa.scalar(None, pa.large_binary()))
