"""How a text ends: well, in the middle, or in a way of which the text itself does not tell."""

from __future__ import annotations

import re

WELL, BROKEN, OPEN, OTHER = range(4)
"""`WELL`: a sentence mark, bracket, quote or sign. `BROKEN`: in the middle, by the habit of the text itself.
`OPEN`: a line of prose without an end, in a text that shows no habit. `OTHER`: a list, heading, code, link or
a few words."""

_TAIL = 6000
_ENDS = frozenset(".!?…。！？؟।۔\"'”’»」』)]}>*_|`~:;=/\\%#$+0123456789")
_MISSING = frozenset(",(–—[{“«「&")
_LIST = re.compile(r"\s*(?:[-*+•>|#$=]|\d+[.)]|[A-Za-z][.)]|\.\. )(?:\s|\S*:)")
_SENTENCE_END = re.compile(r"[.!?…。！？؟।۔:][\"'”’»)\]*_`]*\s*$")
_CODE = re.compile(
    r"[;{}()=<>]\s*$|^(?: {4}|\t)|^\s*(?:def|class|return|import|from|if|for|while|let|var|const|#|//)\b"
)
_SENTENCES = re.compile(r"[a-z)\"”][.!?] +[A-Z\"“]")
_FENCE = re.compile(r"^[ \t>]*```", re.MULTILINE)
_LINK = re.compile(r"\w://\S+$|\]: ?\S+$")
_BREAK = re.compile(r"\n\s*\n")
_WORDS = 5


def ending(text: str) -> int:
    """How the last line of a text ends, compared with the ends of its other paragraphs or lines.

    A line of prose has five words or more and is no list item, heading, table row or code. It ends well with
    a sentence mark, a closing bracket or quote, a sign or a digit. Where most other paragraphs (else lines)
    of the last 6,000 characters do not end in a sentence mark either, as in verse and notes, only a comma, an
    opening bracket or a dash says that something is missing. An unclosed code fence is broken off.
    """
    if "```" in text and len(_FENCE.findall(text)) % 2:
        return BROKEN
    tail = text[-_TAIL:].strip()
    if not tail or tail[-1] in _ENDS:
        return WELL
    last = tail[tail.rfind("\n") + 1 :]
    if _LINK.search(last):
        return OTHER
    if tail[-1] in _MISSING:
        return BROKEN if len(last.split()) >= _WORDS and not _CODE.search(last) else OTHER
    blocks = [block.rstrip() for block in _BREAK.split(tail)]
    prose = [block for block in blocks if _is_prose(block)]
    if blocks[-1] not in prose[-1:]:
        return OTHER
    others = prose[:-1]
    if not others and _is_prose(last):
        others = [line for line in tail.split("\n")[:-1] if _is_prose(line)]
    if others:
        ended = sum(_SENTENCE_END.search(block[-20:]) is not None for block in others)
        return BROKEN if 3 * ended > 2 * len(others) else OPEN
    return BROKEN if _SENTENCES.search(last) else OPEN


def _is_prose(block: str) -> bool:
    last = block[block.rfind("\n") + 1 :]
    return len(block.split(None, _WORDS)) > _WORDS - 1 and not _LIST.match(block) and not _CODE.search(last)
