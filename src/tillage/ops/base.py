"""What an operator is. The engine (`tillage.flow`) does the rest: dropping, accounts, stages, resume.

A frame is a lazy `daft.DataFrame` with at least these columns (names in `tillage.data.schema`):
`id` string, `text` string (null in quarantined rows), `domain` string, `source` string (file), `line` int64,
`_drop` string: null while the row is alive, else "step:reason".
Operators must cope with null text and never touch `_drop`: filters only say their reasons.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import daft
import numpy as np
import pyarrow as pa
import pyarrow.compute
from daft import DataFrame, DataType, Expression, col, lit
from daft.expressions import ExpressionsProjection
from daft.functions import when
from daft.recordbatch import MicroPartition
from numpy.typing import NDArray

from tillage.core.registry import Registry
from tillage.core.spec import Spec
from tillage.data.chat import MESSAGES, MESSAGES_TYPE, render
from tillage.data.rows import row_id
from tillage.data.schema import DROP, ID, PARENT, PART, PARTS, TEXT
from tillage.kernels.hashing import hash_strings

Kind = Literal["annotate", "filter", "map", "corpus", "generate"]


pc: Any = pyarrow.compute  # its functions are made at run time
_BATCH = 1024
_KEY = "_key"


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
    `source`, the paper or code that the operator follows; `name`, set on registration; `rewrites_messages`,
    whether an operator that rewrites texts does it to the messages of chats too, or leaves chats alone.
    """

    kind: ClassVar[Kind]
    version: ClassVar[int] = 1
    rewrites_messages: ClassVar[bool] = False
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
    rewrites_messages = True

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


class Generate(Operator):
    """Adds rows, each made of one that is alive; those of which rows were made are dropped as "step:parts".

    In the new rows `parent` is the id of the row that they are made of and `part` their number, from 1; their
    other columns are that row's. Rows with `messages` stay as they are.
    """

    kind = "generate"
    rewrites_messages = True  # chats are left alone

    @classmethod
    def meanings(cls) -> dict[str, str]:
        return {
            PARENT: "id of the row that this one was made of; null in rows that were read",
            PART: "number among the rows made of the same one, from 1",
        }

    def parts(self, texts: pa.Array) -> pa.Array:
        """The texts of the new rows as lists (large_string), null where none are made, for each text.

        Each text alone decides; no list is empty.
        """
        raise NotImplementedError(type(self).__name__)

    def writes(self) -> dict[str, pa.DataType]:
        return {TEXT: pa.large_string(), PARENT: pa.large_string(), PART: pa.int64()}

    def apply(self, frame: DataFrame, artifact: Path | None = None) -> DataFrame:
        whole = col(DROP).is_null()
        if MESSAGES in frame.column_names:
            whole = whole & col(MESSAGES).is_null()
        for name, kind in ((PARENT, DataType.string()), (PART, DataType.int64()), (PARTS, DataType.int64())):
            if name not in frame.column_names:
                frame = frame.with_column(name, lit(None).cast(kind))
        columns = [col(name) for name in (ID, TEXT, PARENT, PART, PARTS)]
        lists = settled(frame.select("*", _made(self.parts)(*columns, whole)))
        made = [f"_made_{name}" for name in _MADE]
        frame = lists.explode(*made)
        new = {name: col(f"_made_{name}") for name in _MADE}
        return settled(frame.with_columns(new).exclude(*made))

    def reasons(self) -> dict[str, Expression]:
        return {"parts": col(PARTS) > lit(0)}


_MADE = {ID: pa.large_string(), TEXT: pa.large_string(), PARENT: pa.large_string(), PART: pa.int64(),
         PARTS: pa.int64()}  # fmt: skip


def _made(parts: Callable[[pa.Array], pa.Array]) -> Any:
    """A function of rows that gives, a list a column, each row and those that are made of it."""

    def run(
        ids: daft.Series,
        texts: daft.Series,
        parents: daft.Series,
        part: daft.Series,
        counts: daft.Series,
        whole: daft.Series,
    ) -> pa.Array:
        given = texts.to_arrow()
        found = parts(pc.if_else(whole.to_arrow(), given, pa.scalar(None, given.type))).to_pylist()
        held = zip(
            ids.to_pylist(),
            given.to_pylist(),
            parents.to_pylist(),
            part.to_pylist(),
            counts.to_pylist(),
            strict=True,
        )
        out: list[list[list[Any]]] = [[] for _ in _MADE]
        for row, new in zip(held, found, strict=True):
            made = [row] if new is None else [(*row[:-1], len(new))]
            made += [(row_id(row[0], i), text, row[0], i, 0) for i, text in enumerate(new or [], 1)]
            for column, values in zip(out, zip(*made, strict=True), strict=True):
                column.append(list(values))
        arrays = [pa.array(c, pa.large_list(kind)) for c, kind in zip(out, _MADE.values(), strict=True)]
        return pa.StructArray.from_arrays(arrays, [f"_made_{name}" for name in _MADE])

    kinds = {f"_made_{n}": DataType.from_arrow_type(pa.large_list(kind)) for n, kind in _MADE.items()}
    return daft.func.batch(return_dtype=DataType.struct(kinds), unnest=True)(run)


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
    """A table of per-row decisions keyed by `id`: how corpus operators hand results from `fit` to `apply`.

    It lies on disk in the order of the ids' hashes and is mapped into memory, so that rows find their
    decisions while they stream by: however many there are of either, none of it has to be held.
    """

    FILE = "decisions.arrow"

    @staticmethod
    def write(artifact: Path, table: pa.Table) -> None:
        """`table` has `id` (unique) and any columns; rows absent from it get nulls."""
        keys = hash_strings(table.column("id"))
        order = np.argsort(keys, kind="stable")
        ordered = table.take(pa.array(order)).append_column(_KEY, pa.array(keys[order]))
        with pa.ipc.new_file(artifact / Decisions.FILE, ordered.schema) as out:
            out.write_table(ordered.combine_chunks())

    @staticmethod
    def read(artifact: Path) -> pa.Table:
        """What was written, in the order of the hashed ids; mapped, not loaded."""
        with pa.memory_map(str(artifact / Decisions.FILE)) as file:
            return pa.ipc.open_file(file).read_all().drop_columns(_KEY)

    @staticmethod
    def join(frame: DataFrame, artifact: Path) -> DataFrame:
        """`frame` with the decision columns added, null in rows that have none."""
        look_up = _LookUp(artifact / Decisions.FILE)
        kinds = {f.name: DataType.from_arrow_type(f.type) for f in look_up.columns()}

        def decided(ids: daft.Series) -> pa.Array:
            return look_up(ids.to_arrow())

        found = daft.func.batch(return_dtype=DataType.struct(kinds), unnest=True)(decided)
        return settled(frame.select("*", found(col("id"))))


class _LookUp:
    """Finds the decisions of ids; opens its file when it is first asked, in whatever process that is."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._table: pa.Table | None = None
        self._keys: NDArray[np.uint64] = np.zeros(0, np.uint64)

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "_table": None, "_keys": np.zeros(0, np.uint64)}

    def columns(self) -> list[pa.Field]:
        with pa.memory_map(str(self.path)) as file:
            return [f for f in pa.ipc.open_file(file).schema if f.name not in ("id", _KEY)]

    def __call__(self, ids: pa.Array) -> pa.Array:
        table = self._open()
        names = [name for name in table.column_names if name not in ("id", _KEY)]
        places = self._places(ids, table)
        found = table.select(names).take(places).combine_chunks()
        columns = [_one(found.column(name)) for name in names]
        return pa.StructArray.from_arrays(columns, fields=list(found.schema))

    def _open(self) -> pa.Table:
        if self._table is None:
            with pa.memory_map(str(self.path)) as file:
                table = pa.ipc.open_file(file).read_all()
            self._keys = table.column(_KEY).to_numpy()
            self._table = table
        return self._table

    def _places(self, ids: pa.Array, table: pa.Table) -> pa.Array:
        """The row of the table for each id, null where there is none."""
        keys = self._keys
        hashed = hash_strings(ids)
        at = np.searchsorted(keys, hashed)
        known = np.zeros(len(at), np.bool_)
        open_ = np.arange(len(at))
        while len(open_):
            open_ = open_[at[open_] < len(keys)]
            open_ = open_[keys[at[open_]] == hashed[open_]]
            mine = _one(table.column("id").take(pa.array(at[open_])))
            same = pc.equal(mine, ids.take(pa.array(open_)).cast(mine.type))
            right = pc.fill_null(same, False).to_numpy(zero_copy_only=False)
            known[open_[right]] = True
            # Two ids of one hash stand one after the other.
            open_ = open_[~right]
            at[open_] += 1
        return pa.array(at, mask=~known)


def _one(column: pa.ChunkedArray) -> pa.Array:
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)


operators: Registry[Operator] = Registry("operator", group="tillage.operators")
operator = operators.register
