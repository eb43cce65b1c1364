"""Every code that a finding can have is known here with its repair, so that a new one cannot be forgotten."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import get_args

import pytest
from agent_world import World

import tillage.agent
from tillage.agent.findings import Finding
from tillage.agent.repair import repair
from tillage.flow.check import Code
from tillage.flow.recipe import Recipe

STEP = {
    "invalid_parameter", "missing_column", "wrong_type", "reserved_column", "lost_column",
    "undeclared_column", "keys_not_private", "bad_expression", "not_boolean", "forbidden_operator",
    "unknown_operator", "run_failed", "accounts_unbalanced", "changes_nothing", "harmful",
    "drops_everything", "retention_low", "away_from_target",
}  # fmt: skip
"""The step at fault goes, or a bound of it is loosened."""

OWN = {"order", "contaminated", "no_input"}
UNREPAIRED = {"budget_spent"}


def codes() -> set[str]:
    """Codes of the contract's type, and the second argument of every `Finding(...)` of the agent."""
    found = set(get_args(Code))
    for path in Path(tillage.agent.__path__[0]).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            named = (
                isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Finding"
            )
            if named and len(node.args) > 1 and isinstance(node.args[1], ast.Constant):
                found.add(str(node.args[1].value))
    return found


def recipe(world: World) -> Recipe:
    dedup = {"exact_dedup": {}, "why": "test"}
    return world.proposal("any", dedup, {"where": {"keep": "words > 5"}, "id": "bound", "why": "test"}).recipe


def test_every_code_is_known() -> None:
    assert codes() == STEP | OWN | UNREPAIRED


@pytest.mark.parametrize("code", sorted(STEP))
def test_a_step_at_fault_is_edited_with_reason_and_diff(world: World, code: str) -> None:
    before = recipe(world)
    mended = repair(before, Finding("sample", code, "bound", "42 rows"), world.frozen)
    assert mended is not None
    assert [step.id for step in mended.recipe.steps] == ["exact_dedup"]
    assert "42 rows" in mended.why
    assert "-- where" in mended.diff


def test_the_others_have_repairs_of_their_own(world: World, tmp_path: Path) -> None:
    leak = repair(recipe(world), Finding("distribution", "contaminated", "", "a leak"), world.frozen)
    assert leak is not None
    assert "+- decontaminate" in leak.diff
    likeness = {"target_likeness": {"target": str(world.frozen.search_path)}, "why": "test"}
    late = world.proposal("late", {"where": {"keep": "target_score > 0.1"}, "why": "test"}, likeness).recipe
    moved = repair(late, Finding("contract", "order", "where", "read before made"), world.frozen)
    assert moved is not None
    assert [step.op.name for step in moved.recipe.steps] == ["target_likeness", "where"]
    known = recipe(world).to_dict()
    known["sources"].append({"jsonl": {"path": str(tmp_path / "none.jsonl")}})
    two = Recipe.from_dict(known)
    read = repair(two, Finding("contract", "no_input", "", "no file"), world.frozen)
    assert read is not None
    assert len(read.recipe.sources) == 1
    assert repair(read.recipe, Finding("contract", "no_input", "", "no file"), world.frozen) is None
    assert repair(two, Finding("effect", "budget_spent", "", "0 left"), world.frozen) is None
