"""Every code that a finding can have is known here with its repair, so that a new one cannot be forgotten."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import get_args

import pytest
from agent_world import World

import tillage.agent
from tillage.agent.findings import AgentCode, Finding, FindingCode
from tillage.agent.repair import REPAIRS, repair
from tillage.flow.check import Code
from tillage.flow.recipe import Recipe

OWN = {"order", "contaminated", "no_input", "budget_spent"}
"""Repairs of their own; for all others the step at fault goes, or a bound of it is loosened."""

STEP = sorted({*REPAIRS} - OWN)


def codes() -> set[str]:
    """Codes of the types, and the second argument of every `Finding(...)` of the agent."""
    found = {*get_args(Code), *get_args(AgentCode)}
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


def test_every_code_has_a_repair() -> None:
    assert codes() == {*REPAIRS}


@pytest.mark.parametrize("code", STEP)
def test_a_step_at_fault_is_edited_with_reason_and_diff(world: World, code: FindingCode) -> None:
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
    less = repair(recipe(world), Finding("effect", "budget_spent", "", "0 left"), world.frozen)
    assert less is not None
    assert [step.id for step in less.recipe.steps] == ["exact_dedup"]
    assert "left out bound" in less.why
