"""Removal of lines and paragraphs that stand elsewhere in the corpus."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import ClassVar

import daft
import numpy as np
import pyarrow as pa
from daft import DataFrame, DataType, Expression, Series, col, lit
from daft.functions import when
from numpy.typing import NDArray
from pydantic import Field

from tillage.core.errors import UserError
from tillage.kernels.arrow import buffers, validity
from tillage.kernels.pieces import piece_hashes, without_pieces
from tillage.ops.base import Corpus, Decisions, operator, settled
from tillage.ops.udf import measure, without


class _PieceDedup(Corpus):
    """Base: `fit` says which pieces of each text are copies, `apply` cuts them out."""

    min_words: int = Field(default=5, ge=0, description="shorter pieces stay; 0 compares all, as CCNet does")
    mark: bool = Field(default=False, description="only add the columns: rewrite and drop nothing")

    paragraphs: ClassVar[bool]
    """Whether pieces are paragraphs, or else lines."""

    @classmethod
    def _names(cls) -> tuple[str, str]:
        piece = "paragraph" if cls.paragraphs else "line"
        return f"copied_{piece}s", f"copied_{piece}_share"

    @classmethod
    def meanings(cls) -> dict[str, str]:
        pieces, (count, share) = ("paragraphs" if cls.paragraphs else "lines"), cls._names()
        return {
            count: f"{pieces} that stand earlier in the corpus, or earlier in the text",
            share: f"share of the {pieces} that do",
        }

    def reads(self) -> frozenset[str]:
        return frozenset({"text", "source", "line"})

    def writes(self) -> dict[str, pa.DataType]:
        count, share = self._names()
        columns = {count: pa.int64(), share: pa.float64()}
        return columns if self.mark else {"text": pa.large_string(), **columns}

    def keys(self) -> dict[str, Expression]:
        kernel = partial(_key, paragraphs=self.paragraphs, min_words=self.min_words)
        return {f"_{self.name}": measure(kernel, pa.large_binary())}

    def fit(self, frame: DataFrame, artifact: Path) -> None:
        key = f"_{self.name}"
        table = frame.where(col(key).not_null()).select("id", "source", "line", key).to_arrow()
        table = table.sort_by([("source", "ascending"), ("line", "ascending"), ("id", "ascending")])
        view = buffers(table.column(key))
        hashes = view.data[view.offsets[0] : view.offsets[-1]].view(np.uint64)
        offsets = (view.offsets - view.offsets[0]) // 8
        copy = self._chosen(hashes, np.repeat(np.arange(len(table)), np.diff(offsets)))
        sums = np.concatenate([[0], np.cumsum(copy)])
        counts = sums[offsets[1:]] - sums[offsets[:-1]]
        some = np.flatnonzero(counts)
        cuts = [copy[offsets[row] : offsets[row + 1]].tobytes() for row in some]
        names = ["id", *self._names(), "_cut"]
        columns = [
            table.column("id").combine_chunks().cast(pa.large_string()).take(pa.array(some)),
            pa.array(counts[some], pa.int64()),
            pa.array(counts[some] / np.diff(offsets)[some], pa.float64()),
            pa.array(cuts, pa.large_binary()),
        ]
        Decisions.write(artifact, pa.table(columns, names=names))

    def _chosen(self, hashes: NDArray[np.uint64], owners: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which pieces go, given the hashes of all, 0 for those that are not compared, and whose they are.

        The texts stand in the order of file and line.
        """
        del owners
        _, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
        return (first[inverse] != np.arange(len(hashes))) & (hashes != 0)

    def apply(self, frame: DataFrame, artifact: Path | None = None) -> DataFrame:
        if artifact is None:
            raise UserError(f"{self.name} was applied without being fitted to the corpus")
        count, share = self._names()
        joined = Decisions.join(without(frame, count, share), artifact)
        joined = joined.with_columns(
            {count: col(count).fill_null(lit(0)), share: col(share).fill_null(lit(0.0))}
        )
        if self.mark:
            return joined.exclude("_cut")
        # A text of which nothing would be left is dropped, and stays readable as it was.
        rewritten = _cut_out(self.paragraphs)(col("text"), col("_cut"))
        joined = settled(joined.with_column("_rewritten", rewritten))
        text = when(col(share) < lit(1.0), col("_rewritten")).otherwise(col("text"))
        return settled(joined.with_column("text", text).exclude("_cut", "_rewritten"))

    def reasons(self) -> dict[str, Expression]:
        return {} if self.mark else {"nothing_left": col(self._names()[1]) >= lit(1.0)}


@operator
class ParagraphDedup(_PieceDedup):
    """Remove paragraphs that stand earlier in the corpus from the text; drop documents that are all copies.

    The first by file, line and place stays. Paragraphs end at a blank line and are compared without the white
    space around them.
    """

    source = (
        "Wenzek et al. 2019 (CCNet), arXiv 1911.00359, section 3.1, without its folding of letters and digits"
    )
    paragraphs = True


@operator
class LineDedup(_PieceDedup):
    """Remove lines that stand earlier in the corpus from the text; drop documents that are all copies.

    The first by file, line and place stays. Lines are compared without the white space around them. Not for
    code, where equal lines mean different things.
    """

    source = "Touvron et al. 2023 (LLaMA), arXiv 2302.13971, section 2.1 (line level); Wenzek et al. 2019"
    paragraphs = False


@operator
class BoilerplateLines(_PieceDedup):
    """Remove lines that many documents have from all of them; drop documents that are nothing else.

    Such are menus, footers and notices of a site. `line_dedup` leaves the first of them standing.
    """

    source = "Bar-Yossef and Rajagopalan 2002 (template detection), doi 10.1145/511446.511522, by lines"
    paragraphs = False

    min_words: int = Field(default=1, ge=0, description="shorter lines stay")
    min_documents: int = Field(
        default=20, ge=2, description="a line that so many documents have, or more, is boilerplate"
    )

    @classmethod
    def _names(cls) -> tuple[str, str]:
        return "boilerplate_lines", "boilerplate_line_share"

    @classmethod
    def meanings(cls) -> dict[str, str]:
        count, share = cls._names()
        return {count: "lines that many documents have", share: "share of the lines that are such"}

    def _chosen(self, hashes: NDArray[np.uint64], owners: NDArray[np.int64]) -> NDArray[np.bool_]:
        order = np.lexsort((owners, hashes))
        new = np.ones(len(order), np.bool_)  # the first of a line in a document, in that order
        new[1:] = (hashes[order][1:] != hashes[order][:-1]) | (owners[order][1:] != owners[order][:-1])
        lines, documents = np.unique(hashes[order][new], return_counts=True)
        common = lines[(documents >= self.min_documents) & (lines != 0)]
        return np.isin(hashes, common)


def _key(texts: pa.Array, paragraphs: bool, min_words: int) -> pa.Array:
    ends, hashes = piece_hashes(texts, paragraphs, min_words)
    mask = pa.array(validity(texts) == 1).buffers()[1] if texts.null_count else None
    keys = [mask, pa.py_buffer(ends * 8), pa.py_buffer(hashes.view(np.uint8))]
    return pa.Array.from_buffers(pa.large_binary(), len(texts), keys)


def _cut_out(paragraphs: bool):
    def run(texts: Series, cuts: Series) -> pa.Array:
        return without_pieces(texts.to_arrow(), cuts.to_arrow(), paragraphs)

    return daft.func.batch(return_dtype=DataType.from_arrow_type(pa.large_string()))(run)
