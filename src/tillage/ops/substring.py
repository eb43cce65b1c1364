"""Removal of spans of words that stand elsewhere in the corpus."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import daft
import numpy as np
import pyarrow as pa
from daft import DataFrame, DataType, Expression, Series, col, lit
from daft.functions import when
from numpy.typing import NDArray
from pydantic import Field

from tillage.core.errors import UserError
from tillage.kernels.arrow import buffers, validity
from tillage.kernels.substring import Candidates, anchors, later_copies, without_spans
from tillage.ops.base import Decisions, operator, settled
from tillage.ops.dedup import Keeps
from tillage.ops.index import KEEP, ordered
from tillage.ops.udf import measure, without

_COUNT, _SHARE = "repeated_words", "repeated_word_share"
_MOST = 1 << 25  # anchors in memory at once; where there are more, their column is read several times


@operator
class SubstringDedup(Keeps):
    """Remove spans of 50 words or more that stand elsewhere in the corpus; drop texts that are all copied.

    Of the places where a span stands, the one in the document that the keep rule ranks first stays; the first
    in a document that holds it twice. Words are what stands between white space, compared exactly.
    """

    source = (
        "Lee et al. 2022, arXiv 2107.06499, section 4.1, with winnowed rolling hashes for its suffix array"
    )

    length: int = Field(default=50, ge=5, le=10_000, description="words of the shortest span that is removed")

    @classmethod
    def meanings(cls) -> dict[str, str]:
        return {
            _COUNT: "words in spans that stand elsewhere, in a place that stays",
            _SHARE: "share of the words that do; 1 less it is a weight for training",
        }

    def writes(self) -> dict[str, pa.DataType]:
        columns = {_COUNT: pa.int64(), _SHARE: pa.float64()}
        return columns if self.mark else {"text": pa.large_string(), **columns}

    def keys(self) -> dict[str, Expression]:
        key = measure(partial(_anchors, length=self.length), pa.large_binary())
        return {f"_{self.name}": key, **self.keep_keys()}

    def fit(self, frame: DataFrame, artifact: Path) -> None:
        key = f"_{self.name}"
        frame = frame.where(col(key).not_null())
        candidates = Candidates(_repeated(frame.select(key), _MOST), self.length)
        names = ["id", "source", "line", *([self.keep_key] if self.keep_key else []), "text"]
        rows: list[pa.Table] = []
        hashes, places = [np.zeros(0, np.uint64)], [np.zeros(0, np.int32)]
        sizes = [np.zeros(1, np.int64)]
        held = 0
        for batch in frame.select(*names).to_arrow_iter():
            ends, found, starts, words = candidates.windows(batch.column("text"))
            some = np.flatnonzero(np.diff(ends))
            if not len(some):
                continue
            columns = [batch.column(name).take(pa.array(some)) for name in names[:-1]]
            heads = ["id", "source", "line", *([KEEP] if self.keep_key else [])]
            table = pa.table([*columns, pa.array(words[some])], names=[*heads, "_words"])
            rows.append(table.append_column("_row", pa.array(np.arange(held, held + len(some)))))
            hashes.append(found)
            places.append(starts.astype(np.int32))
            sizes.append(np.diff(ends)[some])
            held += len(some)
        if not rows:
            empty = np.zeros(0, np.int64)
            _write(artifact, pa.array([], pa.large_string()), empty, empty, np.zeros(1, np.int64), empty)
            return
        table = ordered(pa.concat_tables(rows))
        order = table.column("_row").to_numpy()
        offsets = np.cumsum(np.concatenate(sizes))
        ends, spans, counts = later_copies(
            order, offsets, np.concatenate(hashes), np.concatenate(places), self.length
        )
        some = np.flatnonzero(counts)
        chosen = table.take(pa.array(some))
        shares = counts[some] / chosen.column("_words").to_numpy()
        ids = chosen.column("id").combine_chunks().cast(pa.large_string())
        # Rows without spans take none of them, so the offsets of the others still fit.
        _write(artifact, ids, counts[some], shares, np.append(ends[some], ends[-1]), spans)

    def apply(self, frame: DataFrame, artifact: Path | None = None) -> DataFrame:
        if artifact is None:
            raise UserError(f"{self.name} was applied without being fitted to the corpus")
        joined = Decisions.join(without(frame, _COUNT, _SHARE), artifact)
        joined = joined.with_columns(
            {_COUNT: col(_COUNT).fill_null(lit(0)), _SHARE: col(_SHARE).fill_null(lit(0.0))}
        )
        if self.mark:
            return joined.exclude("_spans")
        # A text of which nothing would be left is dropped, and stays readable as it was.
        joined = settled(joined.with_column("_rewritten", _cut_out(col("text"), col("_spans"))))
        text = when(col(_SHARE) < lit(1.0), col("_rewritten")).otherwise(col("text"))
        return settled(joined.with_column("text", text).exclude("_spans", "_rewritten"))

    def reasons(self) -> dict[str, Expression]:
        return {} if self.mark else {"nothing_left": col(_SHARE) >= lit(1.0)}


def _repeated(keys: DataFrame, most: int) -> NDArray[np.uint64]:
    """The anchors that stand more than once, sorted; at most about `most` are in memory at a time."""
    name = keys.column_names[0]
    parts, part = 1, 0
    found: list[NDArray[np.uint64]] = []
    while part < parts:
        held = np.zeros(0, np.uint64)
        more: list[NDArray[np.uint64]] = []
        size = 0
        for batch in keys.to_arrow_iter():
            view = buffers(batch.column(name))
            some = view.data[view.offsets[0] : view.offsets[-1]].copy().view(np.uint64)
            more.append(some[some % np.uint64(parts) == part] if parts > 1 else some)
            size += len(more[-1])
            while part == 0 and size > most:
                held = np.concatenate([held, *more])
                more, parts = [], parts * 2
                held = held[held % np.uint64(parts) == 0]
                size = len(held)
        held = np.sort(np.concatenate([held, *more]))
        found.append(np.unique(held[1:][held[1:] == held[:-1]]))
        part += 1
    return np.sort(np.concatenate(found))


def _write(
    artifact: Path,
    ids: pa.Array,
    counts: NDArray[np.int64],
    shares: NDArray[np.float64] | NDArray[np.int64],
    ends: NDArray[np.int64],
    spans: NDArray[np.int64],
) -> None:
    columns = [ids, pa.array(counts, pa.int64()), pa.array(shares, pa.float64())]
    held = [None, pa.py_buffer(ends * 8), pa.py_buffer(np.ascontiguousarray(spans))]
    columns.append(pa.Array.from_buffers(pa.large_binary(), len(ids), held))
    Decisions.write(artifact, pa.table(columns, names=["id", _COUNT, _SHARE, "_spans"]))


def _anchors(texts: pa.Array, length: int) -> pa.Array:
    ends, hashes = anchors(texts, length)
    mask = pa.array((validity(texts) == 1) & (np.diff(ends) > 0)).buffers()[1]
    values = [mask, pa.py_buffer(ends * 8), pa.py_buffer(hashes.view(np.uint8))]
    return pa.Array.from_buffers(pa.large_binary(), len(texts), values)


def _cut_run(texts: Series, spans: Series) -> pa.Array:
    return without_spans(texts.to_arrow(), spans.to_arrow())


_cut_out = daft.func.batch(return_dtype=DataType.from_arrow_type(pa.large_string()))(_cut_run)
