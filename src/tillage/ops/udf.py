"""Kernels as Daft expressions. Functions close over plain values only, so that Ray can ship them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import daft
import pyarrow as pa
from daft import DataFrame, DataType, Expression, Series, col, lit

from tillage.ops.base import settled

Kernel = Callable[[pa.Array], pa.Array]
"""Takes a large_string (or other) array and gives an array of as many rows."""


def measure(kernel: Kernel, kind: pa.DataType, column: str = "text") -> Expression:
    """The expression `kernel(column)` of Arrow type `kind`."""

    def run(series: Series) -> pa.Array:
        return kernel(series.to_arrow())

    run.__name__ = getattr(kernel, "__name__", "kernel")
    return daft.func.batch(return_dtype=DataType.from_arrow_type(kind))(run)(col(column))


def with_measures(
    frame: DataFrame,
    kernel: Callable[[pa.Array], dict[str, pa.Array]],
    types: Mapping[str, pa.DataType],
    column: str = "text",
) -> DataFrame:
    """`frame` with the columns that one call of `kernel` a batch measures, in place of those so named."""
    names = tuple(types)

    def run(series: Series) -> pa.Array:
        columns = kernel(series.to_arrow())
        return pa.StructArray.from_arrays([columns[name] for name in names], list(names))

    run.__name__ = getattr(kernel, "__name__", "kernel")
    struct = DataType.struct({name: DataType.from_arrow_type(kind) for name, kind in types.items()})
    measured = daft.func.batch(return_dtype=struct, unnest=True)(run)
    return settled(without(frame, *names).select("*", measured(col(column))))


def with_measure(
    frame: DataFrame, name: str, kernel: Kernel, kind: pa.DataType, column: str = "text"
) -> DataFrame:
    """`frame` with one column that `kernel` measures."""
    return settled(frame.with_column(name, measure(kernel, kind, column)))


def without(frame: DataFrame, *names: str) -> DataFrame:
    """`frame` less those of the columns that it has."""
    present = [name for name in names if name in frame.column_names]
    return frame.exclude(*present) if present else frame


def above(column: str, bound: float) -> Expression:
    """column > bound."""
    return col(column) > lit(bound)


def below(column: str, bound: float) -> Expression:
    """column < bound."""
    return col(column) < lit(bound)
