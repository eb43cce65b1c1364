"""Rows between two stages: Arrow files, not packed, that are mapped into memory instead of being read.

Such rows are read once or twice and then no more, so packing them costs more than it saves; and mapped pages
can be given back, so they take no memory that others need.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from io import RawIOBase
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import daft
import pyarrow as pa
from daft.io.source import DataSource, DataSourceTask
from daft.recordbatch import RecordBatch

if TYPE_CHECKING:
    from daft.io.pushdowns import Pushdowns

SUFFIX = ".arrow"
_TASK_BYTES = 32 << 20


def writer(file: BinaryIO | RawIOBase, schema: pa.Schema) -> pa.ipc.RecordBatchFileWriter:
    """Writes batches to such a file."""
    return pa.ipc.new_file(file, schema)


def reader(path: Path) -> pa.ipc.RecordBatchFileReader:
    """The batches of a file, mapped."""
    return pa.ipc.open_file(pa.memory_map(str(path)))


def size(path: Path) -> tuple[int, int]:
    """Rows in a file, and the bytes that they take in memory."""
    batches = reader(path)
    rows = sum(batches.get_batch(i).num_rows for i in range(batches.num_record_batches))
    return rows, path.stat().st_size


def stored_rows(paths: Sequence[Path], schema: pa.Schema) -> daft.DataFrame:
    """A lazy frame over files, with the columns of `schema`; those that a file has not are null."""
    return _Rows(tuple(str(path) for path in paths), schema).read()


class _Rows(DataSource):
    def __init__(self, paths: tuple[str, ...], columns: pa.Schema) -> None:
        self.paths, self.columns = paths, columns

    @property
    def name(self) -> str:
        return "stored rows"

    @property
    def schema(self) -> daft.Schema:
        return daft.Schema.from_pyarrow_schema(self.columns)

    async def get_tasks(self, pushdowns: Pushdowns) -> AsyncIterator[DataSourceTask]:
        del pushdowns  # what is not asked for is never touched: it stays on disk
        for path in self.paths:
            batches = reader(Path(path))
            start = held = 0
            for i in range(batches.num_record_batches):
                held += batches.get_batch(i).nbytes
                if held >= _TASK_BYTES or i == batches.num_record_batches - 1:
                    yield _Task(path, start, i + 1, self.columns)
                    start, held = i + 1, 0


class _Task(DataSourceTask):
    """The batches [start, stop) of one file."""

    def __init__(self, path: str, start: int, stop: int, columns: pa.Schema) -> None:
        self.path, self.start, self.stop, self.columns = path, start, stop, columns

    @property
    def schema(self) -> daft.Schema:
        return daft.Schema.from_pyarrow_schema(self.columns)

    async def read(self) -> AsyncIterator[RecordBatch]:
        batches = reader(Path(self.path))
        for i in range(self.start, self.stop):
            batch = batches.get_batch(i)
            names = set(batch.schema.names)
            columns = [
                batch.column(f.name) if f.name in names else pa.nulls(batch.num_rows, f.type)
                for f in self.columns
            ]
            whole = pa.RecordBatch.from_arrays(columns, schema=self.columns)
            yield RecordBatch.from_arrow_record_batches([whole], self.columns)
