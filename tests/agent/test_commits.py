"""The history of a recipe: every change is kept, and undo walks back through all of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tillage.agent.commits import RecipeHistory
from tillage.core.errors import UserError
from tillage.core.workspace import Workspace


@pytest.fixture
def history(tmp_path: Path) -> RecipeHistory:
    return RecipeHistory(tmp_path / "recipe.yaml", Workspace(tmp_path / "workspace"))


def test_undo_walks_back_to_before_the_first_version(history: RecipeHistory) -> None:
    for number in (1, 2, 3):
        assert history.commit(f"version: {number}\n", "embedded", f"reason {number}") is not None
    assert history.commit("version: 3\n", "embedded", "again") is None
    seen = [history.path.read_text()]
    for _ in range(2):
        history.undo()
        seen.append(history.path.read_text())
    assert seen == ["version: 3\n", "version: 2\n", "version: 1\n"]
    gone = history.undo()
    assert gone.text is None
    assert not history.path.exists()
    with pytest.raises(UserError, match="no change to undo"):
        history.undo()
    assert [c.kind for c in history.all()] == ["change"] * 3 + ["undo"] * 3
    assert "-version: 2\n+version: 1" in history.all()[4].diff


def test_a_persons_versions_are_never_lost(history: RecipeHistory) -> None:
    history.path.write_text("mine: before\n")
    history.commit("agent: one\n", "embedded", "better")
    history.path.write_text("agent: one\nmine: after\n")
    history.commit("agent: two\n", "embedded", "better still")
    assert [c.author for c in history.all()] == ["person", "embedded", "person", "embedded"]
    for expected in ("agent: one\nmine: after\n", "agent: one\n", "mine: before\n"):
        history.undo()
        assert history.path.read_text() == expected
    with pytest.raises(UserError, match="no change to undo"):
        history.undo()


def test_after_an_undo_the_next_change_goes_on_from_there(history: RecipeHistory) -> None:
    history.commit("a: 1\n", "embedded", "first")
    history.commit("a: 2\n", "embedded", "second")
    history.undo()
    history.commit("a: 3\n", "embedded", "third")
    history.undo()
    assert history.path.read_text() == "a: 1\n"


def test_a_damaged_history_is_told_and_a_cut_line_is_left_out(history: RecipeHistory) -> None:
    history.commit("a: 1\n", "embedded", "first")
    whole = history.log.read_text()
    history.log.write_text(whole + whole[:20])
    assert len(history.all()) == 1
    history.log.write_text("nonsense\n")
    with pytest.raises(UserError, match="damaged"):
        history.all()
