"""A person in the loop: yes, no and edit; undo; questions about a run."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest
from cli_project import Tillage

from tillage.cli import review
from tillage.flow.recipe import Recipe

PLAN = ("plan", "goal.yaml", "-o", "best.yaml", "--top", "contract", "--json")


class Typed(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def typing(monkeypatch: pytest.MonkeyPatch):
    def type_(text: str) -> None:
        monkeypatch.setattr(sys, "stdin", Typed(text))
        monkeypatch.setattr("tillage.cli.verbs.plan.asked", lambda: True)

    return type_


def test_no_writes_nothing_and_yes_writes(fresh: Path, tillage: Tillage, typing) -> None:
    typing("no\n")
    done = tillage(*PLAN)
    assert done.code == 1
    assert done.last["accepted"] is False
    assert not Path("best.yaml").exists()
    assert review.QUESTION in done.err
    typing("what?\nyes\n")
    done = tillage(*PLAN)
    assert done.code == 0
    assert "yes writes it" in done.err
    recipe = Recipe.from_yaml(Path("best.yaml"))
    for step in recipe.steps:
        assert step.why in done.err.replace("\n", " ") or step.why[:40] in done.err
    typing("")  # the end of input is a no
    assert tillage(*PLAN).code == 1


def test_edit_opens_the_editor_until_it_holds(
    fresh: Path,
    tillage: Tillage,
    typing,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    script = fresh / "editor.py"
    script.write_text(
        "import sys, pathlib\np = pathlib.Path(sys.argv[1])\nn = pathlib.Path('turn')\n"
        "first = not n.exists()\nn.touch()\n"
        "p.write_text(p.read_text() + ('- no_such_operator: {}\\n' if first else ''))\n"
        "if not first:\n    p.write_text(p.read_text().replace('name: farm', 'name: mine'))\n"
    )
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("EDITOR", f"{sys.executable} {script}")
    typing("edit\nedit\nyes\n")
    done = tillage(*PLAN)
    assert done.code == 0, done.err
    assert Recipe.from_yaml(Path("best.yaml")).name.startswith("mine")
    versions = tillage("undo", "best.yaml", "--list", "--json").last["versions"]
    assert (versions[-1]["author"], versions[-1]["why"]) == ("person", "edited before it was accepted")
    monkeypatch.setenv("EDITOR", "/no/such/editor")
    typing("edit\nno\n")
    assert "the editor does not start" in tillage(*PLAN).err


def test_without_a_terminal_it_is_written_and_said(fresh: Path, tillage: Tillage) -> None:
    done = tillage(*PLAN[:-1])
    assert done.code == 0
    assert "nobody was asked" in done.out
    assert "nobody was asked" not in tillage(*PLAN[:-1], "--yes").out
    done = tillage("undo", "best.yaml")
    assert done.code == 0
    assert not Path("best.yaml").exists()
    assert tillage("undo", "best.yaml").code == 2
    assert tillage("undo", "recipe.yaml").code == 2


def test_questions_about_a_run(project: Path, tillage: Tillage) -> None:
    run = next(r["run"] for r in tillage("runs", "--json").last["runs"] if r["rows"] == 60)
    told = tillage("ask", run, 'why was "too short 3" dropped?', "--json").last
    assert "dropped by long" in told["text"]
    assert "words = 3" in told["text"]
    assert "short rows carry little" in told["text"]
    (row,) = told["rows"]
    assert row in told["text"]
    assert row in tillage("ask", run, f"what happened to {row[:12]}?").out
    assert tillage("ask", run, "what happened to short.jsonl:4?", "--json").last["rows"] == [row]
    counted = tillage("ask", run, "how many rows did exact_dedup drop?", "--json").last
    assert counted["text"].startswith("10 rows were dropped by exact_dedup")
    assert len(counted["rows"]) == 5
    assert "60 of 85 rows were kept" in tillage("ask", run, "how many rows were kept?").out
    assert "long dropped 15 rows" in tillage("ask", run, "which step dropped the most?").out
    assert "nothing was quarantined" in tillage("ask", run, "what was quarantined?").out
    assert "short rows carry little" in tillage("ask", run, "why is the step long there?").out
    done = tillage("ask", run, "is it raining?")
    assert done.code == 2
    assert "one of these" in done.err
    assert tillage("ask", run, 'why was "no such words" dropped?').code == 2
