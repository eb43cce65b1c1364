"""Whether documents give evaluation items away, which items, and by how much."""

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
from tillage.kernels.containment import PAIRS, contained
from tillage.kernels.overlap import MAX_DOCUMENTS, NgramSet, common, matches, ngram_set, owners
from tillage.ops.base import Corpus, Decisions, operator
from tillage.ops.texts import file_fingerprint, read_texts
from tillage.ops.udf import above, measure, without

pc: Any = pyarrow.compute  # its functions are made at run time

HITS = pa.schema(
    [
        pa.field("item", pa.int64()),
        pa.field("id", pa.large_string()),
        pa.field("ngrams", pa.int64()),
        pa.field("share", pa.float64()),
        pa.field("boilerplate", pa.bool_()),
    ]
)
"""A row for each item that a document overlaps with. `item`: its place in the file, from 0. `ngrams`: word
n-grams in common. `share`: of the item's shorter n-grams, those that the document holds; null below the
bound. `boilerplate`: so many documents have what the two have in common that it counts for nothing."""
_PAIR = pa.schema([field for field in HITS if field.name != "id"])
_PRIVATE = "_hits"
_COUNTS = ("overlap_ngrams", "overlap_share", "overlap_item")


@operator
class Decontaminate(Corpus):
    """Drop documents that share a word n-gram with an item of an evaluation file, or hold most of one.

    N-grams, and items held almost whole, that many documents of the corpus have are boilerplate, such as
    licences, and do not count. The run keeps a table of the items hit: `tillage contamination`.
    """

    source = (
        "Brown et al. 2020 (GPT-3), arXiv 2005.14165, appendix C (n-grams); share of an item that is found: "
        "Chowdhery et al. 2022 (PaLM), arXiv 2204.02311, section 8; containment of Broder 1997"
    )
    version = 3

    against: Path = Field(description="JSONL, Parquet or text file of the texts that must not be trained on")
    field: str | tuple[str, ...] = Field(
        default="text", description="field that holds the text in that file; several count as one text"
    )
    ngram: int = Field(
        default=13, ge=1, le=255, description="words an n-gram; shorter texts count as a whole"
    )
    min_words: int = Field(default=5, ge=1, description="texts shorter than this are not looked for")
    max_overlap: int = Field(default=0, ge=0, description="most n-grams in common that are let through")
    near_share: float = Field(
        default=0.4,
        ge=0,
        le=1,
        description="a document that holds this share of an item's shorter n-grams is a near-copy; 0 looks "
        "for none",
    )
    near_ngram: int = Field(default=4, ge=1, le=255, description="words of these shorter n-grams")
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
        return {
            "overlap_ngrams": "distinct word n-grams in common with the file, boilerplate left out",
            "overlap_share": "largest share of an item's shorter n-grams that is held; 0 below the bound",
            "overlap_item": "place in the file, from 0, of the item that is held most; null for none",
        }

    def writes(self) -> dict[str, pa.DataType]:
        return {"overlap_ngrams": pa.int64(), "overlap_share": pa.float64(), "overlap_item": pa.int64()}

    def items(self) -> pa.Array:
        """The texts of the items."""
        return _items(str(self.against), file_fingerprint(self.against), self.field)

    def keys(self) -> dict[str, Expression]:
        known = {"path": str(self.against), "content": file_fingerprint(self.against), "field": self.field}
        long = partial(_matches, ngram=self.ngram, min_words=self.min_words, **known)
        near = partial(_near, ngram=self.near_ngram, least=self.near_share, **known)
        found = {"_overlap": measure(long, pa.list_(pa.int64()))}
        return {**found, "_near": measure(near, PAIRS)} if self.near_share else found

    def fit(self, frame: DataFrame, artifact: Path) -> None:
        names = list(self.keys())
        some = [col(name).length() > lit(0) for name in names]
        table = frame.where(some[0] if len(some) == 1 else some[0] | some[1]).select("id", *names).to_arrow()
        ids = table.column("id").combine_chunks().cast(pa.large_string())
        content = file_fingerprint(self.against)
        known = _known(str(self.against), content, self.field, self.ngram, self.min_words)
        size = len(known.sizes)
        found = table.column("_overlap").combine_chunks()
        slots = np.asarray(pc.list_flatten(found), np.int64)
        rows = np.asarray(pc.list_parent_indices(found), np.int64)
        ignored = np.isin(slots, common(found, self.max_documents))
        counts = np.bincount(rows[~ignored], minlength=len(ids))
        which, items = owners(slots, known)
        long = rows[which] * size + items, ignored[which]
        near = np.zeros(0, np.int64), np.zeros(0, np.bool_), np.zeros(0)
        if self.near_share:
            pairs = table.column("_near").combine_chunks()
            rows, pairs = np.asarray(pc.list_parent_indices(pairs), np.int64), pc.list_flatten(pairs)
            items, shares = (np.asarray(pairs.field(name)) for name in ("item", "share"))
            documents = np.bincount(items, minlength=size)[items]
            near = rows * size + items, documents > self.max_documents, shares
        Decisions.write(artifact, _decisions(ids, counts, long, near, size))

    def apply(self, frame: DataFrame, artifact: Path | None = None) -> DataFrame:
        if artifact is None:
            raise UserError("decontaminate was applied without being fitted to the corpus")
        joined = Decisions.join(without(frame, *_COUNTS), artifact).exclude(_PRIVATE)
        return joined.with_columns(
            {
                "overlap_ngrams": col("overlap_ngrams").fill_null(lit(0)),
                "overlap_share": col("overlap_share").fill_null(lit(0.0)),
            }
        )

    def reasons(self) -> dict[str, Expression]:
        return {
            "overlap": above("overlap_ngrams", self.max_overlap),
            "near_copy": above("overlap_share", 0.0),
        }


def hits(artifact: Path) -> pa.Table:
    """The pairs of document and item that a fit in this folder has found: `HITS`, by item and id."""
    table = Decisions.read(artifact).select(["id", _PRIVATE])
    pairs = table.column(_PRIVATE).combine_chunks()
    flat = pc.list_flatten(pairs)
    columns = {name: flat.field(name) for name in _PAIR.names}
    columns["id"] = table.column("id").combine_chunks().take(pc.list_parent_indices(pairs))
    return pa.table([columns[name] for name in HITS.names], schema=HITS).sort_by(
        [("item", "ascending"), ("id", "ascending")]
    )


def _decisions(
    ids: pa.Array,
    counts: NDArray[np.int64],
    long: tuple[NDArray[np.int64], NDArray[np.bool_]],
    near: tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.float64]],
    size: int,
) -> pa.Table:
    """What counts of each row, and all of its pairs.

    Args:
        counts: n-grams of each row that count.
        long: for each n-gram that a row and an item share, row * `size` + item, and whether it is ignored.
        near: for each row that holds most of an item the same, and the share.
        size: how many items there are.
    """
    keys = np.union1d(long[0], near[0])
    place = np.searchsorted(keys, long[0])
    ngrams = np.bincount(place[~long[1]], minlength=len(keys))
    counted = ngrams > 0
    share, own = np.full(len(keys), np.nan), np.zeros(len(keys))
    place_near = np.searchsorted(keys, near[0])
    share[place_near] = near[2]
    own[place_near] = np.where(near[1], 0.0, near[2])
    counted[place_near] |= ~near[1]
    shown = np.where(counted, ngrams, np.bincount(place, minlength=len(keys)))
    rows, items = keys // size, keys % size

    most = np.lexsort((items, -ngrams, -own, ~counted, rows))
    first = most[np.unique(rows[most], return_index=True)[1]]
    best = np.full(len(ids), -1)
    best[rows[first]] = np.where(counted[first], items[first], -1)
    shares = np.zeros(len(ids))
    np.maximum.at(shares, rows, own)
    columns = [items, shown, pa.array(share, from_pandas=True), pa.array(~counted)]
    pairs = pa.StructArray.from_arrays([pa.array(c) for c in columns], fields=list(_PAIR))
    ends = np.searchsorted(rows, np.arange(len(ids) + 1))
    lists = pa.LargeListArray.from_arrays(pa.array(ends, pa.int64()), pairs)
    decided = [counts, shares, pa.array(best, mask=best < 0), lists]
    return pa.table([ids, *(pa.array(c) for c in decided)], names=["id", *_COUNTS, _PRIVATE])


def _matches(
    texts: pa.Array, path: str, content: str, field: str | tuple[str, ...], ngram: int, min_words: int
) -> pa.Array:
    return matches(texts, _known(path, content, field, ngram, min_words))


def _near(
    texts: pa.Array, path: str, content: str, field: str | tuple[str, ...], ngram: int, least: float
) -> pa.Array:
    return contained(texts, _known(path, content, field, ngram, ngram), least)


@cache
def _known(path: str, content: str, field: str | tuple[str, ...], ngram: int, min_words: int) -> NgramSet:
    return ngram_set(_items(path, content, field), ngram, min_words)


@cache
def _items(path: str, content: str, field: str | tuple[str, ...]) -> pa.Array:
    if file_fingerprint(Path(path)) != content:
        raise UserError("the file changed while the recipe ran", where=path)
    return read_texts(Path(path), field)
