"""JSON lines: parsed by blocks in compiled code; a block that is not in order is read line by line."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import BinaryIO, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.json as pj
import zstandard

from tillage.data.chat import MESSAGES, ChatForm, render, to_messages
from tillage.data.remote import open_input
from tillage.data.rows import (
    EXCERPT,
    KEY,
    BadRow,
    FieldType,
    Reason,
    RowBuilder,
    excerpt,
    good_batch,
    typed,
)
from tillage.kernels.json_lines import line_ranges, read_strings

BLOCK = 8 << 20
_COMPRESSED_READ = 256 << 10
_HEAD_BYTES, _HEAD_LINES = 256 << 10, 100
_OPEN, _CLOSE = 123, 125


@dataclass(frozen=True)
class Columns:
    """Which fields of a record become which columns; `extra` maps column names to types."""

    text: str
    domain: str
    domain_field: str | None
    id_field: str | None
    extra: tuple[tuple[str, FieldType], ...]
    max_bytes: int
    chat: ChatForm | None = None


@dataclass(frozen=True)
class Fault:
    """Something in the stream that is not a block of lines; it takes one line number if `counts`."""

    reason: Reason
    detail: str
    counts: bool


def decompressed(file: BinaryIO, path: str) -> Iterator[bytes | Fault]:
    """The content of a plain, .gz or .zst file in chunks; a Fault where it is cut or spoilt."""
    if not path.endswith((".gz", ".zst")):
        while chunk := file.read(BLOCK):
            yield chunk
        return
    make = _unzstd if path.endswith(".zst") else _gunzip
    state, fed = make(), False
    while raw := file.read(_COMPRESSED_READ):
        while raw:
            if state.eof:
                if not raw.strip(b"\0"):
                    break
                state, fed = make(), False
            try:
                out = state.decompress(raw)
            except (zlib.error, zstandard.ZstdError) as error:
                yield Fault("corrupt", f"the compressed stream is spoilt from here: {error}", False)
                return
            fed = True
            if out:
                yield out
            raw = state.unused_data if state.eof else b""
    if fed and not state.eof:
        yield Fault("truncated", "the compressed file ends before its stream does", False)


class _Stream(Protocol):
    """What zlib's and zstandard's decompressors have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, /) -> bytes: ...


def _gunzip() -> _Stream:
    return zlib.decompressobj(wbits=31)


def _unzstd() -> _Stream:
    return zstandard.ZstdDecompressor().decompressobj()


def blocks(chunks: Iterator[bytes | Fault], max_bytes: int) -> Iterator[bytes | Fault]:
    """Whole lines in blocks of about BLOCK bytes. A longer line is a block of its own; one over `max_bytes`
    becomes a Fault and is never held whole. A line that a fault of the stream cuts is left out."""
    held: list[bytes] = []
    size = skipped = 0
    head = b""
    for chunk in chunks:
        if isinstance(chunk, Fault):
            end = b"".join(held).rfind(b"\n") + 1
            if end:
                yield b"".join(held)[:end]
            yield chunk
            return
        if skipped:
            end = chunk.find(b"\n")
            if end < 0:
                skipped += len(chunk)
                continue
            yield _too_long(skipped + end, max_bytes, head)
            chunk, skipped = chunk[end + 1 :], 0
        held.append(chunk)
        size += len(chunk)
        if size < BLOCK:
            continue
        end = chunk.rfind(b"\n") + 1
        if not end:  # a long line: what came before it may hold whole ones
            chunk = b"".join(held)
            held, end = [chunk], chunk.rfind(b"\n") + 1
        if end:
            yield b"".join([*held[:-1], memoryview(chunk)[:end]])
            rest = chunk[end:]
        else:
            rest = chunk
        if len(rest) > max_bytes:
            skipped, head, rest = len(rest), rest[: 4 * EXCERPT], b""
        held, size = ([rest] if rest else []), len(rest)
    if skipped:
        yield _too_long(skipped, max_bytes, head)
    if size:
        yield b"".join(held)


def _too_long(size: int, limit: int, head: bytes) -> Fault:
    start = excerpt(head.decode("utf-8", "replace"))
    return Fault("too_long", f"a line of {size} bytes, the limit is {limit}: {start}", True)


def read(
    chunks: Iterator[bytes | Fault], name: str, first: int, want: Columns, columns: pa.Schema
) -> Iterator[pa.RecordBatch]:
    """Batches of rows (schema `columns`) from a stream whose first line has number `first`."""
    line = first
    for block in blocks(chunks, want.max_bytes):
        if isinstance(block, Fault):
            row = RowBuilder(name, columns)
            row.quarantine(line, block.reason, block.detail)
            yield row.flush()
            line += block.counts
            continue
        if line == 1 and block.startswith(b"\xef\xbb\xbf"):
            block = block[3:]
        batch = _fast(block, name, line, want, columns)
        if batch is not None:
            yield batch
            line += batch.num_rows
            continue
        yield from _slow(block, name, line, want, columns)
        line += block.count(b"\n") + (not block.endswith(b"\n"))


def _fast(block: bytes, name: str, line: int, want: Columns, columns: pa.Schema) -> pa.RecordBatch | None:
    """The block as one batch if each line holds exactly one sound record, else None."""
    if want.chat is not None:  # layouts may differ by record
        return None
    data = np.frombuffer(block, np.uint8)
    starts, ends = line_ranges(block)
    lengths = ends - starts
    # A line from "{" to "}" cannot be half of a record, so as many records as lines means one in each.
    if lengths.min() < 2 or lengths.max() > want.max_bytes:
        return None
    last = data[ends - 1]
    last = np.where(last == 13, data[ends - 2], last)
    if (data[starts] != _OPEN).any() or (last != _CLOSE).any():
        return None
    if not _is_utf8(block):
        return None
    kinds: dict[str, pa.DataType] = {field: columns.field(field).type for field, _ in want.extra}
    needed = [f for f in (want.text, want.domain_field, want.id_field) if f is not None]
    kinds |= dict.fromkeys(needed, pa.large_string())
    found = None
    if all(kind == pa.large_string() for kind in kinds.values()):
        found = read_strings(block, starts, ends, tuple(kinds))
    if found is None:
        found = _parsed(block, kinds, len(ends))
    if found is None or any(found[field].null_count for field in needed):
        return None
    given = {field: found[field] for field, _ in want.extra}
    given["text"] = found[want.text]
    if want.domain_field is not None:
        given["domain"] = found[want.domain_field]
    else:
        given["domain"] = pa.repeat(pa.scalar(want.domain, pa.large_string()), len(ends))
    if want.id_field is not None:
        given[KEY] = found[want.id_field]
    return good_batch(name, columns, range(line, line + len(ends)), given)


def _parsed(block: bytes, kinds: dict[str, pa.DataType], lines: int) -> dict[str, pa.Array] | None:
    """The fields `kinds` of the records in the block, a column each; None unless each line has a record."""
    try:
        table = pj.read_json(
            pa.BufferReader(block),
            read_options=pj.ReadOptions(use_threads=False, block_size=len(block) + 1),
            parse_options=pj.ParseOptions(
                explicit_schema=pa.schema(list(kinds.items())), unexpected_field_behavior="ignore"
            ),
        )
    except pa.ArrowInvalid:
        return None
    if table.num_rows != lines:
        return None
    whole = table.combine_chunks()
    return {field: whole.column(field).chunk(0) for field in kinds}


def _is_utf8(block: bytes) -> bool:
    """Decoding would copy; Arrow's check goes many bytes at a time."""
    whole = pa.py_buffer(np.array([0, len(block)], np.int64))
    try:
        pa.Array.from_buffers(pa.large_string(), 1, [None, whole, pa.py_buffer(block)]).validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _slow(block: bytes, name: str, line: int, want: Columns, columns: pa.Schema) -> Iterator[pa.RecordBatch]:
    rows = RowBuilder(name, columns)
    for number, raw in enumerate(block.split(b"\n"), line):
        if not raw.strip():
            continue
        try:
            if len(raw) > want.max_bytes:
                raise BadRow("too_long", f"a line of {len(raw)} bytes, the limit is {want.max_bytes}")
            take(_record(raw), rows, number, want)
        except BadRow as bad:
            rows.quarantine(number, bad.reason, bad.detail)
        if rows.bytes > BLOCK:
            yield rows.flush()
    if len(rows):
        yield rows.flush()


def _record(raw: bytes) -> dict[str, object]:
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        shown = excerpt(raw[max(0, error.start - 20) : error.start + 20].decode("utf-8", "replace"))
        raise BadRow("invalid_utf8", f"byte {error.start + 1} of the line is not UTF-8: {shown}") from None
    try:
        record = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadRow("malformed_json", f"{error}: {excerpt(text)}") from None
    if not isinstance(record, dict):
        raise BadRow("malformed_json", f"a line should hold an object, found {excerpt(text)}")
    return record


def head(path: str) -> list[dict[str, object]]:
    """The sound records among the first 100 lines (of the first 256 KiB) of a plain, .gz or .zst file."""
    with open_input(path) as file:
        chunks = (file.read(_HEAD_BYTES),) if not path.endswith((".gz", ".zst")) else decompressed(file, path)
        first = next(iter(chunks), b"")
    if isinstance(first, Fault):
        return []
    lines = first[:_HEAD_BYTES].removeprefix(b"\xef\xbb\xbf").split(b"\n")
    records: list[dict[str, object]] = []
    for raw in lines[:_HEAD_LINES]:  # a line that the end cuts is not sound, unless it is the file's last
        with suppress(BadRow):
            records.append(_record(raw))
    return records


def take(record: dict[str, object], rows: RowBuilder, number: int, want: Columns) -> None:
    """Add one record as a row.

    Raises:
        BadRow: a needed field is missing or null, or a field has the wrong type.
    """
    messages = to_messages(record, want.chat) if want.chat is not None else None
    for field in (want.text if messages is None else None, want.domain_field, want.id_field):
        if field is not None and record.get(field) is None:
            state = "null" if field in record else "missing"
            raise BadRow("missing_field", f"field {field!r} is {state}: {excerpt(str(record))}")
    text = typed(record[want.text], "string", want.text) if messages is None else render(messages)
    domain = want.domain
    if want.domain_field is not None:
        domain = typed(record[want.domain_field], "string", want.domain_field)
    extra = {field: typed(record.get(field), kind, field) for field, kind in want.extra}
    if want.chat is not None:
        extra[MESSAGES] = messages
    if want.id_field is not None:
        key = record[want.id_field]
        whole_number = isinstance(key, int) and not isinstance(key, bool)
        extra[KEY] = str(key) if whole_number else typed(key, "string", want.id_field)
    rows.add(number, text, domain, extra)
