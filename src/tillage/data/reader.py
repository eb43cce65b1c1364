"""The raw rows of a recipe's sources as a Daft source: planned in parts, quarantining what cannot be read."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import daft
import pyarrow as pa
from daft.io.source import DataSource, DataSourceTask
from daft.recordbatch import RecordBatch

from tillage.core.errors import UserError, nearest
from tillage.core.workspace import write_atomic
from tillage.data.files import InputFile, Inventory, Part, check_unchanged
from tillage.data.rows import schema_of
from tillage.data.sources import Source

if TYPE_CHECKING:
    from daft.io.pushdowns import Pushdowns

TASK_BYTES = 16 << 20
BATCH_BYTES = 4 << 20
HEADS = 8


@dataclass(frozen=True)
class Inputs:
    """All that a run reads: the files with their digests, and the parts in which they are read."""

    sources: tuple[Source, ...]
    files: tuple[InputFile, ...]
    parts: tuple[Part, ...]
    schema: pa.Schema
    unseen: tuple[str, ...] = ()
    """Fields asked for that no record at the head of the files has."""

    @property
    def bytes(self) -> int:
        return sum(part.bytes for part in self.parts)

    def empty_files(self) -> list[str]:
        return [file.path for file in self.files if file.size == 0]


def raw_schema(sources: Sequence[Source]) -> pa.Schema:
    """BASE and the extra columns of all sources.

    Raises:
        UserError: two sources give one column different types.
    """
    extra: dict[str, pa.DataType] = {}
    for number, source in enumerate(sources, 1):
        for name, kind in source.extra().items():
            if extra.setdefault(name, kind) != kind:
                raise UserError(
                    f"two sources give column {name!r} different types",
                    where=f"source {number} ({source.name})",
                    got=kind,
                    expected=extra[name],
                )
    return schema_of(extra)


def plan(sources: Sequence[Source], cache: Path | None = None) -> Inputs:
    """Find the files, take their digests and cut them into parts.

    Raises:
        UserError: nothing matches, a file is named twice, a file cannot be read, all files are empty, or no
            record has a field that is needed.
    """
    schema = raw_schema(sources)
    wanted: list[tuple[int, str, str, bool]] = []
    owner: dict[str, int] = {}
    names: set[str] = set()
    unseen: list[str] = []
    for number, source in enumerate(sources):
        root, paths = source.files()
        for path in paths:
            if path in owner:
                raise UserError(
                    "a file is read by two sources",
                    where=path,
                    got=f"sources {owner[path] + 1} and {number + 1}",
                    hint="narrow one of the globs",
                )
            owner[path] = number
            name = Path(path).relative_to(root).as_posix()
            if name in names:
                # Ids are made of names: files alike in name are told apart by their source.
                name = f"{number + 1}:{name}"
            names.add(name)
            wanted.append((number, path, name, source.may_split(path)))
        unseen += check_fields(source, paths, f"source {number + 1} ({source.name})")
    files = Inventory(cache).look(wanted)
    parts = [part for file in files for part in sources[file.source].parts(file) if file.size]
    if not parts:
        raise UserError("all input files are empty", where=", ".join(p for s in sources for p in s.path))
    return Inputs(tuple(sources), tuple(files), tuple(parts), schema, tuple(unseen))


def check_fields(source: Source, paths: Sequence[str], where: str) -> list[str]:
    """Compare field names with the first records of a few files, before hours are spent on a misspelt one.

    Returns:
        Optional fields that none of these records has, each as a sentence: they may come later.

    Raises:
        UserError: none of these records has a field without which all would be quarantined.
    """
    chosen = paths[:: max(1, len(paths) // HEADS)][:HEADS]
    try:
        heads = {path: found for path in chosen if (found := source.head(path))}
    except OSError:
        return []  # reading the file names it and the reason
    records = [record for found in heads.values() for record in found]
    known = {name for record in records for name in record}
    if not known:
        return []
    shown = next(iter(heads)) + (f" and {len(heads) - 1} more" if len(heads) > 1 else "")
    needed = {
        "text_field": None if source.chat else source.text_field,
        "domain_field": source.domain_field,
        "id_field": source.id_field,
    }
    for role, field in needed.items():
        if field is not None and field not in known:
            raise UserError(
                f"no record has the field {field!r}",
                where=f"{where}: {role}",
                got=f"fields {', '.join(sorted(known)[:20])} in the first {len(records)} records of {shown}",
                hint=nearest(field, known),
            )
    return [
        f"{where}: none of the first {len(records)} records has the field {name!r} ({nearest(name, known)})"
        for name in source.fields
        if name not in known
    ]


def read_part(inputs_sources: Sequence[Source], part: Part, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """The rows of one part; `UserError` if its file is not the one that was planned."""
    check_unchanged(part)
    try:
        yield from inputs_sources[part.source].read(part, schema)
    except OSError as error:
        check_unchanged(part)
        raise UserError("cannot read an input file", where=part.path, got=error.strerror or error) from error


def read_all(inputs: Inputs) -> Iterator[pa.RecordBatch]:
    """All rows in the order of the files, without an engine: for samples and small inputs."""
    for part in inputs.parts:
        yield from read_part(inputs.sources, part, inputs.schema)


def rows(inputs: Inputs, parts: Sequence[Part], counts: Path) -> daft.DataFrame:
    """A lazy frame over `parts`. Each task leaves the number of rows it read in the folder `counts`,
    so that what comes out of a query can be held against what went in."""
    return RowSource(inputs.sources, tuple(parts), inputs.schema, counts).read()


def no_rows(schema: pa.Schema) -> daft.DataFrame:
    """A lazy frame with these columns and no rows; making it starts no runner."""
    return RowSource((), (), schema, Path()).read()


def counted(counts: Path) -> dict[str, int]:
    """Rows read by file name, from what the tasks left."""
    total: dict[str, int] = {}
    for path in sorted(counts.glob("*.json")):
        for name, n in json.loads(path.read_text()).items():
            total[name] = total.get(name, 0) + n
    return total


class RowSource(DataSource):
    """Reads parts, a few to a task."""

    def __init__(
        self, sources: tuple[Source, ...], parts: tuple[Part, ...], columns: pa.Schema, counts: Path
    ) -> None:
        self.sources, self.parts, self.columns, self.counts = sources, parts, columns, counts

    @property
    def name(self) -> str:
        return "raw rows"

    @property
    def schema(self) -> daft.Schema:
        return daft.Schema.from_pyarrow_schema(self.columns)

    async def get_tasks(self, pushdowns: Pushdowns) -> AsyncIterator[DataSourceTask]:
        del pushdowns  # all columns are made anyway, and the engine applies filters itself
        group: list[Part] = []
        number = 0
        for part in self.parts:
            group.append(part)
            if sum(p.bytes for p in group) >= TASK_BYTES:
                yield RowTask(self.sources, tuple(group), self.columns, self.counts / f"{number:06d}.json")
                group, number = [], number + 1
        if group:
            yield RowTask(self.sources, tuple(group), self.columns, self.counts / f"{number:06d}.json")


class RowTask(DataSourceTask):
    """Some parts, one after the other."""

    def __init__(
        self, sources: tuple[Source, ...], parts: tuple[Part, ...], columns: pa.Schema, count: Path
    ) -> None:
        self.sources, self.parts, self.columns, self.count = sources, parts, columns, count

    @property
    def schema(self) -> daft.Schema:
        return daft.Schema.from_pyarrow_schema(self.columns)

    async def read(self) -> AsyncIterator[RecordBatch]:
        counts: dict[str, int] = {}
        batches = self._joined(counts)
        # Parsing in a thread lets other tasks parse at the same time.
        while (batch := await asyncio.to_thread(self._next, batches)) is not None:
            yield RecordBatch.from_arrow_record_batches([batch], self.columns)
        write_atomic(self.count, json.dumps(counts))

    def _joined(self, counts: dict[str, int]) -> Iterator[pa.RecordBatch]:
        """The batches of all parts; small ones, as of a folder of notes, are put together."""
        held: list[pa.RecordBatch] = []
        size = 0
        for part in self.parts:
            counts.setdefault(part.name, 0)
            for batch in read_part(self.sources, part, self.columns):
                counts[part.name] += batch.num_rows
                held.append(batch)
                size += batch.nbytes
                if size >= BATCH_BYTES:
                    yield _one(held)
                    held, size = [], 0
        if held:
            yield _one(held)

    def _next(self, batches: Iterator[pa.RecordBatch]) -> pa.RecordBatch | None:
        try:
            return next(batches, None)
        except UserError as error:
            # The engine turns exceptions into text: what the user should see is left beside the counts.
            parts = [error.what, *(None if x is None else str(x) for x in _told(error))]
            write_atomic(self.count.with_suffix(".error"), json.dumps(parts))
            raise


def _one(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    return batches[0] if len(batches) == 1 else pa.concat_batches(batches)


def _told(error: UserError) -> tuple[object, ...]:
    return error.where, error.got, error.expected, error.hint


def raise_left(counts: Path) -> None:
    """Raise the first `UserError` that a task left in the folder, if any."""
    for path in sorted(counts.glob("*.error")):
        what, where, got, expected, hint = json.loads(path.read_text())
        raise UserError(what, where=where, got=got, expected=expected, hint=hint)
