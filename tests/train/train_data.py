"""Synthetic documents of three domains, for the tests of training."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

WORDS = {
    "docs": [
        "return",
        "the",
        "value",
        "of",
        "a",
        "parameter",
        "raise",
        "an",
        "error",
        "when",
        "file",
        "path",
        "is",
        "not",
        "found",
        "default",
        "none",
    ],
    "code": [
        "def",
        "self",
        "=",
        "(",
        ")",
        "[",
        "]",
        ":",
        "import",
        "for",
        "in",
        "range",
        "if",
        "else",
        "x",
        "y",
        "i",
        "==",
        "+=",
        "lambda",
    ],
    "noise": [f"zq{i}x" for i in range(300)],
}


def documents(count: int, seed: int = 0) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    for i in range(count):
        domain = ("docs", "code", "noise")[i % 3]
        words = rng.choice(WORDS[domain], size=int(rng.integers(5, 90)))
        rows.append(
            {
                "id": f"{int(rng.integers(1 << 62)):032x}",
                "text": " ".join(words) + ".",
                "domain": domain,
                "score": None if i % 11 == 0 else float(np.round(rng.random(), 3)),
            }
        )
    return rows


def batches(rows: list[dict[str, Any]], size: int = 16) -> Iterator[pa.RecordBatch]:
    schema = pa.schema(
        [
            ("id", pa.large_string()),
            ("text", pa.large_string()),
            ("domain", pa.large_string()),
            ("score", pa.float64()),
        ]
    )
    for begin in range(0, len(rows), size):
        yield pa.RecordBatch.from_pylist(rows[begin : begin + size], schema=schema)
