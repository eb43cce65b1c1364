"""Exact and near-duplicate removal over the whole corpus."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute
from daft import DataFrame, Expression, col, lit
from numpy.typing import NDArray
from pydantic import Field, model_validator

from tillage.core.errors import UserError
from tillage.kernels.arrow import buffers
from tillage.kernels.hashing import hash_strings
from tillage.kernels.minhash import clusters, minhash
from tillage.kernels.simhash import MAX_DISTANCE, near, simhash
from tillage.kernels.urls import normalise_url
from tillage.ops.base import Corpus, Decisions, operator
from tillage.ops.udf import measure, without

pc: Any = pyarrow.compute  # its functions are made at run time


class Dedup(Corpus):
    """Base: `fit` gives each row the first of its cluster, and the others name it as what they copy."""

    mark: bool = Field(default=False, description="only add the columns, drop nothing")

    def reads(self) -> frozenset[str]:
        return frozenset({"text", "source", "line"})

    def decide(
        self, artifact: Path, table: pa.Table, first: NDArray[np.int64], names: tuple[str, str]
    ) -> None:
        """Write the decisions for rows of clusters of two or more; row i is kept as row `first[i]`."""
        sizes = np.bincount(first, minlength=len(first))[first]
        some = np.flatnonzero(sizes > 1)
        ids = table.column("id").combine_chunks().cast(pa.large_string())
        copies = some != first[some]
        kept = pc.if_else(
            pa.array(copies), ids.take(pa.array(first[some])), pa.scalar(None, pa.large_string())
        )
        columns = [ids.take(pa.array(some)), kept, pa.array(sizes[some], pa.int64())]
        Decisions.write(artifact, pa.table(columns, names=["id", *names]))

    def join(self, frame: DataFrame, artifact: Path | None, names: tuple[str, str]) -> DataFrame:
        if artifact is None:
            raise UserError(f"{self.name} was applied without being fitted to the corpus")
        joined = Decisions.join(without(frame, *names), artifact)
        return joined.with_column(names[1], col(names[1]).fill_null(lit(1)))


def _ordered(frame: DataFrame, columns: list[str], longest: bool) -> pa.Table:
    """The rows in an order of their own: the longest first if asked, then by file, line and id."""
    table = frame.select("id", "source", "line", *columns).to_arrow()
    keys = [("source", "ascending"), ("line", "ascending"), ("id", "ascending")]
    if longest:
        keys.insert(0, ("_bytes", "descending"))
    return table.take(pc.sort_indices(table, sort_keys=keys))


@operator
class ExactDedup(Dedup):
    """Keep the first of all documents with the same text, by file and line; name it in `duplicate_of`."""

    source = "Lee et al. 2022, arXiv 2107.06499 (exact documents)"

    @classmethod
    def meanings(cls) -> dict[str, str]:
        return {
            "duplicate_of": "id of the row that is kept in its stead; null in rows that stay",
            "duplicates": "rows with this very text, itself included",
        }

    def writes(self) -> dict[str, pa.DataType]:
        return {"duplicate_of": pa.large_string(), "duplicates": pa.int64()}

    def keys(self) -> dict[str, Expression]:
        return {"_exact": measure(_document_hash, pa.large_binary())}

    def fit(self, frame: DataFrame, artifact: Path) -> None:
        table = _ordered(frame.where(col("_exact").not_null()), ["_exact"], longest=False)
        self.decide(artifact, table, _first_equal(table, "_exact"), ("duplicate_of", "duplicates"))

    def apply(self, frame: DataFrame, artifact: Path | None = None) -> DataFrame:
        return self.join(frame, artifact, ("duplicate_of", "duplicates"))

    def reasons(self) -> dict[str, Expression]:
        return {} if self.mark else {"duplicate": col("duplicate_of").not_null()}


@operator
class MinHashDedup(Dedup):
    """Keep one of each cluster of near-copies, found by MinHash; name it in `near_duplicate_of`."""

    source = "Broder 1997; Lee et al. 2022, arXiv 2107.06499; bands as in FineWeb, arXiv 2406.17557"

    ngram: int = Field(default=5, ge=1, le=64, description="words a shingle")
    bands: int = Field(default=14, ge=1, le=256, description="bands of the signature")
    rows: int = Field(default=8, ge=1, le=64, description="hashes a band")
    threshold: float = Field(
        default=0.7, ge=0, le=1, description="least estimated Jaccard similarity of a pair"
    )
    keep: Literal["first", "longest"] = Field(default="first", description="which row of a cluster stays")
    seed: int = Field(default=0, ge=0, description="seed of the hash functions")

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if self.bands * self.rows > 1024:
            raise UserError(
                "the signature is too long", got=f"{self.bands} x {self.rows} hashes", expected="at most 1024"
            )
        return self

    @classmethod
    def meanings(cls) -> dict[str, str]:
        return {
            "near_duplicate_of": "id of the row that is kept in its stead; null in rows that stay",
            "near_duplicates": "rows of its cluster, itself included",
        }

    def writes(self) -> dict[str, pa.DataType]:
        return {"near_duplicate_of": pa.large_string(), "near_duplicates": pa.int64()}

    def keys(self) -> dict[str, Expression]:
        sign = partial(_signature, ngram=self.ngram, hashes=self.bands * self.rows, seed=self.seed)
        keys = {"_minhash": measure(sign, pa.large_binary())}
        if self.keep == "longest":
            keys["_bytes"] = measure(_byte_length, pa.int64())
        return keys

    def fit(self, frame: DataFrame, artifact: Path) -> None:
        longest = self.keep == "longest"
        columns = ["_minhash", "_bytes"] if longest else ["_minhash"]
        table = _ordered(frame.where(col("_minhash").not_null()), columns, longest)
        values = table.column("_minhash").combine_chunks()
        view = buffers(values)
        data = view.data[view.offsets[0] : view.offsets[-1]].view(np.uint32)
        signatures = data.reshape(len(table), self.bands * self.rows)
        first = clusters(signatures, self.bands, self.threshold)
        self.decide(artifact, table, first, ("near_duplicate_of", "near_duplicates"))

    def apply(self, frame: DataFrame, artifact: Path | None = None) -> DataFrame:
        return self.join(frame, artifact, ("near_duplicate_of", "near_duplicates"))

    def reasons(self) -> dict[str, Expression]:
        return {} if self.mark else {"near_duplicate": col("near_duplicate_of").not_null()}


@operator
class SimHashDedup(Dedup):
    """Keep one of each cluster of near-copies, found by SimHash; name it in `simhash_duplicate_of`.

    It keeps 8 bytes a document, and sees less than MinHash: a few changed words of a short text are beyond
    the distance. Clusters join by steps.
    """

    source = "Charikar 2002, doi 10.1145/509907.509965; Manku et al. 2007, doi 10.1145/1242572.1242592"

    ngram: int = Field(default=1, ge=1, le=64, description="words an n-gram")
    distance: int = Field(
        default=3, ge=0, le=MAX_DISTANCE, description="most bits in which two fingerprints of 64 may differ"
    )
    min_words: int = Field(default=20, ge=1, description="texts with fewer words are not compared")
    keep: Literal["first", "longest"] = Field(default="first", description="which row of a cluster stays")

    @classmethod
    def meanings(cls) -> dict[str, str]:
        return {
            "simhash_duplicate_of": "id of the row that is kept in its stead; null in rows that stay",
            "simhash_duplicates": "rows of its cluster, itself included",
        }

    def writes(self) -> dict[str, pa.DataType]:
        return {"simhash_duplicate_of": pa.large_string(), "simhash_duplicates": pa.int64()}

    def keys(self) -> dict[str, Expression]:
        sign = partial(_fingerprint, ngram=self.ngram, min_words=self.min_words)
        keys = {"_simhash": measure(sign, pa.uint64())}
        if self.keep == "longest":
            keys["_bytes"] = measure(_byte_length, pa.int64())
        return keys

    def fit(self, frame: DataFrame, artifact: Path) -> None:
        longest = self.keep == "longest"
        columns = ["_simhash", "_bytes"] if longest else ["_simhash"]
        table = _ordered(frame.where(col("_simhash").not_null()), columns, longest)
        first = near(table.column("_simhash").to_numpy(), self.distance)
        self.decide(artifact, table, first, ("simhash_duplicate_of", "simhash_duplicates"))

    def apply(self, frame: DataFrame, artifact: Path | None = None) -> DataFrame:
        return self.join(frame, artifact, ("simhash_duplicate_of", "simhash_duplicates"))

    def reasons(self) -> dict[str, Expression]:
        return {} if self.mark else {"simhash_duplicate": col("simhash_duplicate_of").not_null()}


@operator
class UrlDedup(Dedup):
    """Keep one of all documents with the same URL; name it in `url_duplicate_of`.

    URLs are compared after syntax-based normalisation: case of scheme and host, default ports, dot segments,
    percent-encoding and fragments do not count. Rows without a URL stay.
    """

    source = "Penedo et al. 2023 (RefinedWeb), arXiv 2306.01116, section 3.3; RFC 3986, section 6.2"

    column: str = Field(default="url", min_length=1, description="the column that holds the URL")
    keep: Literal["first", "longest"] = Field(default="first", description="which row of a cluster stays")

    @classmethod
    def example(cls) -> Self:
        return cls(column="source")

    def reads(self) -> frozenset[str]:
        return frozenset({self.column, "source", "line"} | ({"text"} if self.keep == "longest" else set()))

    @classmethod
    def meanings(cls) -> dict[str, str]:
        return {
            "url_duplicate_of": "id of the row that is kept in its stead; null in rows that stay",
            "url_duplicates": "rows with this URL, itself included",
        }

    def writes(self) -> dict[str, pa.DataType]:
        return {"url_duplicate_of": pa.large_string(), "url_duplicates": pa.int64()}

    def keys(self) -> dict[str, Expression]:
        keys = {"_url": measure(_url_hash, pa.large_binary(), self.column)}
        if self.keep == "longest":
            keys["_bytes"] = measure(_byte_length, pa.int64())
        return keys

    def fit(self, frame: DataFrame, artifact: Path) -> None:
        longest = self.keep == "longest"
        columns = ["_url", "_bytes"] if longest else ["_url"]
        table = _ordered(frame.where(col("_url").not_null()), columns, longest)
        self.decide(artifact, table, _first_equal(table, "_url"), ("url_duplicate_of", "url_duplicates"))

    def apply(self, frame: DataFrame, artifact: Path | None = None) -> DataFrame:
        return self.join(frame, artifact, ("url_duplicate_of", "url_duplicates"))

    def reasons(self) -> dict[str, Expression]:
        return {} if self.mark else {"url_duplicate": col("url_duplicate_of").not_null()}


def _first_equal(table: pa.Table, column: str) -> NDArray[np.int64]:
    """For each row the first row with the same value."""
    # Equal values get the number of the first row that has them, since rows come in order.
    encoded = table.column(column).combine_chunks().dictionary_encode()
    codes = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    _, first, inverse = np.unique(codes, return_index=True, return_inverse=True)
    return first.astype(np.int64)[inverse]


def _url_hash(urls: pa.Array) -> pa.Array:
    normal = [normalise_url(url) if url is not None else None for url in urls.to_pylist()]
    return _document_hash(pa.array([url or None for url in normal], pa.large_string()))


def _fingerprint(texts: pa.Array, ngram: int, min_words: int) -> pa.Array:
    fingerprints, words = simhash(texts, ngram)
    return pa.array(fingerprints, mask=words < min_words)


def _document_hash(texts: pa.Array) -> pa.Array:
    """128 bits, so that a billion documents do not collide."""
    pairs = np.stack([hash_strings(texts, 1), hash_strings(texts, 2)], axis=1)
    return _fixed_rows(pairs.view(np.uint8), pc.is_valid(texts))


def _signature(texts: pa.Array, ngram: int, hashes: int, seed: int) -> pa.Array:
    signatures, some = minhash(texts, ngram, hashes, seed)
    return _fixed_rows(signatures.view(np.uint8), pa.array(some))


def _byte_length(texts: pa.Array) -> pa.Array:
    return pc.binary_length(texts).cast(pa.int64())


def _fixed_rows(data: NDArray[np.uint8], valid: pa.Array) -> pa.Array:
    """The rows of a matrix of bytes as binary values, null where `valid` is false."""
    rows, size = data.shape
    offsets = pa.py_buffer(np.arange(rows + 1, dtype=np.int64) * size)
    values = pa.Array.from_buffers(
        pa.large_binary(), rows, [None, offsets, pa.py_buffer(np.ascontiguousarray(data))]
    )
    return pc.if_else(valid, values, pa.scalar(None, pa.large_binary()))
