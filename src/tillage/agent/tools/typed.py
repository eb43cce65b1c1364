"""The workbench as a language model's tools: JSON schemas from types and specs, results as fenced data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import BaseModel, Field
from pydantic_ai import Tool

from tillage.agent.fence import fenced
from tillage.agent.synthesis import Kind
from tillage.agent.tools.bench import MOST_ROWS, Bench
from tillage.agent.tools.drafts import StepDraft

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,40}$", description="a recipe's name")]
Count = Annotated[int, Field(ge=1, le=MOST_ROWS)]


class Finish(BaseModel):
    """End planning and hand on the recipes named, the best first. Recipes that do not hold are left out."""

    recipes: list[str] = Field(min_length=1, max_length=8)
    why: str = Field(max_length=1000)


def tools(bench: Bench, rows: bool = True) -> list[Tool[object]]:
    """The tools of one session. They are fixed here, before any row is read, and none of them takes a path,
    a command or a URL.

    Args:
        rows: whether texts of rows may be shown; without it two tools are left out.
    """

    def profile() -> str:
        """The goal, and what was measured on a sample of the raw data."""
        return fenced(bench.facts())

    def sample_rows(count: Count = 3, domain: str = "") -> str:
        """Some raw rows of the sample, of one domain if one is named."""
        return fenced(bench.sample_rows(count, domain))

    def search_operators(words: str) -> str:
        """Search the catalogue of operators by words; with no words it lists the first ones."""
        return fenced(bench.search_operators(words))

    def describe_operator(name: str) -> str:
        """The parameters of an operator, the columns that it writes and its reasons for dropping."""
        return fenced(bench.describe_operator(name))

    def propose_recipe(name: Name, summary: str, steps: list[StepDraft]) -> str:
        """Propose a recipe, or replace the one of that name. Says what is wrong with its contract."""
        return fenced(bench.propose(name, summary, steps))

    def check_recipe(name: Name) -> str:
        """What is wrong with the contract of a proposed recipe."""
        return fenced(bench.check(name))

    def run_on_sample(name: Name) -> str:
        """Run a proposed recipe on the sample and say what is wrong with what it does."""
        return fenced(bench.run_on_sample(name))

    def read_accounts(name: Name) -> str:
        """Rows and bytes in and out of each step of a recipe on the sample, and reasons for dropping."""
        return fenced(bench.accounts(name))

    def read_dropped_rows(name: Name, step: str, count: Count = 3) -> str:
        """Some rows that one step of a recipe drops on the sample, with their reasons."""
        return fenced(bench.dropped_rows(name, step, count))

    def measure_effect(name: Name) -> str:
        """What a recipe does to a small model's loss on the target, against the raw rows. Few are allowed."""
        return fenced(bench.measure_effect(name))

    def synthesise_operator(need: Annotated[str, Field(max_length=500)], kind: Kind) -> str:
        """Have an operator written and tested for a need that no operator of the catalogue meets."""
        return fenced(bench.synthesise(need, kind))

    deeds: list[Callable[..., str]] = [profile, search_operators, describe_operator, propose_recipe]
    deeds += [check_recipe, run_on_sample, read_accounts, measure_effect]
    deeds += [sample_rows, read_dropped_rows] if rows else []
    deeds += [synthesise_operator] if bench.synthesiser is not None else []
    # One after the other: they share the bench, and the engine underneath uses all cores anyway.
    return [Tool[object](deed, takes_ctx=False, sequential=True) for deed in deeds]


Access = Literal["read", "sample", "code"]
ACCESS: dict[str, Access] = {
    "profile": "read",
    "search_operators": "read",
    "describe_operator": "read",
    "check_recipe": "read",
    "propose_recipe": "read",
    "sample_rows": "sample",
    "run_on_sample": "sample",
    "read_accounts": "sample",
    "read_dropped_rows": "sample",
    "measure_effect": "sample",
    "synthesise_operator": "code",
}
"""What each tool touches: what is measured already, the sample in the workspace, or the sandbox."""
