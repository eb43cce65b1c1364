"""Operators that make further rows of a row."""

from __future__ import annotations

import pyarrow as pa
from pydantic import Field

from tillage.kernels.split import split
from tillage.ops.base import Generate, operator


@operator
class SplitLong(Generate):
    """Split long documents at paragraphs into rows of their own, with `parent` and `part`.

    The document itself is dropped for the reason `parts`. Where a paragraph is too long it is cut at a line,
    a sentence, a word or a character. Chats stay whole.
    """

    source = "Unicode Standard Annex 29 (bounds of sentences and characters, roughly); rule of our own"

    max_chars: int = Field(default=8000, ge=1, description="most characters (code points) of a row's text")

    def parts(self, texts: pa.Array) -> pa.Array:
        return _parts(texts, self.max_chars)


def _parts(texts: pa.Array, most: int) -> pa.Array:
    rows = [None if t is None or len(t) <= most else split(t, most) for t in texts.to_pylist()]
    return pa.array([row if row and len(row) > 1 else None for row in rows], pa.large_list(pa.large_string()))
