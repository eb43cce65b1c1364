"""What the planner is compared with, and how a recipe becomes a prepared corpus."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.workflows.score import Key, Output

from tillage.agent.goal import FrozenGoal
from tillage.agent.planner import build
from tillage.core.workspace import Workspace
from tillage.flow.recipe import Recipe
from tillage.flow.run import run


def fineweb(frozen: FrozenGoal, language: str) -> Recipe:
    """The filters of FineWeb (Penedo et al. 2024, arXiv 2406.17557) with published bounds, in their order."""
    steps: list[dict[str, Any]] = [
        {"language_filter": {"keep": [language], "min_score": 0.65}},
        {"gopher_repetition": {}},
        {"gopher_quality": {}},
        {"c4_quality": {"braces": False, "min_sentences": 5}},
        {"fineweb_quality": {}},
        {"minhash_dedup": {"threshold": 0.75}},
        {"pii_mask": {"kinds": ["email", "ip"]}},
    ]
    return build(frozen, "fineweb", steps)


def prepare(recipe: Recipe, workspace: Workspace, commit: bool = True) -> dict[Key, Output]:
    """The rows that a full run keeps, by file and line.

    Raises:
        UserError, WorkFailed: the recipe is not valid, or its accounts do not balance.
    """
    table = run(recipe, workspace, None, commit=commit).kept_table(["source", "line", "text", "domain"])
    return {
        (Path(row["source"]).name, row["line"]): Output(row["text"] or "", row["domain"] or "")
        for row in table.to_pylist()
    }
