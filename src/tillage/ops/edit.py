"""Rewriting short texts by a small program of cuts, as a person or `tillage ops learn` writes it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Literal, Self

import pyarrow as pa
from daft import Expression
from pydantic import Field, field_validator

from tillage.core.spec import Spec
from tillage.ops.base import Map, operator
from tillage.ops.udf import measure

CLASSES = {"<d>": "[0-9]+", "<w>": r"[^\W\d_]+", "<a>": r"\S+", "<s>": r"\s+"}
"""Classes of a pattern: figures, letters, what is not white space, white space; else it stands for itself."""

_CLASS = re.compile("|".join(map(re.escape, CLASSES)))


class Cut(Spec):
    """One step of the program. `what` is a pattern for prefix and suffix, a separator for the others.

    prefix, suffix: take it off once where it is; before, after: what stands before or after the first
    separator; field: the field number `index` (from 0, or from -1 at the end) between separators; lines:
    leave out the lines that are the pattern; tidy: white space at the ends off, runs of it to one blank. A
    step that does not fit a text leaves it as it is.
    """

    do: Literal["prefix", "suffix", "before", "after", "field", "lines", "tidy"]
    what: str = ""
    index: int = 0

    @field_validator("what")
    @classmethod
    def _bounded(cls, what: str) -> str:
        if len(what) > 200:
            raise ValueError("a pattern has at most 200 characters")
        return what


@operator
class Edit(Map):
    """Rewrite texts by a program of cuts: prefixes, suffixes, fields, lines.

    A text of which nothing would be left stays as it was.
    """

    source = "Gulwani 2011 (FlashFill), doi 10.1145/1926385.1926423: the idea, in a much smaller language"

    program: tuple[Cut, ...] = Field(min_length=1, max_length=8, description="the cuts, in order")

    @classmethod
    def example(cls) -> Self:
        return cls(program=(Cut(do="prefix", what="<d>. "),))

    def rewrite(self) -> Expression:
        return measure(partial(_rewrite, program=self.program), pa.large_string())


def _rewrite(texts: pa.Array, program: Sequence[Cut]) -> pa.Array:
    rows = texts.to_pylist()
    return pa.array([None if row is None else apply(program, row) for row in rows], pa.large_string())


def apply(program: Sequence[Cut], text: str) -> str:
    """`text` after all cuts."""
    cut = text
    for step in program:
        cut = _cut(step, cut)
    return cut or text


def _cut(step: Cut, text: str) -> str:
    if step.do == "tidy":
        return " ".join(text.split())
    if step.do == "lines":
        whole = pattern(step.what)
        return "\n".join(line for line in text.split("\n") if not whole.fullmatch(line))
    if step.do == "prefix":
        found = pattern(step.what).match(text)
        return text[found.end() :] if found else text
    if step.do == "suffix":
        ends = [m.start() for m in pattern(step.what + "\0").finditer(text + "\0")]
        return text[: ends[0]] if ends else text
    if not step.what or step.what not in text:
        return text
    parts = text.split(step.what)
    if step.do == "before":
        return parts[0]
    if step.do == "after":
        return text.split(step.what, 1)[1]
    return parts[step.index] if -len(parts) <= step.index < len(parts) else text


@lru_cache(maxsize=256)
def pattern(what: str) -> re.Pattern[str]:
    """The pattern as a regular expression: no repetition stands inside another, so none runs away."""
    out, at = "", 0
    for found in _CLASS.finditer(what):
        out += re.escape(what[at : found.start()]) + CLASSES[found[0]]
        at = found.end()
    return re.compile(out + re.escape(what[at:]))
