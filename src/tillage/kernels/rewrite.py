"""Rewriting of single texts: Unicode normalisation, and cutting them short."""

from __future__ import annotations

import re
import unicodedata
from typing import Literal

# Controls other than tab and newline, and characters of no width: soft hyphen, zero-width space, word joiner,
# byte order mark, directional marks and overrides (UAX 9), interlinear annotation. The joiners U+200C and
# U+200D stay: they spell words in Persian and Indic scripts, and emoji.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\xad"
    "\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff\ufff9-\ufffb]"
)
_NEWLINE = re.compile("\r\n?|\x85|\u2028|\u2029")

HTML_PAGE = re.compile(
    r"\s*(?:<\?xml[^>]*>\s*)?(?:<!--.{0,500}?-->\s*)?<(?:!doctype\s+html|html)[\s>]",
    re.IGNORECASE | re.DOTALL,
)
"""The beginning of an HTML page."""

Form = Literal["NFC", "NFKC", "NFD", "NFKD"]


def normalise(text: str, form: Form = "NFC", invisible: bool = True) -> str:
    """One Unicode form (UAX 15), newlines as "\\n"; `invisible` drops controls and characters of no width."""
    if text.isascii():  # every form leaves ASCII alone
        if "\r" in text:
            text = _NEWLINE.sub("\n", text)
        return _INVISIBLE.sub("", text) if invisible and not text.isprintable() else text
    text = _NEWLINE.sub("\n", text)
    if invisible:
        text = _INVISIBLE.sub("", text)
    if not unicodedata.is_normalized(form, text):
        text = unicodedata.normalize(form, text)
    return text


Boundary = Literal["line", "word", "character"]
_JOINER = "\u200d"


def truncate(text: str, max_chars: int, at: Boundary = "word") -> str:
    """The beginning of a text, of at most `max_chars` code points, cut at a boundary and trimmed there.

    Without a line end or a space before the limit the next finer boundary is taken. Combining marks and
    joined emoji stay with the character before them (UAX 29, roughly).
    """
    if len(text) <= max_chars:
        return text
    if at == "line":
        end = text.rfind("\n", 0, max_chars + 1)
        if text[: max(end, 0)].strip():
            return text[:end].rstrip()
    end = max_chars
    if at != "character":
        while end > 0 and not text[end].isspace():
            end -= 1
        if text[:end].strip():
            return text[:end].rstrip()
        end = max_chars
    while end > 0 and continues(text, end):
        end -= 1
    return text[:end]


def continues(text: str, at: int) -> bool:
    """Whether a cut at this place would part a mark or a joined emoji from what it belongs to."""
    return unicodedata.category(text[at])[0] == "M" or _JOINER in text[at - 1 : at + 1]
