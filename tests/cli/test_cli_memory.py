"""`tillage memory` lists, exports and forgets."""

from __future__ import annotations

from pathlib import Path

from cli_project import Tillage

from tillage.agent.memory import Experience, Memory
from tillage.agent.planners import memory
from tillage.core.workspace import Workspace


def test_memory_is_listed_exported_and_cleared(tmp_path: Path, tillage: Tillage) -> None:
    place = ["--workspace", tmp_path / "w", "--json"]
    assert tillage("memory", *place).last == {"experiences": []}
    held = memory(Workspace(tmp_path / "w"))
    for strategy in ("clean", "sound"):
        held.add(
            Experience(
                goal=f"docs-{strategy}", strategy=strategy, evidence={"markup": 0.1}, steps=("exact_dedup",),
                recipe={}, effect=-0.2, low=-0.3, high=-0.1,
            )
        )  # fmt: skip
    assert [e["strategy"] for e in tillage("memory", *place).last["experiences"]] == ["clean", "sound"]
    out = tmp_path / "out.jsonl"
    dry = tillage("memory", "--export", out, "--dry-run", *place)
    assert dry.code == 0
    assert not out.exists()
    assert tillage("memory", "--goal", "docs-s", "--export", out, *place).last["exported"] == 1
    assert [known.strategy for known in Memory(out).all()] == ["sound"]
    assert tillage("memory", "--clear", "--export", out, *place).code == 2
    assert tillage("memory", "--goal", "docs-clean", "--clear", *place).last == {"cleared": 1}
    assert tillage("memory", "--clear", *place).last == {"cleared": 1}
    assert held.all() == []
