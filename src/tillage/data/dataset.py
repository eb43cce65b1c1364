"""Versions of prepared data: a Delta Lake table whose commits carry their lineage."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, PostCommitHookProperties, Schema
from deltalake.exceptions import DeltaError, TableNotFoundError
from deltalake.transaction import AddAction, RemoveAction, create_table_with_add_actions

from tillage.core.errors import UserError, WorkFailed
from tillage.core.workspace import check_writable
from tillage.data.tablefiles import alone, content_name, file_damage, link
from tillage.kernels.digest import add_digests
from tillage.kernels.hashing import hash_strings

LINEAGE = "tillage"
"""The key of a commit's metadata that holds the lineage as JSON text."""
_KEEP_LOG = PostCommitHookProperties(create_checkpoint=True, cleanup_expired_logs=False)
"""The log is the lineage: Delta would drop entries of more than 30 days, and their versions with them."""
_EMPTY = np.zeros(0, np.uint64)


@dataclass(frozen=True)
class Version:
    """One commit: its number, when it was made (seconds since the epoch) and what it came from."""

    version: int
    time: float
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
        commit that dies half way leaves the table as it was. Files that the newest version has already stay
        as they are. If it is of the same run and digest, and whole, nothing is added and its number is given.
        Commits to one table, from whatever process, come one after the other.

        Raises:
            UserError: the folder cannot be written.
            WorkFailed: the table refused the commit.
        """
        check_writable(self.path)
        with alone(self.path):
            known = self._known(files, lineage)
            if known is not None:
                return known
            return self._write([self._link(path) for path in files], schema, lineage)

    def append(self, files: Sequence[Path], schema: pa.Schema, lineage: dict[str, Any]) -> int:
        """Make a new version of the rows of the newest one and those of `files`; the number of the version.

        `lineage` gets `base`, the version that was added to; what it says of rows and bytes is of `files`
        and becomes `added`. Appending the same run again adds nothing.

        Raises:
            UserError: other columns than the dataset has, or a row that it holds already (by id).
            WorkFailed: the table refused the commit.
        """
        if not self.exists():
            return self.commit(files, schema, lineage)
        with alone(self.path):
            before = Dataset.open(self.path)
            base = before.lineage()
            added = {key: lineage[key] for key in ("run", "digest", "rows", "bytes")}
            if base.get("added") == added or _same(base, lineage):
                assert before.version is not None
                return before.version
            _check_columns(before.schema(), schema, self.path)
            _check_new(before, files)
            whole = {
                **lineage,
                "base": before.version,
                "added": added,
                "digest": add_digests(base["digest"], lineage["digest"]),
                "rows": base["rows"] + lineage["rows"],
                "bytes": base["bytes"] + lineage["bytes"],
                "contamination": _together(base.get("contamination"), lineage.get("contamination")),
            }
            names = [path.name for path in before.files()]
            return self._write([*names, *(self._link(path) for path in files)], schema, whole)

    def rollback(self, version: int) -> int:
        """Make a new version that is equal to an old one; the number of the version.

        Raises:
            UserError: no such version, it is the newest already, or its files are gone.
        """
        old = Dataset.open(self.path, version)
        with alone(self.path):
            newest = Dataset.open(self.path).version
            if version == newest:
                raise UserError("this is the newest version already", where=self.path, got=version)
            files = old.files()
            gone = [str(path) for path in files if not path.exists()]
            if gone:
                raise UserError("files of this version are gone", where=self.path, got=gone[0])
            lineage = {**old.lineage(), "rolled_back": {"from": newest, "to": version}}
            return self._write([path.name for path in files], old.schema(), lineage)

    def history(self) -> list[Version]:
        """All commits made by runs, newest first, whichever version is open."""
        self._table()
        # A table open at an old version gives all entries and counts them down from its own number (1.6.6).
        return [
            Version(int(entry["version"]), entry["timestamp"] / 1000, json.loads(entry[LINEAGE]))
            for entry in DeltaTable(str(self.path)).history()
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

    def damage(self) -> list[str]:
        """A sentence for each file of the version that is gone or not what was written; reads all of them."""
        return [what for path in self.files() if (what := file_damage(path)) is not None]

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

    def _known(self, files: Sequence[Path], lineage: dict[str, Any]) -> int | None:
        """The newest version, if it is of this run and digest and its files are whole."""
        if not self.exists():
            return None
        newest = Dataset.open(self.path)
        if not _same(newest.lineage(), lineage):
            return None
        # What is one file with the run's own was checked when the run took it up.
        given = {(s.st_dev, s.st_ino) for s in (path.stat() for path in files)}
        for path in newest.files():
            found = path.stat() if path.exists() else None
            if (found is None or (found.st_dev, found.st_ino) not in given) and file_damage(path):
                return None
        return newest.version

    def _link(self, path: Path) -> str:
        """Bring a file into the table's folder; its name there."""
        name = content_name(path)
        link(path, self.path / name)
        return name

    def _write(self, names: Sequence[str], schema: pa.Schema, lineage: dict[str, Any]) -> int:
        """One log entry after which the table holds exactly the files `names` of its folder."""
        properties = CommitProperties(custom_metadata={LINEAGE: json.dumps(lineage, ensure_ascii=False)})
        try:
            if not self.exists():
                create_table_with_add_actions(
                    str(self.path),
                    Schema.from_arrow(schema),
                    [self._add(name) for name in names],
                    mode="error",
                    commit_properties=properties,
                    post_commithook_properties=_KEEP_LOG,
                )
            else:
                self._replace(names, schema, properties)
        except DeltaError as error:
            raise WorkFailed("the dataset refused the commit", where=self.path, got=str(error)) from error
        self.version = DeltaTable(str(self.path)).version()
        return self.version

    def _replace(self, names: Sequence[str], schema: pa.Schema, properties: CommitProperties) -> None:
        table = DeltaTable(str(self.path))
        old = {Path(uri).name: size for uri, size in _sizes(table)}
        adds: list[AddAction | RemoveAction] = [self._add(name) for name in names if name not in old]
        if table.schema() == Schema.from_arrow(schema):
            gone = sorted(old.keys() - set(names))
            now = int(time.time() * 1000)
            actions, mode = [*adds, *(RemoveAction(name, True, now, old[name]) for name in gone)], "append"
        else:
            # Another schema replaces the table's; files of the old one are never among the new.
            actions, mode = adds, "overwrite"
        table.create_write_transaction(
            actions,
            mode,
            Schema.from_arrow(schema),
            commit_properties=properties,
            post_commithook_properties=_KEEP_LOG,
        )

    def _add(self, name: str) -> AddAction:
        stat = (self.path / name).stat()
        rows = pq.read_metadata(self.path / name).num_rows
        return AddAction(
            name, stat.st_size, {}, int(stat.st_mtime * 1000), True, json.dumps({"numRecords": rows})
        )


def _together(base: dict[str, Any] | None, new: dict[str, Any] | None) -> dict[str, Any]:
    """What two lots of rows are known to hold of evaluation sets: clean if both are, of the same sets."""
    both = [said or {"verdict": "unchecked", "sets": []} for said in (base, new)]
    verdicts = [said["verdict"] for said in both]
    sets = [{one["content"] for one in said["sets"] if one["step"] == "gate"} for said in both]
    verdict = "marked" if "marked" in verdicts else "unchecked"
    if verdicts == ["clean", "clean"] and sets[0] == sets[1]:
        verdict = "clean"
    return {"verdict": verdict, "sets": [one for said in both for one in said["sets"]]}


def _same(known: dict[str, Any], lineage: dict[str, Any]) -> bool:
    return (known.get("run"), known.get("digest")) == (lineage["run"], lineage["digest"])


def _sizes(table: DeltaTable) -> list[tuple[str, int]]:
    actions = pa.table(table.get_add_actions(flatten=True))
    paths, sizes = actions.column("path").to_pylist(), actions.column("size_bytes").to_pylist()
    return list(zip(paths, sizes, strict=True))


def _check_columns(have: pa.Schema, new: pa.Schema, where: Path) -> None:
    if Schema.from_arrow(have) != Schema.from_arrow(new):
        differing = sorted({str(f) for f in have} ^ {str(f) for f in Schema.from_arrow(new).to_arrow()})
        raise UserError(
            "rows with other columns cannot be appended",
            where=where,
            got=", ".join(differing)[:300],
            expected="the columns and types of the newest version",
            hint="replace the version instead, or bring the recipe's steps into line",
        )


def _check_new(before: Dataset, files: Sequence[Path]) -> None:
    """`UserError` if a row of `files` is in the dataset already; holds 8 bytes for each row of both."""
    old = np.sort(np.concatenate([_EMPTY, *(hash_strings(b.column("id")) for b in before.batches(["id"]))]))
    for path in files:
        ids = pq.read_table(path, columns=["id"]).column("id")
        hashed = hash_strings(ids)
        place = np.searchsorted(old, hashed)
        twice = np.flatnonzero(old[np.minimum(place, len(old) - 1)] == hashed) if len(old) else []
        if len(twice):
            raise UserError(
                "rows that the dataset holds already cannot be appended",
                where=before.path,
                got=f"{len(twice)} of {len(ids)} rows of {path.name}, the first is {ids[int(twice[0])]}",
                hint="run the recipe over all files without appending: finished work is reused",
            )


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
