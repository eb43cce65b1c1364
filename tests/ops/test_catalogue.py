"""The catalogue says what the operators are, and the reference page says what the catalogue says."""

import json
from pathlib import Path

import pytest
from pydantic import Field

from tillage.ops import operators
from tillage.ops.base import Filter
from tillage.ops.catalogue import catalogue, describe, to_markdown, tool_schema

PAGE = Path(__file__).parents[2] / "docs" / "operators.md"


def test_page_is_current():
    pytest.importorskip("pydantic_monty", reason="the page lists the sandboxed operator as well")
    assert PAGE.read_text(encoding="utf-8") == to_markdown(), (
        "run python -m tillage.ops.catalogue > docs/operators.md"
    )


def test_every_operator_is_described_whole():
    everything = catalogue()
    assert [about["name"] for about in everything] == operators.names()
    json.dumps(everything)
    for about in everything:
        assert about["description"].endswith("."), about["name"]
        assert about["kind"] in ("annotate", "filter", "map", "corpus", "generate")
        assert all(parameter["description"] for parameter in about["parameters"]), about["name"]
        public = {c for c in about["writes"] if not c.startswith("_")} - {"text"}
        if operators.get(about["name"]).__module__.startswith("tillage."):
            assert public <= about["meanings"].keys(), about["name"]
        if about["kind"] == "filter":
            assert about["reasons"], about["name"]


def test_describe():
    about = describe(operators.get("gopher_quality"))
    assert about["parameters"][0] == {
        "name": "min_words",
        "type": "integer",
        "required": False,
        "default": 50,
        "description": "fewest words that are not signs alone",
    }
    assert "proper_words" in about["requires"]
    assert "too_few_words" in about["reasons"]
    types = {p["name"]: p["type"] for p in describe(operators.get("minhash_dedup"))["parameters"]}
    assert types["keep"] == "'first' or 'longest' or 'best'"
    assert describe(operators.get("where"))["parameters"][0]["required"]


def test_an_operator_without_an_example_is_described_without_its_columns():
    class Needs(Filter):
        """Need a limit.

        At length.
        """

        limit: int | None
        names: dict[str, int] = Field(default_factory=dict)

        def reasons(self):
            raise AssertionError

    about = describe(Needs)
    assert about["details"] == "At length."
    assert about["reasons"] == []
    assert [p["type"] for p in about["parameters"]] == ["integer or none", "text to integer"]


def test_tool_schema_is_a_json_schema_of_the_parameters():
    tool = tool_schema(operators.get("sample"))
    assert tool["name"] == "sample"
    assert tool["parameters"]["required"] == ["fraction"]
    assert tool["parameters"]["additionalProperties"] is False
