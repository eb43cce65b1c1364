"""Source code: its language, its measures, and the filters that code corpora are made with."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import daft
import numpy as np
import pyarrow as pa
from daft import DataFrame, DataType, Expression, Series, col, lit
from pydantic import Field

from tillage.kernels.code import comment_share, generated, language, visible_characters
from tillage.ops.base import Annotate, Filter, operator, settled
from tillage.ops.udf import above, below, without

_STACK = "Kocetkov et al. 2022 (The Stack), arXiv 2211.15533; Chen et al. 2021 (Codex), arXiv 2107.03374"


@operator
class CodeStats(Annotate):
    """Name the language of source code and measure its lines, characters and comments.

    The language is that of the file's name (in the column `path`), of the first line (`#!`), or of how lines
    look; it is null for prose, and for code that does not tell. `licence` names licences.
    """

    source = f"{_STACK}; Ben Allal et al. 2023 (SantaCoder), arXiv 2301.03988 (comments); rules of our own"

    path: str = Field(default="source", min_length=1, description="column with the name or path of the file")

    @classmethod
    def meanings(cls) -> dict[str, str]:
        return {
            "code_language": "language of the code; null for prose and for what does not tell",
            "code_comment_share": "characters of comments over all but white space; null if not known",
            "code_mean_line": "mean characters of a line",
            "code_max_line": "characters of the longest line",
            "code_alnum_share": "letters and digits over characters",
            "code_alpha_share": "letters over characters",
            "code_generated": "whether one of the first ten lines says that a program wrote it",
            "code_minified": "whether lines are long and hardly have white space, as minified code",
            "code_visible": "characters of a page (HTML) that a reader sees; null for other languages",
            "code_chars": "characters",
            "code_xml": "whether an XML declaration is in the first 100 characters",
        }

    def reads(self) -> frozenset[str]:
        return frozenset({"text", self.path})

    def writes(self) -> dict[str, pa.DataType]:
        return dict(_STATS)

    def apply(self, frame: DataFrame, artifact: Path | None = None) -> DataFrame:
        return settled(without(frame, *_STATS).select("*", _measured(col("text"), col(self.path))))


_STATS: dict[str, pa.DataType] = {
    "code_language": pa.large_string(),
    "code_comment_share": pa.float64(),
    "code_mean_line": pa.float64(),
    "code_max_line": pa.int64(),
    "code_alnum_share": pa.float64(),
    "code_alpha_share": pa.float64(),
    "code_generated": pa.bool_(),
    "code_minified": pa.bool_(),
    "code_visible": pa.int64(),
    "code_chars": pa.int64(),
    "code_xml": pa.bool_(),
}
_MINIFIED_LINE, _MINIFIED_SPACE = 200, 0.12


def _measure(texts: Series, paths: Series) -> pa.Array:
    nothing: dict[str, Any] = dict.fromkeys(_STATS)
    pairs = zip(texts.to_pylist(), paths.to_pylist(), strict=True)
    rows = [nothing if text is None else _stats(text, path) for text, path in pairs]
    columns = [pa.array([row[name] for row in rows], kind) for name, kind in _STATS.items()]
    return pa.StructArray.from_arrays(columns, list(_STATS))


_measured = daft.func.batch(
    return_dtype=DataType.struct({n: DataType.from_arrow_type(kind) for n, kind in _STATS.items()}),
    unnest=True,
)(_measure)


def _stats(text: str, path: str | None) -> dict[str, Any]:
    name = language(text, path)
    lengths = [len(line) for line in text.split("\n")]
    chars = len(text)
    mean = float(np.mean(lengths))
    alpha, alnum = (sum(map(test, text)) for test in (str.isalpha, str.isalnum))
    space = sum(map(str.isspace, text))
    return {
        "code_language": name,
        "code_comment_share": comment_share(text, name),
        "code_mean_line": mean,
        "code_max_line": max(lengths),
        "code_alnum_share": alnum / chars if chars else None,
        "code_alpha_share": alpha / chars if chars else None,
        "code_generated": generated(text),
        "code_minified": name is not None and mean >= _MINIFIED_LINE and space < _MINIFIED_SPACE * chars,
        "code_visible": visible_characters(text) if name == "html" else None,
        "code_chars": chars,
        "code_xml": "<?xml version=" in text[:100],
    }


@operator
class CodeQuality(Filter):
    """Drop source code that is data, generated, minified, or nearly all comments; prose stays.

    The bounds are those of The Stack and StarCoder. Rows without `code_language` stay, whatever they hold.
    """

    source = (
        f"{_STACK}; Ben Allal et al. 2023 (SantaCoder), arXiv 2301.03988 (comments); Li et al. 2023 "
        "(StarCoder), arXiv 2305.06161, section 3 (XML, HTML, JSON and YAML)"
    )

    path: str = Field(default="source", min_length=1, description="column with the name or path of the file")
    max_mean_line: float = Field(default=100, gt=0, description="largest mean length of lines, in characters")
    max_line: int = Field(default=1000, ge=1, description="longest line, in characters")
    min_alnum: float = Field(default=0.25, ge=0, le=1, description="least share of letters and digits")
    min_comments: float = Field(
        default=0.0, ge=0, le=1, description="least share of comments; SantaCoder: 0.01"
    )
    max_comments: float = Field(default=0.8, ge=0, le=1, description="largest share of comments")
    generated: bool = Field(default=True, description="drop what a program wrote, and minified code")
    min_visible: float = Field(default=0.2, ge=0, le=1, description="HTML: least share that a reader sees")
    min_visible_chars: int = Field(default=100, ge=0, description="HTML: least characters that a reader sees")
    data_chars: tuple[int, int] = Field(
        default=(50, 5000), description="JSON and YAML: least and most characters of a file"
    )

    @classmethod
    def example(cls) -> Self:
        return cls()

    def requires(self) -> tuple[Annotate, ...]:
        return (CodeStats(path=self.path),)

    def reasons(self) -> dict[str, Expression]:
        code = col("code_language").not_null()
        least, most = self.data_chars
        data = col("code_language").is_in(["json", "yaml"]) & (
            below("code_chars", least) | above("code_chars", most)
        )
        html = (col("code_language") == lit("html")) & (
            (col("code_visible") < col("code_chars") * lit(self.min_visible))
            | below("code_visible", self.min_visible_chars)
        )
        found = {
            "mean_line": above("code_mean_line", self.max_mean_line),
            "long_line": above("code_max_line", self.max_line),
            "symbols": below("code_alnum_share", self.min_alnum),
            "few_comments": below("code_comment_share", self.min_comments),
            "mostly_comments": above("code_comment_share", self.max_comments),
            "xml": col("code_xml") & (col("code_language") != lit("xslt")),
            "html": html,
            "data": data,
        }
        written = {"generated": col("code_generated"), "minified": col("code_minified")}
        every = {**written, **found} if self.generated else found
        return {name: code & reason for name, reason in every.items()}
