"""The cleaning of C4 (Raffel et al. 2020, arXiv 1910.10683, section 2.2): a map of lines, a page filter."""

from __future__ import annotations

from functools import partial

import pyarrow as pa
from daft import Expression, col
from pydantic import Field

from tillage.kernels.c4 import CITATION, POLICY, SCRIPT, keep_lines
from tillage.ops.base import Annotate, Filter, Map, operator
from tillage.ops.stats import TextStats
from tillage.ops.udf import above, below, measure

_SOURCE = "Raffel et al. 2020, arXiv 1910.10683, section 2.2"


@operator
class C4Lines(Map):
    """Drop lines that are short, end without punctuation, or speak of JavaScript, cookies or terms of use."""

    version = 2
    source = _SOURCE

    min_words: int = Field(default=5, ge=0, description="fewest words of a line")
    max_word_length: int = Field(
        default=1000, ge=1, description="most characters of a word in a line that is kept"
    )
    punctuation: bool = Field(default=True, description="lines must end in terminal punctuation")
    javascript: bool = Field(default=True, description="drop lines with the word javascript")
    policies: bool = Field(
        default=True, description="drop lines about cookies, privacy policies and terms of use"
    )
    citations: bool = Field(default=True, description="remove marks of references such as [1] and [edit]")

    def rewrite(self) -> Expression:
        phrases = (SCRIPT if self.javascript else ()) + (POLICY if self.policies else ())
        clean = partial(
            _clean,
            min_words=self.min_words,
            max_word_length=self.max_word_length,
            punctuation=self.punctuation,
            phrases=phrases,
            citations=self.citations,
        )
        return measure(clean, pa.large_string())


@operator
class C4Quality(Filter):
    """Drop pages with few sentences, curly braces or 'lorem ipsum'."""

    version = 2
    source = _SOURCE

    min_sentences: int = Field(default=3, ge=0, description="fewest sentences")
    braces: bool = Field(default=True, description="drop pages with a curly brace, a sign of code")
    lorem_ipsum: bool = Field(default=True, description="drop pages with the placeholder text 'lorem ipsum'")

    def requires(self) -> tuple[Annotate, ...]:
        return (TextStats(measures=("sentences", "braces", "lorem_ipsum")),)

    def reasons(self) -> dict[str, Expression]:
        reasons = {"too_few_sentences": below("sentences", self.min_sentences)}
        if self.braces:
            reasons["curly_brace"] = above("braces", 0)
        if self.lorem_ipsum:
            reasons["lorem_ipsum"] = col("lorem_ipsum")
        return reasons


def _clean(
    texts: pa.Array,
    min_words: int,
    max_word_length: int,
    punctuation: bool,
    phrases: tuple[str, ...],
    citations: bool,
) -> pa.Array:
    if citations:
        cited = [t if t is None or "[" not in t else CITATION.sub("", t) for t in texts.to_pylist()]
        texts = pa.array(cited, pa.large_string())
    return keep_lines(texts, min_words, max_word_length, punctuation, phrases)
