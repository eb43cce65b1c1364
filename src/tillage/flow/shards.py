"""The files of a shard: rows kept, rows dropped, what was counted."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tillage.core.whole import SummedFile
from tillage.core.workspace import write_atomic
from tillage.data import stored
from tillage.data.dataset import storable
from tillage.data.schema import DETAIL, DROP, ID
from tillage.data.stored import SUFFIX
from tillage.flow.accounts import Stats
from tillage.flow.rowindex import keys, write_index
from tillage.kernels.digest import TableDigest

STATS = "stats.json"
GROUP_BYTES = 16 << 20
BATCH_BYTES = 8 << 20
_LOW_CARDINALITY = ("domain", "source", DROP)


class ShardWriter:
    """Writes the rows of a shard to files, kept and dropped ones, and counts them on the way.

    Kept rows of the final stage lose all columns that begin with "_"; those of other stages keep the keys,
    and go to an Arrow file that the next stage maps into memory.
    """

    def __init__(
        self, folder: Path, stem: str, bytes_columns: Sequence[str], keys: Sequence[str], final: bool
    ) -> None:
        self.stats = Stats()
        self.final = final
        self.bytes_columns, self.keys = list(bytes_columns), frozenset(keys)
        # Rows that go on are found again in the stage that they end in.
        self._kept = (
            _Parquet(folder / f"kept-{stem}.parquet") if final else _Arrow(folder / f"kept-{stem}{SUFFIX}")
        )
        self._dropped = _Parquet(folder / f"dropped-{stem}.parquet")
        self._digest = TableDigest()
        self._held: list[pa.RecordBatch] = []
        self._bytes = 0

    def add(self, batch: pa.RecordBatch) -> None:
        """Take a batch; work on it when there is enough to make it worth while."""
        self._held.append(batch)
        self._bytes += batch.nbytes
        if self._bytes >= BATCH_BYTES:
            self._flush()

    def _flush(self) -> None:
        if sum(batch.num_rows for batch in self._held):
            self._work(pa.Table.from_batches(self._held))
        self._held, self._bytes = [], 0

    def _work(self, rows: pa.Table) -> None:
        """The texts of rows that all go the same way are not copied."""
        self.stats.add(rows, self.bytes_columns)
        drop = rows.column(DROP)
        names = [n for n in rows.column_names if n not in self.bytes_columns]
        kept_names = [n for n in names if not n.startswith("_") or (not self.final and n in self.keys)]
        kept = _storable(_where(rows.select(kept_names), drop.is_null(), drop.null_count))
        if self.final:
            kept = kept.combine_chunks()
        self._kept.add(kept.to_batches())
        dropped_names = [n for n in names if not n.startswith("_") or n in (DROP, DETAIL)]
        gone = rows.num_rows - drop.null_count
        self._dropped.add(_storable(_where(rows.select(dropped_names), drop.is_valid(), gone)).to_batches())
        if self.final:
            for batch in kept.to_batches():
                self._digest.update(batch)

    def close(self) -> Stats:
        self._flush()
        self._kept.finish()
        self._dropped.finish()
        self._kept.close()
        self._dropped.close()
        self.stats.digest = self._digest.hexdigest()
        return self.stats

    @property
    def sums(self) -> dict[str, list[int]]:
        """Bytes and checksum of each file of rows, once closed."""
        return {**self._kept.sums, **self._dropped.sums}


class _Output:
    """One file, made when the first row comes. It is written by a thread of its own, which takes a group of
    rows at a time: at most two groups are held."""

    group_bytes = GROUP_BYTES

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: SummedFile | None = None
        self._thread = ThreadPoolExecutor(1)
        self._writing: Future[None] | None = None
        self._held: list[pa.RecordBatch] = []
        self._bytes = 0

    def add(self, batches: Sequence[pa.RecordBatch]) -> None:
        self._held += [batch for batch in batches if batch.num_rows]
        self._bytes += sum(batch.nbytes for batch in batches)
        if self._bytes >= self.group_bytes:
            self._flush()

    def _flush(self) -> None:
        self._wait()
        self._writing = self._thread.submit(self._write, self._held)
        self._held, self._bytes = [], 0

    def _wait(self) -> None:
        """What went wrong in the thread is raised here."""
        if self._writing is not None:
            self._writing.result()

    def finish(self) -> None:
        """Begin to write what is left."""
        if self._held:
            self._flush()

    def close(self) -> None:
        self._wait()
        self._thread.shutdown()
        if self._file is not None:
            self._end()
            self._file.close()

    @property
    def sums(self) -> dict[str, list[int]]:
        return {} if self._file is None else {self.path.name: self._file.sum}

    def _write(self, batches: list[pa.RecordBatch]) -> None:
        raise NotImplementedError

    def _end(self) -> None:
        raise NotImplementedError


class _Parquet(_Output):
    """Packed, in row groups of about GROUP_BYTES, with an index by id beside it."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._keys: list[NDArray[np.uint64]] = []
        self._writer: pq.ParquetWriter | None = None

    def _write(self, batches: list[pa.RecordBatch]) -> None:
        table = pa.Table.from_batches(batches)
        self._keys += [keys(batch.column(ID)) for batch in batches]
        if self._writer is None:
            self._file = SummedFile(self.path)
            encoded = [name for name in table.schema.names if name in _LOW_CARDINALITY]
            self._writer = pq.ParquetWriter(
                self._file,
                table.schema,
                compression="zstd",
                use_dictionary=encoded,  # pyright: ignore[reportArgumentType]
                write_statistics=False,
            )
        self._writer.write_table(table, row_group_size=max(1, table.num_rows))

    def _end(self) -> None:
        assert self._writer is not None
        self._writer.close()
        write_index(self.path, self._keys)


class _Arrow(_Output):
    """As it is in memory."""

    group_bytes = BATCH_BYTES

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._writer: pa.ipc.RecordBatchFileWriter | None = None

    def _write(self, batches: list[pa.RecordBatch]) -> None:
        if self._writer is None:
            self._file = SummedFile(self.path)
            self._writer = stored.writer(self._file, batches[0].schema)
        for batch in batches:
            self._writer.write_batch(batch)

    def _end(self) -> None:
        assert self._writer is not None
        self._writer.close()


def _where(rows: pa.Table, chosen: pa.ChunkedArray, count: int) -> pa.Table:
    """The chosen rows, `count` of them; nothing is copied where that is all or none."""
    if count in (0, rows.num_rows):
        return rows.slice(0, count)
    return rows.filter(chosen)


def _storable(rows: pa.Table) -> pa.Table:
    return rows.cast(storable_schema(rows.schema))


def storable_schema(schema: pa.Schema) -> pa.Schema:
    return pa.schema([pa.field(f.name, storable(f.type)) for f in schema])


def kept_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("kept-*") if path.suffix in (".parquet", SUFFIX))


def dropped_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("dropped-*.parquet"))


def write_stats(folder: Path, stats: Stats) -> None:
    write_atomic(folder / STATS, json.dumps(stats.to_dict(), ensure_ascii=False))


def read_stats(folder: Path) -> Stats:
    return Stats(**json.loads((folder / STATS).read_text(encoding="utf-8")))
