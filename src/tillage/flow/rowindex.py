"""Finds a row among millions by its id: beside each file of rows lie the beginnings of its ids, sorted."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tillage.data.schema import ID
from tillage.kernels.arrow import buffers

WIDTH = 8
"""Bytes of an id that the index holds; what else it is like is asked of the row itself."""
SEVERAL = 8
ENTRY = np.dtype([("key", "<u8"), ("row", "<u4")])


def index_path(rows: Path) -> Path:
    return rows.with_suffix(".ids")


def keys(ids: pa.Array) -> NDArray[np.uint64]:
    """The first eight bytes of each id as a number that sorts as they do; short ids end in zeros."""
    offsets, data, _ = buffers(ids)
    starts = np.asarray(offsets[:-1], np.int64)
    lengths = np.asarray(offsets[1:], np.int64) - starts
    out = np.zeros((len(starts), WIDTH), np.uint8)
    for place in range(WIDTH):
        there = lengths > place
        out[there, place] = data[starts[there] + place]
    return out.view(">u8").ravel().astype(np.uint64)


def write_index(rows: Path, found: Iterable[NDArray[np.uint64]]) -> None:
    """Write the index beside a file of rows, 12 bytes a row; `found` are the keys of its rows in order."""
    every = np.concatenate([np.zeros(0, np.uint64), *found])
    order = np.argsort(every, kind="stable")
    entries = np.empty(len(every), ENTRY)
    entries["key"], entries["row"] = every[order], order
    with index_path(rows).open("wb") as file:
        np.save(file, entries, allow_pickle=False)


def look_up(rows: Path, id: str) -> list[dict[str, Any]]:
    """The rows of a file whose ids begin with `id`; at most a few where `id` is short and many begin so."""
    entries = np.load(index_path(rows), mmap_mode="r", allow_pickle=False)
    raw = id.encode()[:WIDTH]
    low, high = (int.from_bytes(raw.ljust(WIDTH, fill), "big") for fill in (b"\0", b"\xff"))
    start = int(np.searchsorted(entries["key"], np.uint64(low), "left"))
    stop = int(np.searchsorted(entries["key"], np.uint64(high), "right"))
    if len(id.encode()) <= WIDTH:
        stop = min(stop, start + SEVERAL)
    places = sorted(int(row) for row in entries["row"][start:stop])
    return [row for row in _rows_at(rows, places) if row[ID].startswith(id)]


def _rows_at(path: Path, places: list[int]) -> list[dict[str, Any]]:
    out: list[dict[str, Any]] = []
    if not places:
        return out
    with pq.ParquetFile(path) as file:
        first = 0
        for number in range(file.metadata.num_row_groups):
            count = file.metadata.row_group(number).num_rows
            inside = [place - first for place in places if first <= place < first + count]
            if inside:
                out += file.read_row_group(number).take(inside).to_pylist()
            first += count
    return out
