"""What an operator is. The engine (`tillage.flow`) does the rest: dropping, accounts, stages, resume.

A frame is a lazy `daft.DataFrame` with at least these columns (names in `tillage.data.schema`):
`id` string, `text` string (null in quarantined rows), `domain` string, `source` string (file), `line` int64,
`_drop` string: null while the row is alive, else "step:reason".
Operators must cope with null text and never touch `_drop`: filters only say their reasons.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import daft
import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq
from daft import DataFrame, Expression, col, lit
from daft.expressions import ExpressionsProjection
from daft.functions import when
from daft.recordbatch import MicroPartition

from tillage.core.registry import Registry
from tillage.core.spec import Spec
from tillage.data.chat import MESSAGES, MESSAGES_TYPE, render
from tillage.data.schema import TEXT

Kind = Literal["annotate", "filter", "map", "corpus"]


pc: Any = pyarrow.compute  # its functions are made at run time
_BATCH = 1024


def settled(frame: DataFrame) -> DataFrame:
    """`frame`, with what it computes so far kept apart from what comes after: put it after columns from UDFs.

    Daft 0.7.26 merges adjacent projections, and an expression that then holds two UDFs computes the first one
    twice: `a + b` gives `a + a` where neither column is selected itself. It does not merge across a change of
    batch size, while filters and column pruning still pass. Batches of 1,024 rows also bound a UDF's memory.
    """
    return frame.into_batches(_BATCH)


def mark_drops(frame: DataFrame, step: str, reasons: Mapping[str, Expression]) -> DataFrame:
    """Set `_drop` to "step:reason" in rows that are alive, for the first reason that is true, not null."""
    if not reasons:
        return frame
    # One expression, not one a reason: nested, they would double in size with each.
    cases = when(col("_drop").not_null(), col("_drop"))
    for reason, expression in reasons.items():
        # In Daft a condition that is null makes the whole case null, whatever conditions follow.
        cases = cases.when(expression.fill_null(lit(False)), lit(f"{step}:{reason}"))
    return settled(frame.with_column("_drop", cases.otherwise(lit(None).cast("string"))))


class Operator(Spec):
    """Base of all operators. Fields are parameters; the docstring's first line is the description.

    Class attributes: `kind`; `version`, raised when results change, so that cached stages are not reused;
    `source`, the paper or code that the operator follows; `name`, set on registration.
    """

    kind: ClassVar[Kind]
    version: ClassVar[int] = 1
    source: ClassVar[str] = ""
    name: ClassVar[str] = ""

    @classmethod
    def example(cls) -> Self:
        """An instance to describe and to test it by; overridden where a parameter has no default."""
        return cls()

    @classmethod
    def meanings(cls) -> dict[str, str]:
        """Written column -> what it says, for whoever chooses thresholds over it."""
        return {}

    @property
    def scope(self) -> Literal["row", "corpus"]:
        """`row`: each row alone decides; `corpus`: `fit` sees all rows that are alive before `apply`."""
        return "corpus" if self.kind == "corpus" else "row"

    @property
    def rewrites(self) -> bool:
        """Whether the text changes: measurements of it are taken anew after the operator."""
        return self.kind == "map" or TEXT in self.writes()

    def canonical(self) -> Any:
        return {"version": self.version, **super().canonical()}

    def requires(self) -> tuple[Annotate, ...]:
        """Annotations that must stand in the frame before `apply`; the engine measures each once."""
        return ()

    def reads(self) -> frozenset[str]:
        """Columns read, those of `requires()` included."""
        return frozenset({"text"})

    def writes(self) -> dict[str, pa.DataType]:
        """Columns added (or replaced), with their Arrow types."""
        return {}

    def apply(self, frame: DataFrame, artifact: Path | None = None) -> DataFrame:
        """Add the columns of `writes()`, lazily. `artifact` is the folder that `fit` filled, if any."""
        del artifact
        return frame

    def reasons(self) -> dict[str, Expression]:
        """Reason -> boolean expression: true drops the row. The first true reason is the one kept.

        Expressions over columns only; what needs a UDF is a column of `apply` (see `settled`).
        """
        return {}


class Annotate(Operator):
    """Adds measurements and drops nothing."""

    kind = "annotate"

    def columns(self) -> dict[str, Expression]:
        """Column name -> expression; the usual way to write an annotation."""
        return {}

    def apply(self, frame: DataFrame, artifact: Path | None = None) -> DataFrame:
        return settled(frame.with_columns(self.columns()))

    def merge(self, other: Annotate) -> Annotate | None:
        """One annotation that measures what both do in one pass, or None if there is none."""
        return self if self == other else None


class Filter(Operator):
    """Drops rows for named reasons, usually over columns that `requires()` measured."""

    kind = "filter"

    def reads(self) -> frozenset[str]:
        return frozenset(name for need in self.requires() for name in need.writes())


class Map(Operator):
    """Rewrites the text of rows that are alive. Measurements of the text are taken anew after a map.

    In frames with `messages` each message of a chat is rewritten for itself, and the text rendered from them.
    """

    kind = "map"

    def rewrite(self) -> Expression:
        """The new text (string) as an expression over the row's `text`."""
        raise NotImplementedError(type(self).__name__)

    def writes(self) -> dict[str, pa.DataType]:
        return {"text": pa.large_string()}

    def apply(self, frame: DataFrame, artifact: Path | None = None) -> DataFrame:
        alive = col("_drop").is_null()
        if MESSAGES in frame.column_names:
            chats = when(alive, _each_message(self.rewrite())(col(MESSAGES))).otherwise(col(MESSAGES))
            frame = settled(frame.with_column(MESSAGES, chats))
            plain = col(MESSAGES).is_null()
            texts = when(alive & plain, self.rewrite()).otherwise(col("text"))
            frame = settled(frame.with_column("text", texts))
            rendered = _rendered(col(MESSAGES), col("text"), alive)
            return settled(frame.with_column("text", rendered))
        return settled(frame.with_column("text", when(alive, self.rewrite()).otherwise(col("text"))))


def _each_message(rewrite: Expression) -> Any:
    """A function of `messages` that puts the contents, as the column `text`, through an expression."""

    def run(chats: daft.Series) -> pa.Array:
        held = chats.to_arrow().cast(MESSAGES_TYPE)
        turns = held.flatten()
        rows = MicroPartition.from_pydict({TEXT: turns.field("content")})
        new = (
            rows.eval_expression_list(ExpressionsProjection([rewrite.alias(TEXT)]))
            .to_arrow()
            .column(TEXT)
            .cast(pa.large_string())
        )
        turns = pa.StructArray.from_arrays(
            [turns.field("role"), pa.concat_arrays(new.chunks)], ["role", "content"]
        )
        return _relisted(held, turns)

    return daft.func.batch(return_dtype=daft.DataType.from_arrow_type(MESSAGES_TYPE))(run)


def _relisted(lists: pa.LargeListArray, items: pa.Array) -> pa.LargeListArray:
    """Lists as long as those of `lists`, of `items`, which come in their order."""
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy()
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int64())
    return pa.LargeListArray.from_arrays(offsets, items, mask=lists.is_null())


@daft.func.batch(return_dtype=daft.DataType.string())
def _rendered(chats: daft.Series, texts: daft.Series, alive: daft.Series) -> pa.Array:
    rows = zip(chats.to_pylist(), texts.to_pylist(), alive.to_pylist(), strict=True)
    return pa.array([render(m) if m is not None and live else t for m, t, live in rows], pa.large_string())


class Corpus(Operator):
    """Needs the whole corpus: `keys` are computed row by row, `fit` sees them all, `apply` uses the result.

    The engine calls `fit` once over the rows that are alive, with columns `id`, `domain`, `source`, `line`,
    those of `reads()` and those of `keys()`; then `apply` and `reasons` as for any operator.
    `fit` must not depend on the order of rows or their partitioning.

    Where `extends` is true, `fit` also leaves an index of the rows in its folder, and `extend` goes on from
    the folder of an earlier fit with further rows, to the decisions that `fit` over all would have made.
    """

    kind = "corpus"
    extends: ClassVar[bool] = False

    def keys(self) -> dict[str, Expression]:
        """Row-level columns that `fit` needs (names start with `_`); dropped from the output."""
        return {}

    def fit(self, frame: DataFrame, artifact: Path) -> None:
        """Read `frame` (it may be larger than memory) and write what `apply` needs into the folder."""
        raise NotImplementedError(type(self).__name__)

    def extend(self, frame: DataFrame, before: Path, artifact: Path) -> None:
        """Fill `artifact` as `fit` would from the rows of an earlier fit (or `extend`) and of `frame`.

        Args:
            frame: rows as for `fit`, none of which the earlier fit has seen.
            before: the earlier fit's folder; it stays as it is.
            artifact: an empty folder.
        """
        raise NotImplementedError(type(self).__name__)


class Decisions:
    """A table of per-row decisions keyed by `id`: how corpus operators hand results from `fit` to `apply`."""

    FILE = "decisions.parquet"

    @staticmethod
    def write(artifact: Path, table: pa.Table) -> None:
        """`table` has `id` (unique) and any columns; rows absent from it get nulls."""
        pq.write_table(table, artifact / Decisions.FILE, compression="zstd")

    @staticmethod
    def join(frame: DataFrame, artifact: Path) -> DataFrame:
        """`frame` with the decision columns added by a left join on `id`."""
        return frame.join(daft.read_parquet(str(artifact / Decisions.FILE)), on="id", how="left")


operators: Registry[Operator] = Registry("operator", group="tillage.operators")
operator = operators.register
