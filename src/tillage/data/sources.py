"""Where raw rows come from: the kinds of source that a recipe can name."""

from __future__ import annotations

import csv
import os
import re
import sys
from abc import abstractmethod
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from pydantic import BeforeValidator, Field, model_validator

from tillage.core.errors import UserError, nearest
from tillage.core.registry import Registry
from tillage.core.spec import Spec
from tillage.data import jsonl
from tillage.data.chat import MESSAGES, MESSAGES_TYPE, ChatForm
from tillage.data.files import InputFile, Part, resolve
from tillage.data.jsonl import Columns, Fault, take
from tillage.data.remote import is_url, open_input
from tillage.data.rows import ARROW, KEY, BadRow, FieldType, RowBuilder, excerpt
from tillage.data.schema import BASE

DEFAULT_DOMAIN = "default"


def _as_list(value: Any) -> Any:
    return [os.fspath(value)] if isinstance(value, str | os.PathLike) else value


Paths = Annotated[tuple[str, ...], BeforeValidator(_as_list), Field(min_length=1)]


class Source(Spec):
    """Files of one kind. `path`: a file, a folder, a glob, or a list of them; or such URLs as `s3://bucket/*`.

    Rows get `domain` (a constant) or the value of `domain_field`; `id_field` is kept as the column `key`;
    `fields` are carried along as extra columns. With `chat` a record in a layout of chats becomes `messages`,
    a list of (role, content), and `text` is rendered from them; `auto` takes each record by its own layout,
    and one without any for plain text. A record that needs more than `max_row_bytes` is quarantined.
    """

    path: Paths
    text_field: str = "text"
    domain: str | None = None
    domain_field: str | None = None
    id_field: str | None = None
    fields: dict[str, FieldType] = {}
    chat: ChatForm | None = None
    max_row_bytes: int = Field(default=64 << 20, gt=0)

    name: ClassVar[str] = ""
    suffixes: ClassVar[tuple[str, ...]]
    # What the files hold is in the fingerprint of a run by their digests; where they lie changes nothing.
    not_in_fingerprint = frozenset({"path"})

    @model_validator(mode="after")
    def _no_clash(self) -> Source:
        taken = {field.name for field in BASE} | {KEY} | ({MESSAGES} if self.chat else set())
        bad = [name for name in self.fields if name in taken or name.startswith("_")]
        if bad:
            raise ValueError(
                f"fields may not be called {', '.join(bad)}: these columns are made by the reader"
            )
        if self.domain is not None and self.domain_field is not None:
            raise ValueError("give domain or domain_field, not both")
        return self

    def canonical(self) -> Any:
        return {"kind": self.name, **super().canonical()}

    def extra(self) -> dict[str, pa.DataType]:
        """The columns beyond BASE that rows of this source have, with their types."""
        key = {KEY: pa.large_string()} if self.id_field else {}
        chat = {MESSAGES: MESSAGES_TYPE} if self.chat else {}
        return {**key, **chat, **{name: ARROW[kind] for name, kind in self.fields.items()}}

    def columns(self) -> Columns:
        domain = self.domain if self.domain is not None else DEFAULT_DOMAIN
        extra = tuple(self.fields.items())
        return Columns(
            self.text_field, domain, self.domain_field, self.id_field, extra, self.max_row_bytes, self.chat
        )

    def files(self) -> tuple[str, list[str]]:
        """The root and the sorted files; `UserError` if there are none."""
        return resolve(list(self.path), self.suffixes, f"source {self.name}")

    def reader(self, path: str) -> Source:
        """The source that reads this file: this one, unless its kind is a folder of files of other kinds."""
        del path
        return self

    def may_split(self, path: str) -> bool:
        """Whether the file may be read in parts cut at newlines."""
        del path
        return False

    def parts(self, file: InputFile) -> list[Part]:
        return file.parts() if file.size else []

    def head(self, path: str) -> list[dict[str, Any]]:
        """The first records of a file, to compare field names with; none where other methods compare them."""
        del path
        return []

    @abstractmethod
    def read(self, part: Part, columns: pa.Schema) -> Iterator[pa.RecordBatch]:
        """The rows of one part as batches with schema `columns`."""


sources: Registry[Source] = Registry("source")


@sources.register
class Jsonl(Source):
    """JSON lines, plain or compressed with gzip or Zstandard; one object a line."""

    suffixes = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".ndjson", ".json.gz", ".json.zst")

    def may_split(self, path: str) -> bool:
        return not path.endswith((".gz", ".zst"))

    def head(self, path: str) -> list[dict[str, Any]]:
        return jsonl.head(path)

    def read(self, part: Part, columns: pa.Schema) -> Iterator[pa.RecordBatch]:
        with open_input(part.path) as file:
            if self.may_split(part.path):
                chunks = _range(file, part.start, part.stop)
            else:
                chunks = jsonl.decompressed(file, part.path)
            yield from jsonl.read(chunks, part.name, part.first, self.columns(), columns)


def _range(file: Any, start: int, stop: int) -> Iterator[bytes | Fault]:
    file.seek(start)
    while start < stop and (chunk := file.read(min(jsonl.BLOCK, stop - start))):
        start += len(chunk)
        yield chunk


@sources.register
class Text(Source):
    """Plain text and Markdown: a row for each file of a folder tree.

    With `front_matter` a block of YAML between two lines of `---` at a file's beginning is not part of its
    text, and `fields`, `domain_field` and `id_field` may name its keys (a list becomes "one, two").
    """

    suffixes = (".txt", ".md", ".markdown")
    front_matter: bool = False

    def read(self, part: Part, columns: pa.Schema) -> Iterator[pa.RecordBatch]:
        rows, want = RowBuilder(part.name, columns), self.columns()
        try:
            if part.size > want.max_bytes:
                raise BadRow("too_long", f"a file of {part.size} bytes, the limit is {want.max_bytes}")
            with open_input(part.path) as file:
                raw = file.read()
            try:
                text = raw.decode("utf-8-sig")
            except UnicodeDecodeError as error:
                raise BadRow("invalid_utf8", f"byte {error.start + 1} of the file is not UTF-8") from None
            if self.front_matter:
                record = _front_matter(text)
                for field, kind in self.fields.items():
                    if field in record:
                        record[field] = _parse(str(record[field]), kind, field)
                # A file that says nothing of its domain is of the usual one.
                take({want.domain_field or "": want.domain, **record}, rows, 1, want)
            else:
                rows.add(1, text, want.domain, {})
        except BadRow as bad:
            rows.quarantine(1, bad.reason, bad.detail)
        yield rows.flush()

    @model_validator(mode="after")
    def _plain(self) -> Text:
        if self.chat or (not self.front_matter and (self.fields or self.domain_field or self.id_field)):
            raise ValueError(
                "text files have no fields: domain_field, id_field, fields and chat cannot be used"
                " (the first three with front_matter can)"
            )
        if self.front_matter and self.text_field != "text":
            raise ValueError("the text of a file with front matter is called 'text'")
        return self


_FRONT = re.compile(r"---[ \t]*\r?\n(.*?)^---[ \t]*(?:\r?\n|\Z)", re.DOTALL | re.MULTILINE)


def _front_matter(text: str) -> dict[str, Any]:
    """The keys of the YAML at the head of a text, and the rest as `text`. Dates are text as they stand."""
    head = _FRONT.match(text)
    if head is None:
        return {"text": text}
    try:
        # The base loader leaves all scalars text; what is a number is told by the type asked for.
        found = yaml.load(head[1], Loader=yaml.BaseLoader) or {}
    except yaml.YAMLError as error:
        raise BadRow("malformed_front_matter", " ".join(str(error).split())) from None
    if not isinstance(found, dict):
        raise BadRow("malformed_front_matter", "the front matter is not a mapping")
    flat = {str(k): ", ".join(map(str, v)) if isinstance(v, list) else v for k, v in found.items()}
    return {**flat, "text": text[head.end() :]}


@sources.register
class Csv(Source):
    """Comma-separated values with a header line; a field may hold quoted newlines."""

    suffixes = (".csv", ".csv.gz", ".csv.zst")
    delimiter: str = Field(default=",", min_length=1, max_length=1)

    def read(self, part: Part, columns: pa.Schema) -> Iterator[pa.RecordBatch]:
        rows, want = RowBuilder(part.name, columns), self.columns()
        csv.field_size_limit(sys.maxsize)
        with open_input(part.path) as file:
            lines = _Lines(jsonl.blocks(jsonl.decompressed(file, part.path), want.max_bytes))
            reader = csv.reader(lines, delimiter=self.delimiter, strict=True)
            header: list[str] | None = None
            while True:
                number = lines.number + 1
                try:
                    cells = next(reader, None)
                    if cells is None:
                        break
                    if header is None:
                        header = cells
                        self._check_header(header, part)
                    elif cells:
                        lines.check()
                        take(self._record(header, cells), rows, number, want)
                except csv.Error as error:
                    rows.quarantine(number, "malformed_csv", str(error))
                    reader = csv.reader(lines, delimiter=self.delimiter, strict=True)
                except BadRow as bad:
                    rows.quarantine(number, bad.reason, bad.detail)
                if rows.bytes > jsonl.BLOCK:
                    yield rows.flush()
            if lines.fault is not None:
                rows.quarantine(lines.number + 1, lines.fault.reason, lines.fault.detail)
        if len(rows):
            yield rows.flush()

    def _check_header(self, header: list[str], part: Part) -> None:
        needed = [None if self.chat else self.text_field, self.domain_field, self.id_field, *self.fields]
        for field in needed:
            if field is not None and field not in header:
                raise UserError(
                    f"no column {field!r}",
                    where=part.path,
                    got=", ".join(header),
                    hint=nearest(field, header),
                )

    def _record(self, header: list[str], cells: list[str]) -> dict[str, object]:
        if len(cells) != len(header):
            raise BadRow("malformed_csv", f"{len(cells)} cells, the header has {len(header)}")
        record: dict[str, object] = dict(zip(header, cells, strict=True))
        for field, kind in self.fields.items():
            record[field] = _parse(str(record[field]), kind, field)
        return record


def _parse(cell: str, kind: FieldType, field: str) -> object:
    """A cell as a value of its type; an empty cell is null unless it is text."""
    if kind == "string":
        return cell
    if not cell:
        return None
    try:
        if kind == "bool":
            return {"true": True, "false": False, "1": True, "0": False}[cell.lower()]
        return int(cell) if kind == "int" else float(cell)
    except (ValueError, KeyError):
        raise BadRow("wrong_type", f"field {field!r} should be {kind}, found {excerpt(cell)}") from None


class _Lines:
    """Decoded lines for the csv module. Remembers what was wrong with those of the present record."""

    def __init__(self, blocks: Iterator[bytes | Fault]) -> None:
        self.number = 0
        self.fault: Fault | None = None
        self._bad: BadRow | None = None
        self._lines = self._split(blocks)

    def _split(self, blocks: Iterator[bytes | Fault]) -> Iterator[str]:
        for block in blocks:
            if isinstance(block, Fault):
                if not block.counts:
                    self.fault = block
                    return
                self.number += 1
                self._bad = BadRow(block.reason, block.detail)
                yield "\n"
                continue
            for raw in block.splitlines(keepends=True) if b"\r" not in block else _newlines(block):
                self.number += 1
                try:
                    yield raw.decode("utf-8-sig" if self.number == 1 else "utf-8")
                except UnicodeDecodeError as error:
                    self._bad = BadRow("invalid_utf8", f"byte {error.start + 1} of the line is not UTF-8")
                    yield raw.decode("utf-8", "replace")

    def check(self) -> None:
        """Raise what was wrong with the lines read since the last check."""
        bad, self._bad = self._bad, None
        if bad is not None:
            raise bad

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        return next(self._lines)


def _newlines(block: bytes) -> list[bytes]:
    lines = [line + b"\n" for line in block.split(b"\n")]
    lines[-1] = lines[-1][:-1]
    return lines if lines[-1] else lines[:-1]


def parquet_file(path: str) -> pq.ParquetFile:
    """A Parquet file by path or URL; local ones are left to Arrow, which reads them faster."""
    return pq.ParquetFile(open_input(path) if is_url(path) else path)


@sources.register
class Parquet(Source):
    """Parquet files; columns by name."""

    suffixes = (".parquet",)

    def parts(self, file: InputFile) -> list[Part]:
        try:
            with parquet_file(file.path) as parquet:
                schema, meta = parquet.schema_arrow, parquet.metadata
                groups = [meta.row_group(i) for i in range(meta.num_row_groups)]
                sizes = [(group.num_rows, group.total_byte_size) for group in groups]
        except (pa.ArrowInvalid, OSError) as error:
            raise UserError("not a whole Parquet file", where=file.path, got=str(error)) from error
        self._check_schema(schema, file.path)
        parts: list[Part] = []
        first = 1
        for index, (rows, size) in enumerate(sizes):
            parts.append(
                Part(file.source, file.path, file.name, file.size, file.stamp, index, index + 1, first, size)
            )
            first += rows
        return parts

    def _check_schema(self, schema: pa.Schema, path: str) -> None:
        kinds: dict[str, tuple[str, Any]] = {} if self.chat else {self.text_field: ("string", _is_text)}
        if self.domain_field:
            kinds[self.domain_field] = ("string", _is_text)
        if self.id_field:
            kinds[self.id_field] = ("string or int", lambda t: _is_text(t) or pa.types.is_integer(t))
        tests = {
            "string": _is_text,
            "int": pa.types.is_integer,
            "float": lambda t: pa.types.is_floating(t) or pa.types.is_integer(t),
            "bool": pa.types.is_boolean,
        }
        kinds.update({name: (kind, tests[kind]) for name, kind in self.fields.items()})
        for name, (kind, test) in kinds.items():
            if name not in schema.names:
                raise UserError(f"no column {name!r}", where=path, hint=nearest(name, schema.names))
            found = schema.field(name).type
            if not test(found):
                raise UserError(f"column {name!r} has the wrong type", where=path, got=found, expected=kind)

    def read(self, part: Part, columns: pa.Schema) -> Iterator[pa.RecordBatch]:
        want = self.columns()
        names = {n for n in (want.text, want.domain_field, want.id_field, *self.fields) if n is not None}
        number = part.first
        with parquet_file(part.path) as parquet:
            batches = parquet.iter_batches(
                4096,
                row_groups=list(range(part.start, part.stop)),
                columns=None if self.chat else sorted(names),  # layouts of chats have many fields
            )
            for batch in batches:
                rows = RowBuilder(part.name, columns)
                for record in _records(batch):
                    try:
                        if isinstance(record, BadRow):
                            raise record
                        size = len(str(record.get(want.text) or ""))
                        if size > want.max_bytes:
                            raise BadRow("too_long", f"a text of {size}, the limit is {want.max_bytes}")
                        take(record, rows, number, want)
                    except BadRow as bad:
                        rows.quarantine(number, bad.reason, bad.detail)
                    number += 1
                yield rows.flush()


def _records(batch: pa.RecordBatch) -> Iterator[dict[str, Any] | BadRow]:
    """The rows of a batch; one whose text is not UTF-8, which Parquet does not check, as a BadRow."""
    try:
        yield from batch.to_pylist()
        return
    except UnicodeDecodeError:
        pass
    for row in range(batch.num_rows):
        try:
            yield batch.slice(row, 1).to_pylist()[0]
        except UnicodeDecodeError as error:
            yield BadRow("invalid_utf8", f"byte {error.start + 1} of a text is not UTF-8")


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
