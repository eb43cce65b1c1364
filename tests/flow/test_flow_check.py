"""The contract: each kind of finding has a recipe that causes it; good recipes have none."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from daft import DataFrame, Expression, col, lit
from flow_rows import Chars, First, Short, Strip, home, recipe, run_quietly, write_raw

from tillage.core.errors import UserError
from tillage.flow.check import CODES, Code, check
from tillage.ops.base import Annotate, Corpus, Filter, Map, Operator
from tillage.ops.where import Where


class Reads(Filter):
    """Reads what is not there."""

    name = "reads"
    column: str = "char"

    def reads(self) -> frozenset[str]:
        return frozenset({self.column})

    def reasons(self) -> dict[str, Expression]:
        return {"none": col(self.column).is_null()}


class Undeclared(Annotate):
    """Makes a column that it does not declare."""

    name = "undeclared"

    def columns(self) -> dict[str, Expression]:
        return {"secret": lit(1)}


class Mistyped(Annotate):
    """Declares text and makes a number."""

    name = "mistyped"

    def writes(self) -> dict[str, pa.DataType]:
        return {"number": pa.large_string()}

    def columns(self) -> dict[str, Expression]:
        return {"number": col("line")}


class Absent(Mistyped):
    """Declares a column and makes none."""

    name = "absent"

    def apply(self, frame: DataFrame, artifact: Path | None = None) -> DataFrame:
        return frame


class Reserved(Annotate):
    """Overwrites the id."""

    name = "reserved"

    def writes(self) -> dict[str, pa.DataType]:
        return {"id": pa.large_string()}

    def columns(self) -> dict[str, Expression]:
        return {"id": lit("me")}


class Loses(Map):
    """Loses a column."""

    name = "loses"

    def apply(self, frame: DataFrame, artifact: Path | None = None) -> DataFrame:
        return frame.exclude("domain")


class NotBoolean(Filter):
    """A reason that is a number."""

    name = "not_boolean"

    def reasons(self) -> dict[str, Expression]:
        return {"number": col("line") + 1}


class BadExpression(Filter):
    """Compares text with a number."""

    name = "bad_expression"

    def reasons(self) -> dict[str, Expression]:
        return {"more": col("text") > 3}


class PublicKey(Corpus):
    """A key that would end up in the dataset."""

    name = "public_key"

    def keys(self) -> dict[str, Expression]:
        return {"key": col("text")}


CASES: list[tuple[Code, Operator, str, str]] = [
    ("missing_column", Reads(column="sourc"), "reads column 'sourc'", "did you mean 'source'?"),
    ("missing_column", Where(keep="stars > 3"), "'stars'", ""),
    ("missing_column", Where(keep="wrds > 3"), "'wrds'", "did you mean 'words'?"),
    ("missing_column", Where(keep='domain = "en"'), "'\"en\"'", "text stands in single quotes: 'en'"),
    ("missing_column", Where(keep="zzzz > 3"), "'zzzz'", "valid: domain, id, line"),
    ("missing_column", Absent(), "declares column 'number'", ""),
    ("undeclared_column", Undeclared(), "makes column 'secret'", ""),
    ("wrong_type", Mistyped(), "makes column 'number' as int64, declares large_string", ""),
    ("reserved_column", Reserved(), "reserved column 'id'", ""),
    ("lost_column", Loses(), "loses column 'domain'", ""),
    ("not_boolean", NotBoolean(), "reason 'number' is Int64", ""),
    ("bad_expression", BadExpression(), "Cannot perform comparison", ""),
    ("invalid_parameter", Where(keep="domain + 1"), "is not a condition", ""),
    ("keys_not_private", PublicKey(), "key 'key' does not begin with '_'", ""),
]


@pytest.mark.parametrize(("code", "op", "said", "hint"), CASES, ids=[f"{c}-{o.name}" for c, o, _, _ in CASES])
def test_a_broken_contract_has_its_finding(code: Code, op: Operator, said: str, hint: str) -> None:
    findings = check(recipe(Path("none"), op), inputs=False)
    assert [(finding.code, finding.step) for finding in findings] == [(code, op.name)]
    assert said in findings[0].message
    assert hint in findings[0].hint


def test_order_is_found_and_the_hint_says_what_to_move() -> None:
    findings = check(recipe(Path("none"), Reads(column="copy_first"), First()), inputs=False)
    assert [(finding.code, finding.step) for finding in findings] == [("order", "reads")]
    assert findings[0].hint == "move first before reads"


def test_files_that_do_not_exist_are_found(tmp_path: Path) -> None:
    findings = check(recipe(tmp_path / "*.jsonl", Short()))
    assert [finding.code for finding in findings] == ["no_input"]
    assert str(tmp_path / "*.jsonl") in findings[0].message


def test_every_code_has_a_case_here() -> None:
    assert {code for code, *_ in CASES} | {"order", "no_input"} == set(CODES)


def test_one_fault_is_told_once() -> None:
    what = recipe(Path("none"), Mistyped(), Reads(column="number"), Short())
    assert [finding.code for finding in check(what, inputs=False)] == ["wrong_type"]


@pytest.mark.parametrize(
    "ops",
    [(), (Short(),), (Chars(), Short(), Strip(), Short(least=2), First(), Where(keep="n > 3 and chars > 1"))],
)
def test_a_contract_that_holds_has_no_findings(ops: tuple[Operator, ...]) -> None:
    assert check(recipe(Path("none"), *ops), inputs=False) == []


def test_a_run_refuses_a_recipe_whose_contract_does_not_hold(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw")
    with pytest.raises(UserError, match="contract of the recipe does not hold") as caught:
        run_quietly(recipe(raw, Short(), Reads(), Mistyped()), home(tmp_path))
    said = str(caught.value)
    assert "did you mean 'chars'?" in said
    assert "also: step mistyped" in said
