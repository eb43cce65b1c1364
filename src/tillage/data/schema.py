"""The columns of a row, in one place."""

from __future__ import annotations

import pyarrow as pa

ID = "id"
TEXT = "text"
DOMAIN = "domain"
SOURCE = "source"
LINE = "line"
DROP = "_drop"
DETAIL = "_detail"
PARENT = "parent"
PART = "part"
PARTS = "_parts"

BASE = pa.schema(
    [
        pa.field(ID, pa.large_string(), nullable=False),
        pa.field(TEXT, pa.large_string()),
        pa.field(DOMAIN, pa.large_string()),
        pa.field(SOURCE, pa.large_string()),
        pa.field(LINE, pa.int64()),
        pa.field(DROP, pa.large_string()),
        pa.field(DETAIL, pa.large_string()),
    ]
)
"""Every frame has these. `id`: 32 hex digits, stable across runs and partitionings. `source`: file relative
to its source's root. `line`: 1-based. `_drop`: null while alive, else "step:reason". `_detail`: why a
quarantined row could not be read."""

# `parent`, `part`: in rows made of another row, its id and their number, from 1. `_parts`: in a row that
# others were made of, how many; it is the engine's, and only within a stage.

QUARANTINE_STEP = "read"
"""Quarantined rows have `_drop` = "read:<reason>" and null text."""
