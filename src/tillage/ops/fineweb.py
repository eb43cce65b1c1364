"""The document filter of FineWeb (Penedo et al. 2024, arXiv 2406.17557, section 3.4)."""

from __future__ import annotations

from daft import Expression
from pydantic import Field

from tillage.ops.base import Annotate, Filter, operator
from tillage.ops.stats import TextStats
from tillage.ops.udf import above, below


@operator
class FinewebQuality(Filter):
    """Drop documents of lists and menus: short, repeated lines with little punctuation at their ends.

    Defaults are those of the published pipeline (datatrove 0.10.1), where the paper's bound of 0.1 for
    repeated lines is 0.01. Blank lines do not count; others are read as they stand, so that one which ends in
    a space or in "\\r" ends without punctuation: `unicode_normalise` belongs before this step.
    """

    version = 2

    source = "Penedo et al. 2024 (FineWeb), arXiv 2406.17557, section 3.4; bounds of datatrove 0.10.1"

    min_terminal_lines: float = Field(
        default=0.12, ge=0, le=1, description="smallest share of lines that end with terminal punctuation"
    )
    max_short_lines: float = Field(
        default=0.67, ge=0, le=1, description="largest share of lines of at most 30 characters"
    )
    max_dup_line_chars: float = Field(
        default=0.01, ge=0, le=1, description="largest share of characters in repeated lines"
    )
    max_newline_ratio: float = Field(default=0.3, ge=0, description="most newlines a word")

    def requires(self) -> tuple[Annotate, ...]:
        return (
            TextStats(measures=("terminal_lines", "short_lines", "dup_text_line_chars", "newline_ratio")),
        )

    def reasons(self) -> dict[str, Expression]:
        return {
            "few_terminal_lines": below("terminal_lines", self.min_terminal_lines),
            "short_lines": above("short_lines", self.max_short_lines),
            "dup_line_chars": above("dup_text_line_chars", self.max_dup_line_chars),
            "list": above("newline_ratio", self.max_newline_ratio),
        }
