"""Goals: reading, freezing, the holdout's single verdict."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tillage.agent.goal import FrozenGoal, Goal, freeze
from tillage.core.errors import UserError

YAML = """
name: docs
task: a small model good at documentation
sources:
  - jsonl: {path: raw/*.jsonl, domain: prose}
target: {path: target.jsonl, group_field: package}
budget: {minutes: 2}
seed: 3
"""


@pytest.fixture
def goal(tmp_path: Path) -> Goal:
    rows = [
        {"text": f"document {i} of package {i % 9} " + "word " * (i % 5 * 10), "package": f"p{i % 9}"}
        for i in range(90)
    ]
    (tmp_path / "target.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    (tmp_path / "GOAL.yaml").write_text(YAML)
    return Goal.from_yaml(tmp_path / "GOAL.yaml")


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_paths_are_relative_to_the_goal(goal: Goal, tmp_path: Path) -> None:
    assert goal.target is not None
    assert goal.target.path == (str(tmp_path / "target.jsonl"),)
    assert goal.sources[0]["jsonl"] == {"path": str(tmp_path / "raw/*.jsonl"), "domain": "prose"}
    assert goal.budget.minutes == 2


def test_groups_are_never_torn(goal: Goal, tmp_path: Path) -> None:
    frozen = freeze(goal, tmp_path / "frozen")
    search = rows(tmp_path / "frozen/search.jsonl")
    holdout = rows(tmp_path / "frozen/holdout.jsonl")
    assert len(search) + len(holdout) == 90
    assert not {r["group"] for r in search} & {r["group"] for r in holdout}
    sizes = [sum(len(r["text"]) for r in part) for part in (search, holdout)]
    assert 0.3 < sizes[0] / sum(sizes) < 0.7
    assert frozen.search() == [r["text"] for r in search]


def test_freezing_again_is_the_same_and_another_goal_is_refused(goal: Goal, tmp_path: Path) -> None:
    first = freeze(goal, tmp_path / "a").search()
    assert freeze(goal, tmp_path / "a").search() == first == freeze(goal, tmp_path / "b").search()
    with pytest.raises(UserError, match="another goal"):
        freeze(goal.model_copy(update={"seed": 4}), tmp_path / "a")


def test_one_verdict_a_round(goal: Goal, tmp_path: Path) -> None:
    frozen = freeze(goal, tmp_path / "f")
    texts = frozen.holdout(1, "recipe-a")
    assert frozen.holdout(1, "recipe-a") == texts  # the same verdict, repeated after a crash
    with pytest.raises(UserError, match="already read"):
        frozen.holdout(1, "recipe-b")
    assert FrozenGoal.open(tmp_path / "f").holdout(2, "recipe-b") == texts
    assert len(rows(tmp_path / "f/reads.jsonl")) == 3
    assert not set(texts) & set(frozen.search())


def test_tampering_is_noticed(goal: Goal, tmp_path: Path) -> None:
    freeze(goal, tmp_path / "f")
    with (tmp_path / "f/holdout.jsonl").open("a") as out:
        out.write('{"text": "more", "group": "x"}\n')
    with pytest.raises(UserError, match="changed"):
        FrozenGoal.open(tmp_path / "f")
    with pytest.raises(UserError, match="no frozen goal"):
        FrozenGoal.open(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("yaml_text", "match"),
    [
        ("name: a\ntask: b\nsorces: []\n", "did you mean 'sources'|missing field"),
        ("[", "not valid YAML"),
        ("name: a\ntask: b\nsources:\n  - jsnol: {path: x}\n", "did you mean 'jsonl'"),
        ("name: a\ntask: b\nsources:\n  - jsonl: {pth: x}\n", "did you mean 'path'"),
        ("- 1\n", "mapping"),
        ("name: a\ntask: b\nsources: [{jsonl: {path: x}}]\nbudget: {minute: 3}\n", "did you mean 'minutes'"),
    ],
)
def test_wrong_goals(yaml_text: str, match: str, tmp_path: Path) -> None:
    path = tmp_path / "GOAL.yaml"
    path.write_text(yaml_text)
    with pytest.raises(UserError) as raised:
        Goal.from_yaml(path)
    assert re.search(match, str(raised.value))
    assert str(path) in str(raised.value)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ('{"text": 5, "package": "p"}\n', "no text in 'text'"),
        ('{"text": "a"}\n', "no 'package'"),
        ('{"text": "a"', "(?s)is not JSON.*target.jsonl:1"),
        ("", "no text"),
        ('{"text": "a", "package": "p"}\n', "cannot be split"),
    ],
)
def test_wrong_targets(content: str, match: str, goal: Goal, tmp_path: Path) -> None:
    (tmp_path / "target.jsonl").write_text(content)
    with pytest.raises(UserError, match=match):
        freeze(goal, tmp_path / "f")


def test_target_forms(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one text")
    (tmp_path / "b.md").write_text("another text")
    goal = Goal(
        name="g",
        task="t",
        sources=({"jsonl": {"path": "x"}},),
        target={"path": [str(tmp_path / "*.txt"), str(tmp_path / "b.md")]},  # type: ignore[arg-type]
    )
    frozen = freeze(goal, tmp_path / "f")
    assert sorted(frozen.search() + frozen.holdout(1, "v")) == ["another text", "one text"]
    missing = goal.model_copy(update={"target": goal.target.model_copy(update={"path": ("/no/x.txt",)})})  # type: ignore[union-attr]
    with pytest.raises(UserError, match="cannot read"):
        freeze(missing, tmp_path / "g")
