"""What every operator must hold to, as a library: for ours, a user's and synthesised ones.

assert conform(MyFilter(limit=3)) == []
"""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import daft
import pyarrow as pa
import pyarrow.compute
from daft import DataFrame, col, pickle

from tillage.data.chat import MESSAGES, MESSAGES_TYPE
from tillage.data.schema import BASE, DROP, ID, PARENT, PARTS
from tillage.kernels.digest import TableDigest
from tillage.ops.base import Corpus, Generate, Map, Operator, mark_drops, settled

pc: Any = pyarrow.compute


@dataclass(frozen=True)
class Violation:
    """A rule that an operator breaks, and how it was seen."""

    rule: str
    detail: str


def execute(op: Operator, table: pa.Table, parts: int = 1) -> pa.Table:
    """Run one operator over rows as the engine does: requirements, `fit` over the rows alive, `apply`, drops.

    Args:
        op: the operator.
        table: rows with the columns of `tillage.data.schema.BASE` and whatever else the operator reads.
        parts: how many partitions the frame has.

    Returns:
        The rows sorted by `id`, with `_drop` set to "<operator>:<reason>" where the operator drops.
    """
    with tempfile.TemporaryDirectory(prefix="tillage-") as folder:
        frame = _applied(op, _required(op, _frame(table, parts)), Path(folder))
        return _by_id(mark_drops(frame, op.name, op.reasons()).to_arrow())


def _frame(table: pa.Table, parts: int) -> DataFrame:
    size = max(1, -(-table.num_rows // parts))
    slices = [table.slice(at, size) for at in range(0, table.num_rows, size)]
    return daft.from_arrow(slices or table)


def _required(op: Operator, frame: DataFrame) -> DataFrame:
    for need in op.requires():
        frame = need.apply(frame)
    return frame


def _applied(op: Operator, frame: DataFrame, folder: Path) -> DataFrame:
    if not isinstance(op, Corpus):
        return op.apply(frame)
    names = dict.fromkeys([ID, "domain", "source", "line", *sorted(op.reads())])
    rows = frame.where(col(DROP).is_null()).select(*(n for n in names if n in frame.column_names))
    keys = op.keys()
    op.fit(settled(rows.with_columns(keys)) if keys else rows, folder)
    return op.apply(frame, folder)


def _by_id(table: pa.Table) -> pa.Table:
    return table.take(pc.sort_indices(table, sort_keys=[(ID, "ascending")]))


def example_rows() -> pa.Table:
    """Rows that break operators: empty, null and long texts, unspaced scripts, emoji, markup, copies."""
    prose = (
        "The farmer and the miller have a field of wheat to the north of the river. They sow it in spring, "
        "and with the first rain the seeds begin to grow. That is what the people of the valley do each year."
    )
    texts: list[str | None] = [
        prose,
        prose + " It is good.",
        prose,
        prose.upper(),
        "",
        " \t\n\r\n ",
        None,
        "one",
        "一个人在田里工作。他种小麦，收获很好！今天下雨。",
        "กสิกรปลูกข้าวในนา ฝนตกทุกวัน",
        "يزرع الفلاح القمح في الحقل. والمطر ينزل في الربيع؟",
        "e\u0301te\u0301 a\u0300 la campagne \u200dn\u0303 \ufeffx",
        "👩‍🌾🌾 👨‍👩‍👧‍👦 🇩🇪 🇫🇷 ok",
        "<html><head><title>T</title></head><body><p>Wheat &amp; rye</p><ul><li>one</li></ul></body></html>",
        "- one\n- two\n- three\n- two\n\n- one\n- two\n",
        "def f(x):\n    return {x: '#' * 3}  # ... comment\n\n\n" * 3,
        "Mail jo@example.org or +1 202 555 0143, 8.8.8.8, card 4111 1111 1111 1111.",
        "spam " * 300,
        "\x00\x07bell\u0085line\u2028para\x7f",
        "Accept our cookies. Lorem ipsum dolor sit amet. See terms of use.\nRead more...\nA line that ends.",
        "x" * 5000,
        "https://a.example/x http://b.example\n" * 4,
    ]
    count = len(texts)
    return pa.table(
        [
            pa.array([f"{i * 7919 % 997:032x}" for i in range(count)], pa.large_string()),
            pa.array(texts, pa.large_string()),
            pa.array([("prose", "code", None, "other")[i % 4] for i in range(count)], pa.large_string()),
            pa.array([f"file-{i % 3}.jsonl" for i in range(count)], pa.large_string()),
            pa.array(range(1, count + 1), pa.int64()),
            pa.array(["read:malformed" if t is None else None for t in texts], pa.large_string()),
            pa.array(["line 7" if t is None else None for t in texts], pa.large_string()),
        ],
        schema=BASE,
    )


def with_inputs(op: Operator, table: pa.Table) -> pa.Table:
    """`table` with the further columns that `op` reads, if we know how to make them of the texts: chats."""
    if MESSAGES not in op.reads() and all(MESSAGES not in need.reads() for need in op.requires()):
        return table
    texts = table.column("text").to_pylist()
    roles = ("system", "user", "assistant", "user", "assistant", "tool")
    chats: list[Any] = []
    for row, text in enumerate(texts):
        parts = (
            None
            if text is None or row % 5 == 4
            else [text[at::3] if row % 2 else text for at in range(row % 4)]
        )
        chats.append(
            None
            if parts is None
            else [{"role": roles[(row + i) % 6], "content": p} for i, p in enumerate(parts)]
        )
    return table.append_column(MESSAGES, pa.array(chats, MESSAGES_TYPE))


def conform(op: Operator, rows: pa.Table | None = None) -> list[Violation]:
    """The rules that `op` breaks over `rows` (default `example_rows()` `with_inputs`); none if it conforms.

    The rules: it pickles and is rebuilt from its fields; it works on no rows and on each row alone; results
    do not depend on how rows are split or ordered, nor on the run; it reads and writes what it declares, with
    the declared types, and nothing else; it leaves `id`, `_drop` and the number of rows alone, or, where it
    makes rows, says of which and drops these; a map leaves dropped rows alone; texts come out as valid
    Unicode. An exception violates the rule under which it arose.
    """
    table = with_inputs(op, example_rows()) if rows is None else rows
    found: list[Violation] = []
    for rule, check in _RULES.items():
        try:
            found += [Violation(rule, detail) for detail in check(op, table)]
        except Exception as error:  # noqa: BLE001 - whatever an operator raises is what is to be reported
            found.append(Violation(rule, f"{type(error).__name__}: {error}"))
    return found


def digest(table: pa.Table, *columns: str) -> str:
    """The order-independent digest of `columns`, default all."""
    return TableDigest().update(table, columns or None).hexdigest()


def _rebuilds(op: Operator, table: pa.Table) -> Iterator[str]:
    del table
    # As Daft does for Ray: classes of notebooks and scripts travel by value.
    again = cast(Operator, pickle.loads(pickle.dumps(op)))
    if again != op or again.fingerprint() != op.fingerprint():
        yield "pickling changes the operator"
    again = type(op).model_validate_json(op.model_dump_json())
    if again != op or again.fingerprint() != op.fingerprint():
        yield "the JSON of its fields does not give the same operator"


def _small(op: Operator, table: pa.Table) -> Iterator[str]:
    for count in (0, 1):
        result = execute(op, table.slice(0, count))
        if _given(op, result, table.slice(0, count)).num_rows != count:
            yield f"{count} rows became {result.num_rows}"


def _contract(op: Operator, table: pa.Table) -> Iterator[str]:
    if not op.name:
        yield "it is not registered: decorate it with @operator"
    if not (type(op).__doc__ or "").strip():
        yield "it has no docstring"
    with tempfile.TemporaryDirectory(prefix="tillage-") as folder:
        before = _required(op, _frame(table, 1))
        given = _by_id(before.to_arrow())
        result = _given(op, _by_id(_applied(op, before, Path(folder)).to_arrow()), given)
    declared = op.writes()
    for name, kind in declared.items():
        if name not in result.column_names:
            yield f"declared column {name!r} is missing"
        elif _wide(result.schema.field(name).type) != _wide(kind):
            yield f"column {name!r} has type {result.schema.field(name).type}, declared {kind}"
    engine = {PARTS} if isinstance(op, Generate) else set[str]()
    for name in sorted(set(result.column_names) - set(given.column_names) - declared.keys() - engine):
        yield f"column {name!r} is written and not declared"
    for name in given.column_names:
        if name not in result.column_names:
            yield f"column {name!r} is lost"
        elif name not in declared and digest(result, ID, name) != digest(given, ID, name):
            yield f"column {name!r} is changed and not declared"
    for name in declared.keys() & {ID, DROP}:
        yield f"column {name!r} belongs to the engine"


def _reasons(op: Operator, table: pa.Table) -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="tillage-") as folder:
        frame = _applied(op, _required(op, _frame(table, 1)), Path(folder))
        for name, expression in op.reasons().items():
            if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
                yield f"reason {name!r} is not in snake case"
            kind = frame.select(expression.alias("reason")).schema()["reason"].dtype
            if not kind.is_boolean():
                yield f"reason {name!r} is {kind}, not boolean"
        # Alone the reasons are planned otherwise than among all columns: the results must not differ.
        marked = mark_drops(frame, op.name, op.reasons())
        if digest(marked.select(ID, DROP).to_arrow()) != digest(marked.to_arrow(), ID, DROP):
            yield "reasons differ when no other column is asked for: UDFs belong in `apply`, `settled`"


def _reads(op: Operator, table: pa.Table) -> Iterator[str]:
    hidden = [name for name in ("text", "domain", "source", "line") if name not in op.reads()]
    if isinstance(op, Corpus):  # these are always given to `fit`
        hidden = [name for name in hidden if name == "text"]
    with tempfile.TemporaryDirectory(prefix="tillage-") as folder:
        frame = _required(op, _frame(table, 1)).exclude(*hidden)
        frame = _applied(op, frame, Path(folder)).with_columns(op.reasons())
        if _given(op, frame.to_arrow(), table).num_rows != table.num_rows:
            yield f"without {hidden} the number of rows changes"


def _splits(op: Operator, table: pa.Table) -> Iterator[str]:
    whole = digest(execute(op, table))
    if digest(execute(op, table)) != whole:
        yield "a second run gives other results"
    for parts in (2, 5):
        if digest(execute(op, table, parts)) != whole:
            yield f"{parts} partitions give other results than one"
    turned = table.take(pa.array(range(table.num_rows - 1, -1, -1)))
    if digest(execute(op, turned, 3)) != whole:
        yield "rows in reverse order give other results"


def _rows_alone(op: Operator, table: pa.Table) -> Iterator[str]:
    if op.scope == "corpus":
        return
    whole = execute(op, table)
    alone = TableDigest()
    for at in range(table.num_rows):
        alone.update(execute(op, table.slice(at, 1)))
    if alone.hexdigest() != digest(whole):
        yield "a row alone gives other results than the row among others, yet its scope is row"


def _dropped_rows(op: Operator, table: pa.Table) -> Iterator[str]:
    given = _by_id(table)
    result = _given(op, whole := execute(op, table), given)
    if isinstance(op, Generate):
        yield from _made_rows(result, whole)
    if result.num_rows != given.num_rows or result.column(ID).to_pylist() != given.column(ID).to_pylist():
        yield "rows or ids are lost, added or changed"
        return
    dead = given.column(DROP).is_valid()
    if result.filter(dead).column(DROP).to_pylist() != given.filter(dead).column(DROP).to_pylist():
        yield "the reason of a row dropped earlier is changed"
    every = given.set_column(
        given.column_names.index(DROP), DROP, pa.array(["test:gone"] * given.num_rows, pa.large_string())
    )
    if isinstance(op, Map):
        kept = execute(op, every)
        if digest(kept, ID, "text") != digest(given, ID, "text"):
            yield "a map rewrites rows that were dropped"


def _given(op: Operator, result: pa.Table, given: pa.Table) -> pa.Table:
    """The rows of a result that were given; an operator that generates rows adds to them."""
    if not isinstance(op, Generate):
        return result
    return result.filter(pc.is_in(result.column(ID), value_set=given.column(ID).combine_chunks()))


def _made_rows(given: pa.Table, whole: pa.Table) -> Iterator[str]:
    """Rows that were made have ids of their own and a parent, which is dropped for it."""
    ids = whole.column(ID).to_pylist()
    if len(set(ids)) < len(ids):
        yield "two rows have one id"
    had = set(given.column(ID).to_pylist())
    made = [r for r in whole.select([ID, PARENT, DROP]).to_pylist() if r[ID] not in had]
    told = {r[ID]: r[PARTS] for r in given.select([ID, PARTS]).to_pylist() if r[PARTS]}
    counts = Counter(row[PARENT] for row in made)
    if counts != told:
        yield "rows are made of others than those that say so, or in another number"
    if any(row[DROP] is not None for row in made):
        yield "rows are made that are dropped"
    gone = {r[ID] for r in given.select([ID, DROP]).to_pylist() if (r[DROP] or "").endswith(":parts")}
    if gone != told.keys():
        yield "rows that others are made of stay"


def _texts(op: Operator, table: pa.Table) -> Iterator[str]:
    result = execute(op, table)
    for name in result.column_names:
        if pa.types.is_large_string(result.schema.field(name).type):
            try:
                result.column(name).validate(full=True)
            except pa.ArrowInvalid as error:
                yield f"column {name!r}: {error}"
    given = _by_id(table)
    if "text" in op.writes():
        result = _given(op, result, given)
        was_null, is_null = given.column("text").is_null(), result.column("text").is_null()
        if not is_null.equals(was_null):
            yield "texts become null, or null becomes text"


def _wide(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_string(kind):
        return pa.large_string()
    return pa.large_binary() if pa.types.is_binary(kind) else kind


_RULES: dict[str, Callable[[Operator, pa.Table], Iterator[str]]] = {
    "rebuilds": _rebuilds,
    "small batches": _small,
    "contract": _contract,
    "reasons": _reasons,
    "reads": _reads,
    "splits and order": _splits,
    "rows alone": _rows_alone,
    "dropped rows": _dropped_rows,
    "texts": _texts,
}
