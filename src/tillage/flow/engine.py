"""The border to Daft: which runner, how a query's rows reach the files, and how its errors are named."""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import daft
import pyarrow as pa
from daft import DataFrame
from daft.exceptions import DaftCoreException
from daft.io.sink import DataSink, WriteResult
from daft.recordbatch import MicroPartition
from daft.runners import get_or_create_runner

from tillage.core.errors import UserError, WorkFailed
from tillage.core.workspace import disk_full
from tillage.flow.accounts import Stats
from tillage.flow.shards import ShardWriter

Runner = Literal["native", "ray"]
MakeWriter = Callable[[str], ShardWriter]


def use(runner: Runner) -> None:
    """Choose where queries run, for the whole process.

    Raises:
        UserError: an unknown runner, ray is not installed, or the process already uses the other runner.
    """
    if runner not in ("native", "ray"):
        raise UserError(f"unknown runner {runner!r}", expected="native or ray")
    # The engine logs each error that it also raises: the exception is enough.
    logging.getLogger("daft_local_execution").setLevel(logging.CRITICAL)
    if runner == "ray":
        _start_ray()
    else:
        # Not left to Daft to find out, which imports ray to ask whether this is a cluster.
        with suppress(DaftCoreException):  # one was chosen before: which, is looked at below
            daft.set_runner_native()
    using = get_or_create_runner().name
    if using != runner:
        raise UserError(
            f"this process already runs queries on the {using} runner",
            expected=runner,
            hint="start a new process for the other runner",
        )


def _start_ray() -> None:
    try:
        import ray
    except ImportError as error:
        raise UserError("the Ray runner needs ray", hint="pip install 'tillage[ray]'") from error
    logging.getLogger("ray").setLevel(logging.ERROR)
    logging.getLogger("daft").setLevel(logging.ERROR)
    if not ray.is_initialized():
        address = os.environ.get("RAY_ADDRESS")
        ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False, include_dashboard=False)
    daft.set_runner_ray(noop_if_initialized=True)


def write(frame: DataFrame, make_writer: MakeWriter, runner: Runner) -> tuple[Stats, dict[str, list[int]]]:
    """Run the query and write its rows; the counts of what was written, and the sums of the files of rows.

    Here, rows stream to one pair of files. On Ray, each task writes files of its own where it runs, so that
    no row passes through the driver: the folder must then be one that all nodes share.
    """
    if runner == "ray":
        sink = _FileSink(make_writer)
        frame.write_sink(sink)
        return sink.stats, sink.sums
    writer = make_writer("0")
    for batch in frame.to_arrow_iter():
        writer.add(batch)
    return writer.close(), writer.sums


class _FileSink(DataSink[dict[str, Any]]):
    def __init__(self, make_writer: MakeWriter) -> None:
        self.make_writer = make_writer
        self.stats = Stats()
        self.sums: dict[str, list[int]] = {}

    def name(self) -> str:
        return "shard files"

    def schema(self) -> daft.Schema:
        return daft.Schema.from_pyarrow_schema(pa.schema([("files", pa.int64())]))

    def write(self, micropartitions: Iterator[MicroPartition]) -> Iterator[WriteResult[dict[str, Any]]]:
        writer = self.make_writer(uuid.uuid4().hex)
        for part in micropartitions:
            for batch in part.to_arrow().to_batches():
                writer.add(batch)
        stats = writer.close()
        result = {"stats": stats.to_dict(), "sums": writer.sums}
        yield WriteResult(result, sum(b[0] for b in stats.bytes.values()), sum(stats.rows.values()))

    def finalize(self, write_results: list[WriteResult[dict[str, Any]]]) -> MicroPartition:
        for result in write_results:
            self.stats.merge(Stats(**result.result["stats"]))
            self.sums.update(result.result["sums"])
        return MicroPartition.from_pydict({"files": [len(write_results)]})


@dataclass(frozen=True)
class FileWriter:
    """Makes the writers of one shard; picklable, so that it reaches Ray's workers."""

    folder: Path
    bytes_columns: Sequence[str]
    keys: Sequence[str]
    final: bool

    def __call__(self, stem: str) -> ShardWriter:
        return ShardWriter(self.folder, stem, self.bytes_columns, self.keys, self.final)


def named(error: Exception, where: str) -> WorkFailed:
    """A foreign exception of a query as ours: the engine's message without its wrapping."""
    full = disk_full(error, where)
    if full is not None:
        return full
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = [line for line in lines if not line.startswith(("Caused by", "Due to", "Details"))]
    text = " | ".join(dict.fromkeys(said)) or type(error).__name__
    return WorkFailed("a stage failed", where=where, got=f"{type(error).__name__}: {text}"[:600])
