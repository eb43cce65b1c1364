"""Texts of target and evaluation files, which are parameters of operators and not inputs of a recipe."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tillage.core.errors import UserError, nearest

_COMPRESSED = {".gz": "gzip", ".zst": "zstd"}


def read_texts(path: Path, field: str = "text") -> pa.Array:
    """The texts of a JSONL (.jsonl, .json, .ndjson; also .gz, .zst), Parquet or text file; large_string.

    Of JSONL and Parquet the strings of `field`; a text file is one text a line, blank lines left out.

    Raises:
        UserError: the file is missing, unreadable or empty, or a line has no such string.
    """
    suffixes = [s.lower() for s in path.suffixes]
    kind = next((s for s in reversed(suffixes) if s not in _COMPRESSED), "")
    try:
        if kind == ".parquet":
            texts = _parquet(path, field)
        else:
            compression = _COMPRESSED.get(suffixes[-1]) if suffixes else None
            with pa.input_stream(str(path), compression=compression) as stream:
                lines = stream.read().decode().split("\n")
            is_json = kind in (".jsonl", ".json", ".ndjson")
            texts = _json(path, lines, field) if is_json else [line for line in lines if line.strip()]
    except (OSError, UnicodeDecodeError, pa.ArrowInvalid) as error:
        raise UserError("cannot read the texts", where=path, got=error) from error
    if not texts:
        raise UserError("no texts in the file", where=path, expected=f"at least one, in field {field!r}")
    return pa.array(texts, pa.large_string())


def file_fingerprint(path: Path) -> str:
    """16 hex digits (SHA-256) of the file's bytes: what an operator is known by instead of the path.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:16]
    except OSError as error:
        raise UserError("cannot read the file", where=path, got=error.strerror) from error


def _parquet(path: Path, field: str) -> list[str]:
    names = pq.read_schema(path).names
    if field not in names:
        raise UserError(f"no column {field!r}", where=path, hint=nearest(field, names))
    values = pq.read_table(path, columns=[field]).column(0).to_pylist()
    for number, value in enumerate(values):
        if not isinstance(value, str):
            raise UserError("not a text", where=f"{path}: row {number}", got=repr(value)[:100])
    return values


def _json(path: Path, lines: list[str], field: str) -> list[str]:
    texts: list[str] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise UserError("the line is not JSON", where=where, got=str(error)) from error
        if not isinstance(record, dict) or not isinstance(record.get(field), str):
            names = [str(name) for name in record] if isinstance(record, dict) else []
            raise UserError(f"no text in field {field!r}", where=where, hint=nearest(field, names))
        texts.append(record[field])
    return texts
