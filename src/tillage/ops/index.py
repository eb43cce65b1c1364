"""The index that a fit leaves beside its decisions: rows and sketches on disk, clusters as a forest.

Files: `rows-N.parquet` (id, source, line, `_keep`: what the keep rule ranks by), one for each batch of files;
`sketches.bin`, the sketches of all rows one after the other; `forest.npy`, the clusters found so far, 8 bytes
a row. In memory are the forest and one pass of `kernels.lsh.join`; sketches are read where they lie on disk.
"""

from __future__ import annotations

import mmap
import shutil
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq
from daft import DataFrame, col
from numpy.typing import NDArray

from tillage.kernels.arrow import buffers
from tillage.kernels.lsh import Forget, Sketches, roots

pc: Any = pyarrow.compute  # its functions are made at run time

KEEP = "_keep"
_SKETCHES = "sketches.bin"
_FOREST = "forest.npy"
_ROWS = pa.schema([("id", pa.large_string()), ("source", pa.large_string()), ("line", pa.int64())])
_GROUP = 1 << 16
Join = Callable[[Sketches, NDArray[np.int64], int, Forget], None]
"""Sketches, forest (changed in place), first row that is new, what gives memory back: see `lsh.join`."""


def ordered(table: pa.Table) -> pa.Table:
    """Rows as the keep rule ranks them: by `_keep`, highest first, if it is there; by file, line and id."""
    keys = [("source", "ascending"), ("line", "ascending"), ("id", "ascending")]
    if KEEP in table.column_names:
        keys.insert(0, (KEEP, "descending"))
    return table.take(pc.sort_indices(table, sort_keys=keys))


class CopyIndex:
    """Rows in clusters of copies, in a folder. `kind` and `size` are those of a sketch's elements."""

    def __init__(self, folder: Path, kind: type[np.unsignedinteger], size: int) -> None:
        self.folder, self.kind, self.size = folder, np.dtype(kind), size

    def build(self, frame: DataFrame, key: str, keep: str | None, find: Join, before: Path | None) -> None:
        """Add the rows of `frame` whose `key`, a sketch as binary, is not null, to those of `before`.

        Args:
            keep: the column that the keep rule ranks by, if any.
        """
        number = 0
        parents = np.zeros(0, np.int64)
        if before is not None:
            for path in sorted(before.glob("rows-*.parquet")):
                shutil.copyfile(path, self.folder / path.name)
                number += 1
            shutil.copyfile(before / _SKETCHES, self.folder / _SKETCHES)
            parents = np.load(before / _FOREST)
        fresh = len(parents)
        names = ["id", "source", "line", key, *([keep] if keep else [])]
        rows = fresh + self._append(frame.where(col(key).not_null()).select(*names), number, key, keep)
        parents = np.concatenate([parents, np.arange(fresh, rows, dtype=np.int64)])
        with self._sketches(rows) as (sketches, forget):
            find(sketches, parents, fresh, forget)
        np.save(self.folder / _FOREST, parents)
        self.parents = parents

    def _append(self, frame: DataFrame, number: int, key: str, keep: str | None) -> int:
        schema = _ROWS if keep is None else _ROWS.append(pa.field(KEEP, pa.float64()))
        width = self.kind.itemsize * self.size
        rows = 0
        held: list[pa.RecordBatch] = []
        with (
            pq.ParquetWriter(
                self.folder / f"rows-{number:05d}.parquet",
                schema,
                compression="zstd",
                use_dictionary=["source"],  # pyright: ignore[reportArgumentType]
                write_statistics=False,
            ) as writer,
            (self.folder / _SKETCHES).open("ab") as out,
        ):
            for batch in frame.to_arrow_iter():
                view = buffers(batch.column(key))
                data = view.data[view.offsets[0] : view.offsets[-1]]
                if len(data) != width * batch.num_rows:
                    raise ValueError(f"sketches of {key} are not {width} bytes each")
                out.write(data.tobytes())
                rows += batch.num_rows
                columns = [batch.column(n) for n in ("id", "source", "line", *([keep] if keep else []))]
                held.append(
                    pa.record_batch(
                        [c.cast(t) for c, t in zip(columns, schema.types, strict=True)], schema=schema
                    )
                )
                if sum(one.num_rows for one in held) >= _GROUP:
                    writer.write_table(pa.Table.from_batches(held, schema))
                    held = []
            writer.write_table(pa.Table.from_batches(held, schema))
        return rows

    @contextmanager
    def _sketches(self, rows: int) -> Generator[tuple[Sketches, Forget]]:
        """All sketches, shape (rows, size), mapped from disk, and what gives their pages back."""
        if not rows:
            yield np.zeros((0, self.size), self.kind), lambda: None
            return
        with (self.folder / _SKETCHES).open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        sketches = np.frombuffer(mapped, self.kind).reshape(rows, self.size)
        advice = getattr(mmap, "MADV_DONTNEED", None)  # where there is none, the system decides alone
        yield sketches, (lambda: None) if advice is None else (lambda: mapped.madvise(advice))

    def copies(self) -> tuple[pa.Table, NDArray[np.int64], NDArray[np.int64]]:
        """The rows of clusters of two or more in the keep rule's order: a table, the row of it that stays in
        place of each, and how many rows the cluster has."""
        labels = roots(self.parents)
        sizes = np.bincount(labels, minlength=len(labels))
        found = [pq.read_schema(self.folder / "rows-00000.parquet").empty_table()]
        chosen = [np.zeros(0, np.int64)]
        at = 0
        for path in sorted(self.folder.glob("rows-*.parquet")):
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches():
                    own = labels[at : at + batch.num_rows]
                    some = np.flatnonzero(sizes[own] > 1)
                    at += batch.num_rows
                    found.append(pa.Table.from_batches([batch.take(pa.array(some))]))
                    chosen.append(own[some])
        table = pa.concat_tables(found)
        table = table.append_column("_cluster", pa.array(np.concatenate(chosen)))
        table = ordered(table)
        clusters = table.column("_cluster").to_numpy()
        _, first, inverse = np.unique(clusters, return_index=True, return_inverse=True)
        return table, first.astype(np.int64)[inverse], sizes[clusters]
