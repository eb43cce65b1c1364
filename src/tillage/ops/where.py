"""Keeping rows by a SQL condition over their columns."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Self, cast

import daft
from daft import DataFrame, Expression, lit
from daft.exceptions import DaftCoreException
from daft.expressions.visitor import ExpressionVisitor
from pydantic import Field, model_validator

from tillage.core.errors import UserError, nearest
from tillage.ops.base import Annotate, Filter, operator
from tillage.ops.language import Language
from tillage.ops.stats import MEASURES, TextStats


class _Columns(ExpressionVisitor[frozenset[str]]):
    """The columns that an expression reads."""

    def visit_col(self, name: str) -> frozenset[str]:
        return frozenset({name})

    def visit_lit(self, value: object) -> frozenset[str]:
        return frozenset()

    def visit_alias(self, expr: Expression, alias: str) -> frozenset[str]:
        return self.visit(expr)

    def visit_cast(self, expr: Expression, dtype: daft.DataType) -> frozenset[str]:
        return self.visit(expr)

    def visit_try_cast(self, expr: Expression, dtype: daft.DataType) -> frozenset[str]:
        return self.visit(expr)

    def visit_coalesce(self, args: list[Expression]) -> frozenset[str]:
        return self.visit_function("coalesce", args)

    def visit_function(self, name: str, args: list[Expression]) -> frozenset[str]:
        found: frozenset[str] = frozenset()
        for arg in args:  # the list of `in` comes as a list
            for part in cast(list[Expression], arg if isinstance(arg, list) else [arg]):
                found |= self.visit(part)
        return found


@operator
class Where(Filter):
    """Keep the rows for which a SQL expression over columns is true; measurements it names are taken."""

    source = "SQL expressions as Daft parses them"

    keep: str = Field(description="a SQL expression, for example: words > 50 and domain <> 'code'")
    reason: str = Field(
        default="where", pattern=r"^[a-z][a-z0-9_]*$", description="name of the reason for dropping"
    )

    @classmethod
    def example(cls) -> Self:
        return cls(keep="words > 50 and domain <> 'code'")

    @model_validator(mode="after")
    def _parses(self) -> Self:
        self._columns()
        return self

    def requires(self) -> tuple[Annotate, ...]:
        names = self._columns()
        stats = tuple(name for name in MEASURES if name in names)
        needs: list[Annotate] = [TextStats(measures=stats)] if stats else []
        if names & Language().writes().keys():
            needs.append(Language())
        return tuple(needs)

    def reads(self) -> frozenset[str]:
        return self._columns()

    def apply(self, frame: DataFrame, artifact: Path | None = None) -> DataFrame:
        names = frame.column_names
        for name in sorted(self._columns()):
            if name not in names:
                public = [n for n in names if not n.startswith("_")]
                raise UserError(
                    f"unknown column {name!r}", where=f"where: {self.keep}", hint=nearest(name, public)
                )
        try:
            kind = frame.with_column("_keep", _parse(self.keep)).schema()["_keep"].dtype
        except DaftCoreException as error:
            raise UserError("the expression does not fit its columns", where=self.keep, got=error) from error
        if not kind.is_boolean():
            raise UserError(
                "the expression is not a condition", where=self.keep, got=kind, expected="boolean"
            )
        return frame

    def reasons(self) -> dict[str, Expression]:
        # As in SQL, a row is kept only if the condition is true: unknown (null) is not enough.
        return {self.reason: ~_parse(self.keep).fill_null(lit(False))}

    def _columns(self) -> frozenset[str]:
        try:
            return _Columns().visit(_parse(self.keep))
        except ValueError as error:  # aggregates and the like
            raise _unreadable(self.keep, error) from error


_QUOTED = re.compile(r"'(?:[^']|'')*'|\"[^\"]*\"")


def _unreadable(text: str, got: object) -> UserError:
    return UserError(
        "the expression cannot be read",
        where=f"where: {text}",
        got=got,
        expected="a SQL condition on one row, for example: words > 50 and domain <> 'code'",
    )


def _parse(text: str) -> Expression:
    bare = _QUOTED.sub("''", text)
    if found := re.search(r"\b(select|over)\b|;|--", bare, re.IGNORECASE):
        raise _unreadable(text, found[0])
    depth = 0
    for mark in re.findall(r"[()]", bare):
        depth += 1 if mark == "(" else -1
        if depth < 0:
            raise _unreadable(text, "a closing bracket without an opening one")
    try:
        # In brackets, since Daft's parser silently stops at the first thing that it does not understand.
        return daft.sql_expr(f"({text})")
    except Exception as error:
        # Daft's exception for this is made in Rust and cannot be named here.
        if type(error).__name__ != "InvalidSQLException":
            raise
        raise _unreadable(text, str(error).strip()) from error
