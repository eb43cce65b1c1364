"""Makes the batches of raw rows that every reader yields: ids, quarantine, column types."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Literal

import pyarrow as pa

from tillage.data.schema import BASE, QUARANTINE_STEP

FieldType = Literal["string", "int", "float", "bool"]
ARROW: dict[str, pa.DataType] = {
    "string": pa.large_string(),
    "int": pa.int64(),
    "float": pa.float64(),
    "bool": pa.bool_(),
}
KEY = "key"
EXCERPT = 80

Reason = Literal[
    "malformed_json",
    "malformed_csv",
    "malformed_front_matter",
    "invalid_utf8",
    "missing_field",
    "wrong_type",
    "too_long",
    "truncated",
    "corrupt",
]
LOSES_THE_REST: frozenset[Reason] = frozenset({"truncated", "corrupt"})
"""Reasons that stand for all that a file would have held from there on."""
_INT64 = range(-(2**63), 2**63)


class BadRow(Exception):
    """One record that cannot be used: the reason for its quarantine and a message."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason: Reason = reason
        self.detail = detail


def row_id(name: str, line: int) -> str:
    """32 hex digits (BLAKE2b-128) of the file's name within its source and the record's line."""
    return hashlib.blake2b(f"{name}\0{line}".encode(), digest_size=16).hexdigest()


def typed(value: Any, kind: FieldType, field: str) -> Any:
    """`value` if it is null or of the type; integers pass as floats.

    Raises:
        BadRow: wrong_type, or invalid_utf8 for a lone surrogate.
    """
    if value is None:
        return None
    if kind == "string" and isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise BadRow("invalid_utf8", f"field {field!r} holds a lone surrogate: {error.reason}") from None
        return value
    if kind == "bool" and isinstance(value, bool):
        return value
    if not isinstance(value, bool):
        if kind == "int" and isinstance(value, int) and value in _INT64:
            return value
        if kind == "float" and isinstance(value, int | float):
            return float(value)
    raise BadRow("wrong_type", f"field {field!r} should be {kind}, found {excerpt(repr(value))}")


def printable(text: str) -> str:
    """`text` with U+FFFD for controls and other characters that a terminal does not show."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "\ufffd" for c in text)


def excerpt(text: str) -> str:
    """At most 80 characters of `text` on one line, without what a terminal would obey."""
    flat = printable(" ".join(text[: 4 * EXCERPT].split()))
    return flat if len(flat) <= EXCERPT else flat[: EXCERPT - 1] + "…"


class RowBuilder:
    """Collects the rows of one file one by one; `flush` makes the batch."""

    def __init__(self, name: str, columns: pa.Schema) -> None:
        self.name, self.columns = name, columns
        self._rows: list[dict[str, Any]] = []
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, line: int, text: str, domain: str, extra: dict[str, Any]) -> None:
        self.bytes += len(text)
        self._rows.append(
            {
                **extra,
                "id": row_id(self.name, line),
                "text": text,
                "domain": domain,
                "source": self.name,
                "line": line,
            }
        )

    def quarantine(self, line: int, reason: Reason, detail: str) -> None:
        self._rows.append(
            {
                "id": row_id(self.name, line),
                "source": self.name,
                "line": line,
                "_drop": f"{QUARANTINE_STEP}:{reason}",
                "_detail": f"{self.name}:{line}: {detail}",
            }
        )

    def flush(self) -> pa.RecordBatch:
        batch = pa.RecordBatch.from_pylist(self._rows, schema=self.columns)
        self._rows, self.bytes = [], 0
        return batch


def schema_of(extra: dict[str, pa.DataType]) -> pa.Schema:
    """BASE and the extra columns, in the order given."""
    return pa.schema([*BASE, *(pa.field(name, kind) for name, kind in extra.items())])


def good_batch(
    name: str,
    columns: pa.Schema,
    lines: Sequence[int] | range,
    given: dict[str, pa.Array],
) -> pa.RecordBatch:
    """A batch of rows that are all in order: `given` holds text, domain and the extra columns."""
    n = len(lines)
    ids = pa.array([row_id(name, line) for line in lines], pa.large_string())
    made = {
        "id": ids,
        "source": pa.array([name], pa.large_string()).take(pa.array([0] * n, pa.int64())),
        "line": pa.array(lines, pa.int64()),
        **given,
    }
    arrays = [made[f.name] if f.name in made else pa.nulls(n, f.type) for f in columns]
    return pa.RecordBatch.from_arrays(arrays, schema=columns)
