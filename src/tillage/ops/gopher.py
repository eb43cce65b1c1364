"""The document filters of Gopher (Rae et al. 2021, arXiv 2112.11446, appendix A and table A1)."""

from __future__ import annotations

from daft import Expression
from pydantic import Field

from tillage.kernels.repetition import DUPLICATE, REPETITION, TOP
from tillage.ops.base import Annotate, Filter, operator
from tillage.ops.stats import TextStats
from tillage.ops.udf import above, below


@operator
class GopherQuality(Filter):
    """Drop documents outside the quality bounds of Gopher: length, words, symbols, bullets, stop words.

    Words of signs alone count as words, but not toward the length of the document or of its words.
    """

    version = 2
    source = "Rae et al. 2021, arXiv 2112.11446, appendix A.1; words as in datatrove 0.10.1"

    min_words: int = Field(default=50, ge=0, description="fewest words that are not signs alone")
    max_words: int = Field(default=100_000, ge=1, description="most words that are not signs alone")
    min_mean_word_length: float = Field(default=3.0, ge=0, description="lower bound of characters a word")
    max_mean_word_length: float = Field(default=10.0, gt=0, description="upper bound of characters a word")
    max_symbol_ratio: float = Field(
        default=0.1, ge=0, description="most '#' a word, and most ellipses a word"
    )
    max_bullet_lines: float = Field(default=0.9, ge=0, le=1, description="largest share of bullet lines")
    max_ellipsis_lines: float = Field(
        default=0.3, ge=0, le=1, description="largest share of lines ending in '...'"
    )
    min_alpha_words: float = Field(
        default=0.8, ge=0, le=1, description="smallest share of words with a letter"
    )
    min_stop_words: int = Field(
        default=2, ge=0, le=8, description="fewest distinct English stop words, of eight"
    )

    def requires(self) -> tuple[Annotate, ...]:
        return (
            TextStats(
                measures=(
                    "proper_words",
                    "mean_word_length",
                    "hash_ratio",
                    "ellipsis_ratio",
                    "bullet_lines",
                    "ellipsis_lines",
                    "alpha_words",
                    "stop_words",
                )
            ),
        )

    def reasons(self) -> dict[str, Expression]:
        return {
            "too_few_words": below("proper_words", self.min_words),
            "too_many_words": above("proper_words", self.max_words),
            # 0 means that there is no word of a spaced script, so the bound says nothing.
            "short_words": above("mean_word_length", 0)
            & below("mean_word_length", self.min_mean_word_length),
            "long_words": above("mean_word_length", self.max_mean_word_length),
            "too_many_hashes": above("hash_ratio", self.max_symbol_ratio),
            "too_many_ellipses": above("ellipsis_ratio", self.max_symbol_ratio),
            "too_many_bullets": above("bullet_lines", self.max_bullet_lines),
            "too_many_ellipsis_lines": above("ellipsis_lines", self.max_ellipsis_lines),
            "too_few_alpha_words": below("alpha_words", self.min_alpha_words),
            "too_few_stop_words": below("stop_words", self.min_stop_words),
        }


@operator
class GopherRepetition(Filter):
    """Drop documents that repeat lines, paragraphs or word n-grams more than Gopher allows.

    Lines are compared as they stand: where they end in "\\r\\n", `unicode_normalise` belongs before.
    """

    version = 2
    source = "Rae et al. 2021, arXiv 2112.11446, table A1; lines as in datatrove 0.10.1"

    max_dup_lines: float = Field(default=0.30, ge=0, description="largest share of repeated lines")
    max_dup_paragraphs: float = Field(default=0.30, ge=0, description="largest share of repeated paragraphs")
    max_dup_line_chars: float = Field(
        default=0.20, ge=0, description="largest share of characters in repeated lines"
    )
    max_dup_paragraph_chars: float = Field(
        default=0.20, ge=0, description="largest share of characters in repeated paragraphs"
    )
    max_top_ngram: tuple[float, float, float] = Field(
        default=(0.20, 0.18, 0.16),
        description="largest share of characters in the most frequent word 2-, 3- and 4-gram",
    )
    max_dup_ngram: tuple[float, float, float, float, float, float] = Field(
        default=(0.15, 0.14, 0.13, 0.12, 0.11, 0.10),
        description="largest share of characters in repeated word 5- to 10-grams",
    )

    def requires(self) -> tuple[Annotate, ...]:
        return (TextStats(measures=tuple(name for name in REPETITION if name != "dup_text_line_chars")),)

    def reasons(self) -> dict[str, Expression]:
        bounds = {
            "dup_lines": self.max_dup_lines,
            "dup_paragraphs": self.max_dup_paragraphs,
            "dup_line_chars": self.max_dup_line_chars,
            "dup_paragraph_chars": self.max_dup_paragraph_chars,
            **{f"top_{n}gram": bound for n, bound in zip(TOP, self.max_top_ngram, strict=True)},
            **{f"dup_{n}gram": bound for n, bound in zip(DUPLICATE, self.max_dup_ngram, strict=True)},
        }
        return {name: above(name, bound) for name, bound in bounds.items()}
