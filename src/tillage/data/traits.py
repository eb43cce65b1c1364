"""Coarse yes-or-no traits of documents for a profile: is it code, markup, a licence?

These are screens for evidence about a corpus, not filters: they decide which operators are worth trying.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping
from functools import lru_cache

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tillage.kernels.mojibake import fix_mojibake
from tillage.kernels.pii import PLACEHOLDERS, find_pii
from tillage.kernels.rewrite import HTML_PAGE, normalise

HEAD = 4_000
"""Characters at the start of a document that the traits of text look at."""

CODE_LINES = 0.3
MARKUP_SHARE = 0.05
LICENCE_PHRASES = 3
PII_HEAD = 5_000
SHARED_WORDS = 4
SHARED_DOCUMENTS = 5
SHARED_SHARE = 0.01
SCRIPT_LETTERS = 400

_CODE_LINE = re.compile(
    r"^[ \t]*(?:(?:def|class|import|from|return|elif|else:|try:|except|raise|yield|async|await|function|var|"
    r"let|const|public|private|protected|static|void|int|struct|enum|typedef|namespace|using|template|fn|pub|impl|"
    r"package|func|if\s*\(|for\s*\(|while\s*\(|switch\s*\()\b.*|"
    r"#\s*(?:include|define|ifdef|ifndef|endif|pragma)\b.*|"
    r"@\w[\w.]*(?:\(.*)?|[\w.\[\]]+\s*(?:[-+*/|&]?=)\s*\S.*|[\w.]+\(.*\)[;:]?|.*[;{]|[)}\]]+[;,)]*)[ \t]*$",
    re.MULTILINE,
)
_SOME_LINE = re.compile(r"^.*\S.*$", re.MULTILINE)
_LICENCE = (
    "permission is hereby granted",
    "without warrant",
    "redistribution and use",
    "all rights reserved",
    "licensed under",
    "licenced under",
    '"as is"',
    "'as is'",
    "copyright",
    "merchantability",
    "in no event shall",
    "terms and conditions",
    "public license",
    "public licence",
)


def code_like(texts: pa.Array) -> NDArray[np.bool_]:
    """At least 30 % of the non-blank lines of the head look like statements of a programming language."""
    out = np.zeros(len(texts), np.bool_)
    for row, text in enumerate(texts.to_pylist()):
        head = (text or "")[:HEAD]
        lines = len(_SOME_LINE.findall(head))
        out[row] = lines > 0 and len(_CODE_LINE.findall(head)) >= CODE_LINES * lines
    return out


def licence_like(texts: pa.Array) -> NDArray[np.bool_]:
    """At least three different phrases of licences and legal notices in the head, case and layout aside."""
    out = np.zeros(len(texts), np.bool_)
    for row, text in enumerate(texts.to_pylist()):
        head = " ".join((text or "")[:HEAD].lower().split())
        out[row] = sum(phrase in head for phrase in _LICENCE) >= LICENCE_PHRASES
    return out


def pii_counts(texts: pa.Array) -> tuple[NDArray[np.bool_], dict[str, int]]:
    """Which texts hold personal data in their first 5,000 characters, and how many have each kind."""
    found = np.zeros(len(texts), np.bool_)
    kinds: dict[str, int] = dict.fromkeys(PLACEHOLDERS, 0)
    for row, text in enumerate(texts.to_pylist()):
        held = {kind for _, _, kind in find_pii((text or "")[:PII_HEAD])}
        found[row] = bool(held)
        for kind in held:
            kinds[kind] += 1
    return found, kinds


def unnormalised(texts: pa.Array) -> NDArray[np.bool_]:
    """Which texts differ from their NFC form with plain newlines and without invisible characters."""
    return np.array([text is not None and normalise(text) != text for text in texts.to_pylist()], np.bool_)


def markup_like(texts: pa.Array, numbers: Mapping[str, NDArray[np.float64]]) -> NDArray[np.bool_]:
    """Three tags or more, and 5 % of the bytes stand inside tags or the text begins as an HTML page."""
    pages = np.array([text is not None and HTML_PAGE.match(text) is not None for text in texts.to_pylist()])
    return (numbers["html_tags"] >= 3) & ((numbers["html_share"] >= MARKUP_SHARE) | pages)


def garbled(texts: pa.Array) -> NDArray[np.bool_]:
    """Which texts hold UTF-8 that was read in another encoding."""
    return np.array([text is not None and fix_mojibake(text) != text for text in texts.to_pylist()], np.bool_)


def shared_lines(texts: pa.Array, target: pa.Array | None = None) -> NDArray[np.int64]:
    """Lines of each text that also stand in at least `SHARED_DOCUMENTS` documents, of four words or more.

    What the target's documents say too is no boilerplate.
    """
    sound = {
        line.strip()
        for text in (target.to_pylist() if target is not None else [])
        for line in text.split("\n")
    }
    lines: list[set[str]] = []
    for text in texts.to_pylist():
        stripped = (line.strip() for line in (text or "").split("\n"))
        lines.append({line for line in stripped if line.count(" ") >= SHARED_WORDS - 1})
    counts = Counter(line for found in lines for line in found)
    least = max(SHARED_DOCUMENTS, int(SHARED_SHARE * len(lines)))
    return np.array(
        [sum(counts[line] >= least and line not in sound for line in found) for found in lines], np.int64
    )


def ends_open(texts: pa.Array) -> NDArray[np.float64]:
    """1 for a text that ends with a letter, a mark or a comma, 0 for others."""
    ends = (((text or "").rstrip() or ".")[-1] for text in texts.to_pylist())
    return np.array([float(end.isalpha() or end in ",-–—(") for end in ends])


def scripts(texts: pa.Array) -> pa.Array:
    """The script of most of each text's first letters, named as in Unicode (`latin`, `cjk`); null without."""
    out: list[str | None] = []
    for text in texts.to_pylist():
        letters = [c for c in (text or "")[:HEAD] if c.isalpha()][:SCRIPT_LETTERS]
        named = Counter(map(_script, letters))
        out.append(max(sorted(named), key=lambda name: named[name]) if named else None)
    return pa.array(out, pa.large_string())


@lru_cache(4096)
def _script(letter: str) -> str:
    # The names of letters begin with their script, except for a few styles of Latin and Greek ones.
    name = unicodedata.name(letter, "unknown").split(" ")[0].lower()
    return {"fullwidth": "latin", "mathematical": "latin", "micro": "greek", "halfwidth": "katakana"}.get(
        name, name.partition("-")[0]
    )
