"""Operators whose code a model or a person wrote as text, and the test before their use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self

import pyarrow as pa
from daft import DataFrame, Expression
from pydantic import Field, field_validator

from tillage.agent.sandbox import Entry, Limits, run_entry, run_predicate
from tillage.core.errors import UserError, WorkFailed
from tillage.core.spec import Spec
from tillage.ops.base import Annotate, Filter, Map, Operator, operator
from tillage.ops.udf import measure, with_measures

Kind = Literal["filter", "map", "annotate"]
ENTRY: dict[Kind, Entry] = {"filter": "keep", "map": "rewrite", "annotate": "measure"}
ColumnType = Literal["string", "integer", "number", "boolean"]
_ARROW: dict[ColumnType, tuple[pa.DataType, type | tuple[type, ...]]] = {
    "string": (pa.large_string(), str),
    "integer": (pa.int64(), int),
    "number": (pa.float64(), (int, float)),
    "boolean": (pa.bool_(), bool),
}
_CODE = "source that defines {}"
_SECONDS = Field(default=2.0, gt=0, description="most seconds a batch may take")
_MEMORY = Field(default=64, ge=1, description="most memory a batch may take, MiB")


@operator
class SandboxedFilter(Filter):
    """Drop documents for which a predicate in restricted Python, `keep(text)`, returns False.

    The source in `code` runs only in the sandbox (`tillage.agent.sandbox`), never in this process. Rows with
    null text are not asked about. A predicate that fails on any row fails the run.
    """

    version = 2
    source = "pydantic-monty"

    code: str = Field(min_length=1, description=_CODE.format("keep(text) -> bool"))
    seconds: float = _SECONDS
    memory_mb: int = _MEMORY

    @classmethod
    def example(cls) -> Self:
        return cls(code="def keep(text):\n    return len(text.split()) > 2\n")

    def reads(self) -> frozenset[str]:
        return frozenset({"text"})

    def reasons(self) -> dict[str, Expression]:
        return {"predicate": ~measure(_kernel(self, "keep", pa.bool_()), pa.bool_())}


@operator
class SandboxedMap(Map):
    """Rewrite texts by a function in restricted Python, `rewrite(text)`, that returns the new text.

    The source in `code` runs only in the sandbox. A function that fails on any row fails the run.
    """

    source = "pydantic-monty"

    code: str = Field(min_length=1, description=_CODE.format("rewrite(text) -> str"))
    seconds: float = _SECONDS
    memory_mb: int = _MEMORY

    @classmethod
    def example(cls) -> Self:
        return cls(code="def rewrite(text):\n    return text.strip()\n")

    def rewrite(self) -> Expression:
        return measure(_kernel(self, "rewrite", pa.large_string()), pa.large_string())


@operator
class SandboxedAnnotate(Annotate):
    """Add columns by a function in restricted Python, `measure(text)`, that returns a dict of their values.

    The source in `code` runs only in the sandbox. A column that the dict leaves out is null in that row; a
    value of another type than declared, or a function that fails on any row, fails the run.
    """

    source = "pydantic-monty"

    code: str = Field(min_length=1, description=_CODE.format("measure(text) -> dict"))
    values: dict[str, ColumnType] = Field(
        min_length=1, description="columns to add: string, integer, number or boolean"
    )
    seconds: float = _SECONDS
    memory_mb: int = _MEMORY

    @field_validator("values")
    @classmethod
    def _plain_names(cls, columns: dict[str, ColumnType]) -> dict[str, ColumnType]:
        wrong = [name for name in columns if not name.isidentifier() or name.startswith("_")]
        if wrong:
            raise ValueError(f"{wrong[0]!r} cannot be the name of a column")
        return columns

    @classmethod
    def example(cls) -> Self:
        code = "def measure(text):\n    return {'first_word': text.split(' ')[0]}\n"
        return cls(code=code, values={"first_word": "string"})

    @classmethod
    def meanings(cls) -> dict[str, str]:
        return {"first_word": "of the example: the text up to its first blank"}

    def writes(self) -> dict[str, pa.DataType]:
        return {name: _ARROW[kind][0] for name, kind in self.values.items()}

    def apply(self, frame: DataFrame, artifact: Path | None = None) -> DataFrame:
        kernel = partial(_measure, code=self.code, limits=_limits(self), columns=dict(self.values))
        return with_measures(frame, kernel, self.writes())


Sandboxed = SandboxedFilter | SandboxedMap | SandboxedAnnotate


def make(kind: Kind, code: str, columns: Mapping[str, ColumnType] | None = None) -> Sandboxed:
    """The sandboxed operator of `kind`; `columns` of an annotation."""
    if kind == "filter":
        return SandboxedFilter(code=code)
    if kind == "map":
        return SandboxedMap(code=code)
    return SandboxedAnnotate.load({"code": code, "values": dict(columns or {})}, "sandboxed_annotate")


def _limits(op: Sandboxed) -> Limits:
    return Limits(seconds=op.seconds, memory_mb=op.memory_mb)


def _kernel(op: Sandboxed, entry: Entry, kind: pa.DataType) -> Any:
    return partial(_each, code=op.code, entry=entry, limits=_limits(op), kind=kind)


def _each(texts: pa.Array, code: str, entry: Entry, limits: Limits, kind: pa.DataType) -> pa.Array:
    return pa.array(_asked(texts.to_pylist(), code, entry, limits), kind)


def _asked(rows: Sequence[str | None], code: str, entry: Entry, limits: Limits) -> list[Any]:
    """The results for rows with text, None for the others."""
    asked = [row for row in rows if row is not None]
    results = iter(run_entry(code, entry, asked, limits) if asked else [])
    return [None if row is None else next(results) for row in rows]


def _measure(
    texts: pa.Array, code: str, limits: Limits, columns: Mapping[str, ColumnType]
) -> dict[str, pa.Array]:
    results = _asked(texts.to_pylist(), code, "measure", limits)
    return {
        name: pa.array([_typed(row, name, kind) for row in results], _ARROW[kind][0])
        for name, kind in columns.items()
    }


def _typed(row: dict[str, Any] | None, name: str, kind: ColumnType) -> Any:
    value = None if row is None else row.get(name)
    right = value is None or (
        isinstance(value, _ARROW[kind][1]) and (kind == "boolean" or not isinstance(value, bool))
    )
    if not right:
        raise WorkFailed(f"column {name!r} is declared {kind}", got=repr(value)[:100])
    return value


class Case(Spec):
    """One test row: a text, and what the operator must make of it.

    `keep` for a filter, `rewritten` for a map, `values` (column -> value or null) for an annotation.
    """

    text: str
    keep: bool | None = None
    rewritten: str | None = None
    values: dict[str, str | int | float | bool | None] | None = None


@dataclass(frozen=True)
class Vetting:
    """How an operator did on examples with known answers.

    Filter: positive means dropped. Map: precision is the share of changed texts that are as they should be,
    recall the share of texts in need of a change that got the right one. Annotation: the same over values.
    """

    precision: float
    recall: float
    examples: int
    wrong: list[str]

    def passes(self, precision: float = 0.9, recall: float = 0.7) -> bool:
        return self.precision >= precision and self.recall >= recall


def vet(code: str, keep: Sequence[str], drop: Sequence[str], limits: Limits | None = None) -> Vetting:
    """Run a predicate on texts that must be kept and planted defects that must be dropped.

    Precision is 0 when nothing is dropped. The verdict of each text must not depend on the batch it is in:
    a predicate that carries state from text to text is refused with a `UserError`.
    """
    if not keep or not drop:
        raise UserError(
            "a predicate is vetted on both kinds", got=f"{len(keep)} to keep, {len(drop)} to drop"
        )
    texts = [*keep, *drop]
    verdicts = run_predicate(code, texts, limits)
    _stateless(code, "keep", texts, verdicts, limits)
    right = sum(not kept for kept in verdicts[len(keep) :])
    dropped = sum(not kept for kept in verdicts)
    wanted = [True] * len(keep) + [False] * len(drop)
    wrong = [text[:200] for text, got, want in zip(texts, verdicts, wanted, strict=True) if got != want]
    return Vetting(right / dropped if dropped else 0.0, right / len(drop), len(texts), wrong)


def vet_cases(op: Sandboxed, cases: Sequence[Case]) -> Vetting:
    """Run an operator's code on test rows with known answers.

    Raises:
        UserError: cases of one kind only (nothing to drop, nothing to keep, nothing to change), or state that
            is carried from text to text.
        WorkFailed: the code failed.
    """
    limits, texts = _limits(op), [case.text for case in cases]
    if isinstance(op, SandboxedFilter):
        keep = [case.text for case in cases if case.keep is True]
        drop = [case.text for case in cases if case.keep is False]
        return vet(op.code, keep, drop, limits)
    if isinstance(op, SandboxedMap):
        got: list[Any] = run_entry(op.code, "rewrite", texts, limits)
        _stateless(op.code, "rewrite", texts, got, limits)
        wanted = [case.text if case.rewritten is None else case.rewritten for case in cases]
        found = [(text, new, want, text) for text, new, want in zip(texts, got, wanted, strict=True)]
    else:
        rows: list[Any] = run_entry(op.code, "measure", texts, limits)
        _stateless(op.code, "measure", texts, rows, limits)
        found = [
            (case.text, _typed(row, name, kind), (case.values or {}).get(name), None)
            for case, row in zip(cases, rows, strict=True)
            for name, kind in op.values.items()
        ]
    given = sum(new != before for _, new, _, before in found)
    needed = sum(want != before for _, _, want, before in found)
    right = sum(new == want != before for _, new, want, before in found)
    if not needed:
        raise UserError("the test rows ask for nothing", expected="rows that must change, or have values")
    wrong = list(dict.fromkeys(text[:200] for text, new, want, _ in found if new != want))
    return Vetting(right / given if given else 0.0, right / needed, len(cases), wrong)


def _stateless(
    code: str, entry: Entry, texts: Sequence[str], results: list[Any], limits: Limits | None
) -> None:
    if run_entry(code, entry, texts[::-1], limits)[::-1] != results:
        what = "predicate" if entry == "keep" else "code"
        raise UserError(
            f"the {what} depends on the order of texts", hint="keep no state outside the function"
        )


SANDBOXED: tuple[type[Operator], ...] = (SandboxedFilter, SandboxedMap, SandboxedAnnotate)
