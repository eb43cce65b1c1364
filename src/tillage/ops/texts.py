"""Texts of target and evaluation files, which are parameters of operators and not inputs of a recipe."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tillage.core.errors import UserError, nearest

_COMPRESSED = {".gz": "gzip", ".zst": "zstd"}


def read_texts(path: Path, field: str | Sequence[str] = "text") -> pa.Array:
    """The texts of a JSONL (.jsonl, .json, .ndjson; also .gz, .zst), Parquet or text file; large_string.

    Of JSONL and Parquet the strings of `field`, or of several fields, a line each; a list of strings, such as
    the choices of a question, counts as its lines. A text file is one text a line, blank lines left out.

    Raises:
        UserError: the file is missing, unreadable or empty, or a line has no such string.
    """
    fields = [field] if isinstance(field, str) else list(field)
    suffixes = [s.lower() for s in path.suffixes]
    kind = next((s for s in reversed(suffixes) if s not in _COMPRESSED), "")
    try:
        if kind == ".parquet":
            texts = _parquet(path, fields)
        else:
            compression = _COMPRESSED.get(suffixes[-1]) if suffixes else None
            with pa.input_stream(str(path), compression=compression) as stream:
                lines = stream.read().decode().split("\n")
            is_json = kind in (".jsonl", ".json", ".ndjson")
            texts = _json(path, lines, fields) if is_json else [line for line in lines if line.strip()]
    except (OSError, UnicodeDecodeError, pa.ArrowInvalid) as error:
        raise UserError("cannot read the texts", where=path, got=error) from error
    if not texts:
        raise UserError(
            "no texts in the file", where=path, expected=f"at least one, in field {_named(fields)}"
        )
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


def model_fingerprint(path: Path) -> str:
    """16 hex digits (SHA-256) of a model's file, or of all in its folder; read again only if one changes.

    Raises:
        UserError: a file cannot be read, or there is none.
    """
    try:
        found = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        stats = tuple((file, file.stat().st_size, file.stat().st_mtime_ns) for file in found)
    except OSError as error:
        raise UserError("cannot read the model", where=path, got=error.strerror) from error
    if not stats:
        raise UserError("no model in the folder", where=path)
    return _fingerprint_of(path, stats)


@lru_cache(maxsize=64)
def _fingerprint_of(path: Path, stats: tuple[tuple[Path, int, int], ...]) -> str:
    if path.is_file():
        return file_fingerprint(path)
    whole = hashlib.sha256()
    for file, _, _ in stats:
        whole.update(f"{file.relative_to(path).as_posix()}\0{file_fingerprint(file)}\0".encode())
    return whole.hexdigest()[:16]


def _parquet(path: Path, fields: list[str]) -> list[str]:
    names = pq.read_schema(path).names
    for field in fields:
        if field not in names:
            raise UserError(f"no column {field!r}", where=path, hint=nearest(field, names))
    records = pq.read_table(path, columns=fields).to_pylist()
    texts: list[str] = []
    for number, record in enumerate(records):
        text = _text(record, fields)
        if text is None:
            got = ", ".join(repr(record[field])[:100] for field in fields)
            raise UserError("not a text", where=f"{path}: row {number}", got=got)
        texts.append(text)
    return texts


def _json(path: Path, lines: list[str], fields: list[str]) -> list[str]:
    texts: list[str] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise UserError("the line is not JSON", where=where, got=str(error)) from error
        text = _text(record, fields) if isinstance(record, dict) else None
        if text is None:
            names = [str(name) for name in record] if isinstance(record, dict) else []
            missing = next((field for field in fields if field not in names), fields[0])
            raise UserError(f"no text in field {_named(fields)}", where=where, hint=nearest(missing, names))
        texts.append(text)
    return texts


def _text(record: dict[str, Any], fields: list[str]) -> str | None:
    """The strings of the fields, a line each; None if one of them holds something else."""
    parts: list[str] = []
    for field in fields:
        value = record.get(field)
        held: list[Any] = value if isinstance(value, list) else [value]
        texts = [part for part in held if isinstance(part, str)]
        if len(texts) < len(held):
            return None
        parts += texts
    return "\n".join(parts)


def _named(fields: list[str]) -> str:
    return " and ".join(repr(field) for field in fields)
