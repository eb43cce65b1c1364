"""Samples and cuts over the whole corpus: by strata, by weight, by quantile. All are seeded by row id."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute
from daft import DataFrame, Expression
from numpy.typing import NDArray
from pydantic import Field, PositiveInt, model_validator

from tillage.core.errors import UserError
from tillage.ops.base import Annotate, operator
from tillage.ops.select import Marked, groups, unit_hash
from tillage.ops.stats import MEASURES, TextStats
from tillage.ops.udf import measure

pc: Any = pyarrow.compute  # its functions are made at run time


class Chosen(Marked):
    """Base: rows in an order that a hash of their ids decides, and columns that it chooses by."""

    seed: int = Field(default=0, ge=0, description="another seed chooses other rows")

    def named(self) -> tuple[str, ...]:
        """The columns that decide."""
        raise NotImplementedError(type(self).__name__)

    def requires(self) -> tuple[Annotate, ...]:
        stats = tuple(name for name in self.named() if name in MEASURES)
        return (TextStats(measures=stats),) if stats else ()

    def reads(self) -> frozenset[str]:
        return frozenset(self.named())

    def keys(self) -> dict[str, Expression]:
        return {"_chance": measure(partial(unit_hash, seed=self.seed), pa.float64(), "id")}

    def by_chance(self, frame: DataFrame) -> pa.Table:
        """`id`, `_chance` and the columns that decide, in the order of chance."""
        table = frame.select(*dict.fromkeys(["id", "_chance", *self.named()])).to_arrow()
        return table.take(pc.sort_indices(table, sort_keys=[("_chance", "ascending"), ("id", "ascending")]))


@operator
class StratifiedSample(Chosen):
    """Keep the same share, or the same number, of rows in every stratum: every combination of some columns.

    Columns of fractional numbers are cut into bins of as many rows each. A null is a value like any other.
    """

    source = "Cochran 1977, Sampling Techniques, chapter 5 (proportional and equal allocation)"
    column_name = "beyond_sample"

    by: tuple[str, ...] = Field(default=("domain",), min_length=1, description="columns that make the strata")
    fraction: float | None = Field(default=None, gt=0, le=1, description="share of each stratum to keep")
    rows: PositiveInt | None = Field(
        default=None, description="rows to keep in all, allotted by the size of the strata"
    )
    rows_each: PositiveInt | None = Field(default=None, description="most rows to keep of each stratum")
    min_rows: int = Field(
        default=0, ge=0, description="keep at least so many of each stratum, if it has them"
    )
    bins: int = Field(default=4, ge=1, le=1000, description="bins of a column of fractional numbers")

    @model_validator(mode="after")
    def _one_size(self) -> Self:
        if sum(size is not None for size in (self.fraction, self.rows, self.rows_each)) != 1:
            raise UserError(
                "how much to keep is not clear",
                where="stratified_sample",
                expected="one of fraction, rows and rows_each",
            )
        return self

    @classmethod
    def example(cls) -> Self:
        return cls(fraction=0.5, by=("domain", "mean_line_length"), min_rows=1)

    @classmethod
    def meanings(cls) -> dict[str, str]:
        return {"beyond_sample": "not in the sample of its stratum"}

    def named(self) -> tuple[str, ...]:
        return self.by

    def fit(self, frame: DataFrame, artifact: Path) -> None:
        table = self.by_chance(frame)
        strata = np.zeros(len(table), np.int64)
        for name in self.by:
            codes = _coded(table, name, self.bins)
            strata = np.unique(strata * (codes.max(initial=0) + 1) + codes, return_inverse=True)[1]
        budgets = self.budgets(np.bincount(strata, minlength=0))
        self.decide(artifact, table.column("id"), _nth(strata) < budgets[strata])

    def budgets(self, sizes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Rows to keep of strata of these sizes, shape (strata,)."""
        if self.rows is not None:
            wanted = allotted(sizes, self.rows)
        elif self.fraction is not None:
            wanted = np.floor(self.fraction * sizes + 0.5).astype(np.int64)
        else:
            wanted = np.full(len(sizes), self.rows_each, np.int64)
        return np.minimum(np.maximum(wanted, self.min_rows), sizes)


@operator
class ScoreSample(Chosen):
    """Draw rows without replacement, each draw in proportion to a weight that a column holds.

    The rows with the largest log weight plus Gumbel noise, which the id's hash gives. Rows without a value or
    with a weight that is not positive, are drawn when no others are left.
    """

    source = "Xie et al. 2023 (DSIR), arXiv 2302.03169 (Gumbel top-k); Kool et al. 2019, arXiv 1903.06059"
    column_name = "not_drawn"

    column: str = Field(min_length=1, description="a column of numbers")
    weight: Literal["value", "exp"] = Field(
        default="value", description="the value is the weight itself, or its logarithm (exp)"
    )
    fraction: float | None = Field(default=None, gt=0, le=1, description="share of the rows to keep")
    rows: PositiveInt | None = Field(default=None, description="rows to keep")
    temperature: float = Field(
        default=1.0, gt=0, description="weights to the power of 1 over it: larger is nearer to chance alone"
    )

    @model_validator(mode="after")
    def _one_size(self) -> Self:
        if (self.fraction is None) == (self.rows is None):
            raise UserError(
                "how much to keep is not clear", where="score_sample", expected="one of fraction and rows"
            )
        return self

    @classmethod
    def example(cls) -> Self:
        return cls(column="words", fraction=0.5)

    @classmethod
    def meanings(cls) -> dict[str, str]:
        return {"not_drawn": "not among the rows drawn by weight"}

    def named(self) -> tuple[str, ...]:
        return (self.column,)

    def fit(self, frame: DataFrame, artifact: Path) -> None:
        table = self.by_chance(frame)
        values = _numbers(table, self.column)
        with np.errstate(divide="ignore", invalid="ignore"):
            logs = values if self.weight == "exp" else np.log(values)
            # 1 - u lies in (0, 1]: chance 0 is possible.
            noise = -np.log(-np.log1p(-table.column("_chance").to_numpy()))
            keys = np.where(np.isnan(logs), -np.inf, logs / self.temperature) + noise
        order = np.argsort(-keys, kind="stable")
        wanted = self.rows if self.rows is not None else int((self.fraction or 0.0) * len(table) + 0.5)
        keep = np.zeros(len(table), bool)
        keep[order[:wanted]] = True
        self.decide(artifact, table.column("id"), keep)


@operator
class Quantile(Chosen):
    """Keep the rows between two quantiles of a column, of the corpus or of each group of it.

    Among equal values a hash of the id decides, so that as many rows stay as the quantiles say.
    """

    source = "Wenzek et al. 2020 (CCNet), arXiv 1911.00359, section 4.2 (head, middle, tail by language)"
    column_name = "outside_quantiles"

    column: str = Field(min_length=1, description="a column of numbers to rank by")
    lowest: float = Field(default=0.0, ge=0, le=1, description="share of the rows of lowest values to drop")
    highest: float = Field(default=1.0, ge=0, le=1, description="share of rows up to which they are kept")
    by: str = Field(default="", description="the column that says the group; empty for the whole corpus")
    missing: Literal["drop", "keep"] = Field(
        default="drop", description="what becomes of rows without a value"
    )

    @model_validator(mode="after")
    def _some(self) -> Self:
        if self.lowest >= self.highest:
            got = f"lowest {self.lowest}, highest {self.highest}"
            raise UserError("no row lies between the quantiles", where="quantile", got=got)
        return self

    @classmethod
    def example(cls) -> Self:
        return cls(column="words", highest=0.7)

    @classmethod
    def meanings(cls) -> dict[str, str]:
        return {"outside_quantiles": "not between the quantiles of its group, or without a value"}

    def named(self) -> tuple[str, ...]:
        return (self.column, self.by) if self.by else (self.column,)

    def fit(self, frame: DataFrame, artifact: Path) -> None:
        table = self.by_chance(frame)
        values = _numbers(table, self.column)
        codes = groups(table.column(self.by)) if self.by else np.zeros(len(table), np.int64)
        known = np.flatnonzero(~np.isnan(values))
        keep = np.full(len(table), self.missing == "keep")
        known = known[np.argsort(values[known], kind="stable")]
        sizes = np.bincount(codes[known], minlength=codes.max(initial=0) + 1)[codes[known]]
        rank = (_nth(codes[known]) + 0.5) / np.maximum(sizes, 1)
        keep[known] = (rank >= self.lowest) & (rank < self.highest)
        self.decide(artifact, table.column("id"), keep)


def allotted(sizes: NDArray[np.int64], total: int) -> NDArray[np.int64]:
    """`total`, or all there is, shared out by size with largest remainders, shape (strata,)."""
    whole = int(sizes.sum())
    if total >= whole:
        return sizes.astype(np.int64)
    scaled = sizes.astype(object) * total  # Python's integers, which do not overflow
    out = (scaled // whole).astype(np.int64)
    out[np.argsort(-(scaled % whole).astype(np.int64), kind="stable")[: total - int(out.sum())]] += 1
    return out


def _nth(codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many rows of the same code come before each row, shape (rows,)."""
    order = np.argsort(codes, kind="stable")
    grouped = codes[order]
    out = np.empty(len(codes), np.int64)
    out[order] = np.arange(len(codes)) - np.searchsorted(grouped, grouped, side="left")
    return out


def _numbers(table: pa.Table, name: str) -> NDArray[np.float64]:
    kind = table.schema.field(name).type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        raise UserError("cannot rank by a column that is not of numbers", where=name, got=kind)
    return table.column(name).cast(pa.float64()).to_numpy()


def _coded(table: pa.Table, name: str, bins: int) -> NDArray[np.int64]:
    """A number for each value that depends on the values alone, not on which row comes first."""
    column = table.column(name)
    if pa.types.is_floating(column.type):
        values = column.cast(pa.float64()).to_numpy()
        known = values[~np.isnan(values)]
        if not len(known):
            return np.zeros(len(values), np.int64)
        edges = np.unique(np.quantile(known, np.arange(1, bins) / bins))
        return np.where(np.isnan(values), bins, np.searchsorted(edges, values, side="right")).astype(np.int64)
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.int8())
    try:
        ranked = pc.rank(column, sort_keys="ascending", tiebreaker="dense")
    except pa.ArrowNotImplementedError as error:
        raise UserError("cannot make strata of such a column", where=name, got=column.type) from error
    return ranked.to_numpy().astype(np.int64) - 1
