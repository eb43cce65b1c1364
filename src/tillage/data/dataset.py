"""Versions of prepared data: a Delta Lake table whose commits carry their lineage."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, Schema
from deltalake.exceptions import DeltaError, TableNotFoundError
from deltalake.transaction import AddAction, RemoveAction, create_table_with_add_actions

from tillage.core.errors import UserError, WorkFailed
from tillage.core.workspace import check_writable

LINEAGE = "tillage"
"""The key of a commit's metadata that holds the lineage as JSON text."""


@dataclass(frozen=True)
class Version:
    """One commit: its number, the run that made it, rows and the digest of its content."""

    version: int
    lineage: dict[str, Any]


class Dataset:
    """A Delta table at `path`; `version` None means the newest."""

    def __init__(self, path: str | Path, version: int | None = None) -> None:
        self.path = Path(path)
        self.version = version

    @classmethod
    def open(cls, path: str | Path, version: int | None = None) -> Dataset:
        """An existing dataset.

        Raises:
            UserError: no dataset is here, or not in this version.
        """
        dataset = cls(path, version)
        dataset.version = dataset._table().version()
        return dataset

    def exists(self) -> bool:
        return DeltaTable.is_deltatable(str(self.path))

    def commit(self, files: Sequence[Path], schema: pa.Schema, lineage: dict[str, Any]) -> int:
        """Make a new version of exactly these Parquet files; the number of the version.

        The files are linked (or copied) into the table's folder, and one log entry makes them visible: a
        commit that dies half way leaves the table as it was. A commit with the run and digest of an earlier
        version adds nothing and gives that version's number.

        Raises:
            UserError: the folder cannot be written.
            WorkFailed: the table refused the commit.
        """
        known = self.find(lineage["run"], lineage["digest"])
        if known is not None:
            return known
        check_writable(self.path)
        # Named by content: another version's files are never replaced.
        stem = f"{lineage['run']}-{lineage['digest'][:12]}"
        adds = [self._add(path, f"{stem}-{n:05d}") for n, path in enumerate(files)]
        actions: list[AddAction | RemoveAction] = [*adds]
        properties = CommitProperties(custom_metadata={LINEAGE: json.dumps(lineage, ensure_ascii=False)})
        try:
            if self.exists():
                DeltaTable(str(self.path)).create_write_transaction(
                    actions, "overwrite", schema, commit_properties=properties
                )
            else:
                create_table_with_add_actions(
                    str(self.path),
                    Schema.from_arrow(schema),
                    adds,
                    mode="error",
                    commit_properties=properties,
                )
        except DeltaError as error:
            raise WorkFailed("the dataset refused the commit", where=self.path, got=str(error)) from error
        self.version = DeltaTable(str(self.path)).version()
        return self.version

    def find(self, run: str, digest: str) -> int | None:
        """The version that this run committed with this content, if any."""
        if not self.exists():
            return None
        for entry in self.history():
            if (entry.lineage.get("run"), entry.lineage.get("digest")) == (run, digest):
                return entry.version
        return None

    def history(self) -> list[Version]:
        """All commits made by runs, newest first."""
        entries = self._table().history()
        return [
            Version(int(entry["version"]), json.loads(entry[LINEAGE]))
            for entry in entries
            if LINEAGE in entry
        ]

    def lineage(self, version: int | None = None) -> dict[str, Any]:
        """What made a version: run, recipe, inputs, accounts, digest.

        Raises:
            UserError: no such version, or it was not made by a run.
        """
        wanted = version if version is not None else self._table().version()
        for entry in self.history():
            if entry.version == wanted:
                return entry.lineage
        raise UserError("no lineage for this version", where=self.path, got=f"version {wanted}")

    def schema(self) -> pa.Schema:
        return pa.schema(self._table().to_pyarrow_dataset(as_large_types=True).schema)

    def files(self) -> list[Path]:
        """The Parquet files of the version, in a fixed order."""
        return [Path(uri.removeprefix("file://")) for uri in sorted(self._table().file_uris())]

    def count(self) -> int:
        return sum(pq.read_metadata(path).num_rows for path in self.files())

    def batches(
        self, columns: Sequence[str] | None = None, batch_rows: int = 8192
    ) -> Iterator[pa.RecordBatch]:
        """The rows of the version in batches, in a fixed order; strings as large_string."""
        files = self.files()
        for path in files:
            with pq.ParquetFile(path) as file:
                wanted = list(columns) if columns is not None else None
                for batch in file.iter_batches(batch_rows, columns=wanted):
                    yield _large(batch, wanted)

    def _table(self) -> DeltaTable:
        try:
            return DeltaTable(str(self.path), version=self.version)
        except TableNotFoundError as error:
            raise UserError("no dataset here", where=self.path, hint="`tillage run` makes one") from error
        except DeltaError as error:
            raise UserError(
                "no such version of the dataset", where=self.path, got=f"version {self.version}: {error}"
            ) from error

    def _add(self, path: Path, stem: str) -> AddAction:
        name = f"{stem}.zstd.parquet"
        target = self.path / name
        if not (target.exists() and target.samefile(path)):
            _link(path, target)
        stat = target.stat()
        rows = pq.read_metadata(target).num_rows
        return AddAction(
            name, stat.st_size, {}, int(stat.st_mtime * 1000), True, json.dumps({"numRecords": rows})
        )


def _link(path: Path, target: Path) -> None:
    """Hard link or copy, so that `target` appears whole or not at all."""
    temporary = target.with_name(f".{target.name}.tmp")
    with suppress(FileNotFoundError):
        temporary.unlink()
    try:
        os.link(path, temporary)
    except OSError:
        shutil.copy2(path, temporary)
    temporary.replace(target)
    # replace() does nothing when both names are links to one file already.
    with suppress(FileNotFoundError):
        temporary.unlink()


def _large(batch: pa.RecordBatch, columns: list[str] | None) -> pa.RecordBatch:
    if columns is not None:
        batch = batch.select(columns)
    fields = [
        pa.field(f.name, pa.large_string() if pa.types.is_string(f.type) else f.type, f.nullable)
        for f in batch.schema
    ]
    return batch.cast(pa.schema(fields))


def storable(kind: pa.DataType) -> pa.DataType:
    """The type as Delta stores it: signed integers, no half floats, no null type."""
    if pa.types.is_unsigned_integer(kind):
        return pa.int64()
    if pa.types.is_float16(kind):
        return pa.float32()
    if pa.types.is_null(kind):
        return pa.large_string()
    if pa.types.is_dictionary(kind):
        return storable(kind.value_type)
    return kind
