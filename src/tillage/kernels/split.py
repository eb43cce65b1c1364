"""Where a long text is cut into parts: at paragraphs, and only where these are too long at finer bounds."""

from __future__ import annotations

import re
from typing import Literal

from tillage.kernels.rewrite import continues

Bound = Literal["paragraph", "line", "sentence", "word", "character"]
# Sentences end as in Unicode Standard Annex 29, roughly: at a terminal mark with what closes after it, before
# white space; the marks of scripts without spaces end one by themselves.
_ENDS: tuple[re.Pattern[str], ...] = (
    re.compile(r"\n[^\S\n]*\n\s*"),
    re.compile(r"\n\s*"),
    re.compile(r"""[.!?…؟।۔][)\]"'”’»]*\s+|[。！？｡][）」』”’]*\s*"""),
    re.compile(r"\s+"),
)


def split(text: str, most: int) -> list[str]:
    """The parts of a text, of at most `most` characters (code points) each, trimmed of white space.

    A part ends at the last paragraph in its second half, or else the last line, sentence, word or character
    there. Together the parts hold all of the text but white space at the cuts.
    """
    parts: list[str] = []
    start = 0
    while len(text) - start > most:
        end = _end(text, start, most)
        parts.append(text[start:end].strip())
        start = end
    parts.append(text[start:].strip())
    return [part for part in parts if part]


def _end(text: str, start: int, most: int) -> int:
    """Where the part that begins at `start` ends; white space at the end may lie beyond the limit."""
    least, limit = start + most // 2, start + most
    for bound in _ENDS:
        last = 0
        for match in bound.finditer(text, least, limit + 1):
            kept = match.end() - (len(match[0]) - len(match[0].rstrip()))
            if start < kept <= limit:
                last = match.end()
        if last:
            return last
    end = limit
    while end > start + 1 and continues(text, end):
        end -= 1
    return end if end > start + 1 or most == 1 else limit
