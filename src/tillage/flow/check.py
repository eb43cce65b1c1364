"""The contract of a recipe: names, types, order and scope, proved over an empty frame before a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import daft
import pyarrow as pa
from daft import DataFrame, DataType, Expression
from daft.exceptions import DaftCoreException

from tillage.core.errors import UserError, nearest
from tillage.data.chat import MESSAGES
from tillage.data.reader import no_rows, raw_schema
from tillage.data.schema import BASE, TEXT
from tillage.flow.compile import Action, compile_stages
from tillage.flow.recipe import Recipe
from tillage.ops.base import Annotate, Corpus, Operator, operators

Code = Literal[
    "no_input",
    "missing_column",
    "order",
    "reserved_column",
    "lost_column",
    "undeclared_column",
    "wrong_type",
    "not_boolean",
    "bad_expression",
    "invalid_parameter",
    "keys_not_private",
]
CODES: tuple[Code, ...] = get_args(Code)


@dataclass(frozen=True)
class Finding:
    """What does not hold, at which step (empty: the recipe), and what would repair it."""

    code: Code
    step: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        place = f"step {self.step}: " if self.step else ""
        return f"{place}{self.message}" + (f" ({self.hint})" if self.hint else "")


def check(recipe: Recipe, inputs: bool = True, schema: pa.Schema | None = None) -> list[Finding]:
    """All findings of the contract; an empty list means that it holds. No row is read.

    Args:
        inputs: also look whether the sources' files exist.
        schema: the columns of the raw rows, where they are not those of the sources.
    """
    findings: list[Finding] = []
    if inputs:
        for number, source in enumerate(recipe.sources, 1):
            try:
                source.files()
            except UserError as error:
                message = f"source {number} ({source.name}): {error.what}: {error.got}"
                findings.append(Finding("no_input", "", message, error.hint or ""))
    for op in recipe.evaluation:
        try:
            op.items()
        except UserError as error:
            message = " ".join(str(x) for x in ("evaluation:", error.what, error.where, error.got) if x)
            findings.append(Finding("invalid_parameter", "", message, error.hint or ""))
    try:
        columns = schema if schema is not None else raw_schema(recipe.sources)
    except UserError as error:
        return [*findings, Finding("wrong_type", "", error.what)]
    frame = no_rows(columns)
    broken: set[str] = set()
    for action in (action for stage in compile_stages(recipe) for action in stage.actions):
        found, frame, lost = _check_action(action, frame, recipe, broken)
        findings += found
        broken |= lost
    return findings


def require(recipe: Recipe, inputs: bool = True, schema: pa.Schema | None = None) -> None:
    """`UserError` with all findings unless the contract holds."""
    findings = check(recipe, inputs, schema)
    if findings:
        first, rest = findings[0], findings[1:]
        more = "".join(f"\n  also: {finding}" for finding in rest)
        raise UserError(
            "the contract of the recipe does not hold",
            where=f"{recipe.name}: step {first.step}" if first.step else recipe.name,
            got=first.message + more,
            hint=first.hint or None,
        )


def _check_action(
    action: Action, frame: DataFrame, recipe: Recipe, broken: set[str]
) -> tuple[list[Finding], DataFrame, set[str]]:
    """The findings of one action, the frame after it, and the columns it should have made and did not."""
    op, step = action.op, action.id
    have = frame.column_names
    missing = sorted(op.reads() - set(have) - (op.writes().keys() if not isinstance(op, Corpus) else set()))
    if missing:
        # What an earlier broken step would have made is one fault, not two.
        new = [name for name in missing if name not in broken]
        return [_missing(name, step, have, recipe) for name in new], frame, set(op.writes())
    if op.rewrites and not op.rewrites_messages and MESSAGES in have:
        message = "rewrites texts and cannot rewrite the messages of chats"
        marks = "mark" in type(op).model_fields
        hint = "set mark: true, which only adds columns" if marks else "leave it out, or read plain text"
        return [Finding("invalid_parameter", step, message, hint)], frame, set(op.writes())
    reserved = sorted(
        n
        for n in op.writes()
        if n in BASE.names and not (n == TEXT and op.kind in ("map", "corpus", "generate"))
    )
    if reserved:
        message = f"writes the reserved column {reserved[0]!r}"
        return [Finding("reserved_column", step, message)], frame, set()
    try:
        after = _apply(op, frame)
        findings = [*_check_columns(op, step, frame, after), *_check_expressions(op, step, after)]
    except UserError as error:
        code: Code = "missing_column" if error.what.startswith("unknown column") else "invalid_parameter"
        message = " ".join(str(x) for x in (error.what, error.where, error.got) if x is not None)
        return [Finding(code, step, message, error.hint or "")], frame, set(op.writes())
    except DaftCoreException as error:
        return [Finding("bad_expression", step, _said(error))], frame, set(op.writes())
    return findings, after if not findings else frame, set(op.writes()) if findings else set()


def _missing(name: str, step: str, have: list[str], recipe: Recipe) -> Finding:
    for later in recipe.steps:
        if later.id != step and name in later.op.writes():
            return Finding(
                "order",
                step,
                f"reads column {name!r}, which step {later.id} makes later",
                f"move {later.id} before {step}",
            )
    message = f"reads column {name!r}, which does not exist"
    if name.startswith('"'):
        return Finding("missing_column", step, message, f"text stands in single quotes: '{name[1:-1]}'")
    public = {column for column in have if not column.startswith("_")}
    hint = nearest(name, public | _measurable())
    if not hint.startswith("did you mean"):
        hint = nearest(name, public) + "; `tillage ops text_stats` lists what can be measured"
    return Finding("missing_column", step, message, hint)


def _measurable() -> set[str]:
    """Columns that an operator can ask to be measured, for hints."""
    annotations = (cls.example() for _, cls in operators if issubclass(cls, Annotate))
    return {name for op in annotations for name in op.writes()}


def _apply(op: Operator, frame: DataFrame) -> DataFrame:
    if not isinstance(op, Corpus):
        return op.apply(frame)
    if op.keys():
        frame.with_columns(op.keys()).schema()
    # Without a fit there is nothing to apply: the declared columns stand in for the result.
    made = {name: daft.lit(None).cast(DataType.from_arrow_type(kind)) for name, kind in op.writes().items()}
    return frame.with_columns(made) if made else frame


def _check_columns(op: Operator, step: str, before: DataFrame, after: DataFrame) -> list[Finding]:
    schema = after.schema().to_pyarrow_schema()
    lost = [name for name in before.column_names if name not in schema.names]
    if lost:
        return [Finding("lost_column", step, f"loses column {lost[0]!r}")]
    made = [name for name in schema.names if name not in before.column_names and not name.startswith("_")]
    strange = [name for name in made if name not in op.writes()]
    if strange:
        return [Finding("undeclared_column", step, f"makes column {strange[0]!r} without declaring it")]
    for name, kind in op.writes().items():
        if name not in schema.names:
            return [Finding("missing_column", step, f"declares column {name!r} and does not make it")]
        if _plain(schema.field(name).type) != _plain(kind):
            got = schema.field(name).type
            return [Finding("wrong_type", step, f"makes column {name!r} as {got}, declares {kind}")]
    if isinstance(op, Corpus):
        public = sorted(name for name in list(op.keys()) if not name.startswith("_"))
        if public:
            return [Finding("keys_not_private", step, f"key {public[0]!r} does not begin with '_'")]
    return []


def _check_expressions(op: Operator, step: str, frame: DataFrame) -> list[Finding]:
    for reason, expression in op.reasons().items():
        kind = _kind(frame, expression)
        if not kind.is_boolean():
            return [Finding("not_boolean", step, f"reason {reason!r} is {kind}, not a condition")]
    return []


def _kind(frame: DataFrame, expression: Expression) -> DataType:
    return frame.select(expression.alias("reason")).schema()["reason"].dtype


def _plain(kind: pa.DataType) -> pa.DataType:
    """Daft has one string and one binary type, and lists of one kind."""
    if pa.types.is_string(kind):
        return pa.large_string()
    if pa.types.is_binary(kind):
        return pa.large_binary()
    if pa.types.is_list(kind):
        return pa.large_list(_plain(kind.value_type))
    return pa.large_list(_plain(kind.value_type)) if pa.types.is_large_list(kind) else kind


def _said(error: DaftCoreException) -> str:
    """The last thing that Daft says is the cause; what comes before wraps it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    kept = [line for line in lines if "DaftError::" in line] or lines
    return kept[-1].split("DaftError::")[-1].split("1: ")[-1]
