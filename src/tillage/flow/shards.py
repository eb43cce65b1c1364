"""The files of a shard: rows kept, rows dropped, what was counted."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tillage.core.workspace import write_atomic
from tillage.data.dataset import storable
from tillage.data.schema import DETAIL, DROP, ID
from tillage.flow.accounts import Stats
from tillage.flow.rowindex import keys, write_index
from tillage.kernels.digest import TableDigest

STATS = "stats.json"
GROUP_BYTES = 32 << 20
BATCH_BYTES = 8 << 20
_LOW_CARDINALITY = ("domain", "source", DROP)


class ShardWriter:
    """Writes rows to `kept` and `dropped` Parquet files and counts them on the way.

    Kept rows of the final stage lose all columns that begin with "_"; those of other stages keep the keys.
    """

    def __init__(
        self, folder: Path, stem: str, bytes_columns: Sequence[str], keys: Sequence[str], final: bool
    ) -> None:
        self.stats = Stats()
        self.final = final
        self.bytes_columns, self.keys = list(bytes_columns), frozenset(keys)
        # Rows that go on are found again in the stage that they end in.
        self._kept = _Output(folder / f"kept-{stem}.parquet", indexed=final)
        self._dropped = _Output(folder / f"dropped-{stem}.parquet", indexed=True)
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
            self._work(pa.concat_batches(self._held))
        self._held, self._bytes = [], 0

    def _work(self, batch: pa.RecordBatch) -> None:
        self.stats.add(batch, self.bytes_columns)
        alive = batch.column(DROP).is_null()
        names = [n for n in batch.schema.names if n not in self.bytes_columns]
        kept_names = [n for n in names if not n.startswith("_") or (not self.final and n in self.keys)]
        kept = _storable(batch.select(kept_names).filter(alive))
        if self.final and kept.num_rows:
            self._digest.update(kept)
        self._kept.add(kept)
        dropped_names = [n for n in names if not n.startswith("_") or n in (DROP, DETAIL)]
        dropped = batch.select(dropped_names).filter(batch.column(DROP).is_valid())
        self._dropped.add(_storable(dropped))

    def close(self) -> Stats:
        self._flush()
        self._kept.close()
        self._dropped.close()
        self.stats.digest = self._digest.hexdigest()
        return self.stats


class _Output:
    """One Parquet file, made when the first row comes; row groups of about GROUP_BYTES.

    `indexed`: with an index by id beside it.
    """

    def __init__(self, path: Path, indexed: bool) -> None:
        self.path, self.indexed = path, indexed
        self._keys: list[NDArray[np.uint64]] = []
        self._writer: pq.ParquetWriter | None = None
        self._held: list[pa.RecordBatch] = []
        self._bytes = 0

    def add(self, batch: pa.RecordBatch) -> None:
        if not batch.num_rows:
            return
        if self.indexed:
            self._keys.append(keys(batch.column(ID)))
        self._held.append(batch)
        self._bytes += batch.nbytes
        if self._bytes >= GROUP_BYTES:
            self._flush()

    def _flush(self) -> None:
        table = pa.Table.from_batches(self._held)
        if self._writer is None:
            encoded = [name for name in table.schema.names if name in _LOW_CARDINALITY]
            self._writer = pq.ParquetWriter(
                self.path,
                table.schema,
                # Rows that go on are read once more: to pack them tightly costs more than it saves.
                compression="zstd" if self.indexed else "lz4",
                use_dictionary=encoded,  # pyright: ignore[reportArgumentType]
                write_statistics=False,
            )
        self._writer.write_table(table, row_group_size=max(1, table.num_rows))
        self._held, self._bytes = [], 0

    def close(self) -> None:
        if self._held:
            self._flush()
        if self._writer is not None:
            self._writer.close()
            if self.indexed:
                write_index(self.path, self._keys)


def _storable(batch: pa.RecordBatch) -> pa.RecordBatch:
    return batch.cast(storable_schema(batch.schema))


def storable_schema(schema: pa.Schema) -> pa.Schema:
    return pa.schema([pa.field(f.name, storable(f.type)) for f in schema])


def kept_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("kept-*.parquet"))


def dropped_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("dropped-*.parquet"))


def write_stats(folder: Path, stats: Stats) -> None:
    write_atomic(folder / STATS, json.dumps(stats.to_dict(), ensure_ascii=False))


def read_stats(folder: Path) -> Stats:
    return Stats(**json.loads((folder / STATS).read_text(encoding="utf-8")))
