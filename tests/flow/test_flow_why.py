"""A row's life, the runs of a workspace, and two runs side by side."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tillage.core.errors import UserError
from tillage.core.workspace import Workspace
from tillage.data.rows import row_id
from tillage.flow.diff import diff
from tillage.flow.history import find, read_record, runs
from tillage.flow.recipe import Recipe
from tillage.flow.run import RunResult, run, sample_run
from tillage.flow.why import why

YAML = """
name: tiny
max_quarantine: 0.5
sources: [{jsonl: {path: raw/*.jsonl, domain: prose}}]
steps:
- where: {keep: words > 2}
  id: long
- exact_dedup
- where: {keep: "domain = 'prose'"}
"""
LINES = ["one two three", "short", "one two three", "{", "four five six seven"]


def make(tmp_path: Path, yaml: str = YAML) -> tuple[Workspace, RunResult]:
    raw = tmp_path / "raw"
    raw.mkdir(exist_ok=True)
    lines = [line if line == "{" else json.dumps({"text": line}) for line in LINES]
    if not (raw / "a.jsonl").exists():
        (raw / "a.jsonl").write_text("\n".join(lines) + "\n")
    workspace = Workspace.default(tmp_path / "home")
    return workspace, run(Recipe.from_yaml(yaml, tmp_path), workspace)


def told(workspace: Workspace, line: int) -> list[tuple[str, str, str]]:
    return [(f.step, f.outcome, f.detail) for f in why(row_id("a.jsonl", line), workspace)]


def test_each_row_can_tell_its_life(tmp_path: Path) -> None:
    workspace, result = make(tmp_path)
    place = tmp_path / "raw" / "a.jsonl"
    assert told(workspace, 1) == [
        ("read", "read", f"{place}, line 1"),
        ("long", "passed", ""),
        ("exact_dedup", "passed", ""),
        ("where_2", "passed", ""),
        ("dataset", "kept", f"{tmp_path / 'home' / 'datasets' / 'tiny'}, version 0"),
    ]
    assert told(workspace, 2)[1:] == [
        ("long", "dropped", "where"),
        ("exact_dedup", "not reached", ""),
        ("where_2", "not reached", ""),
    ]
    assert told(workspace, 3)[2] == ("exact_dedup", "dropped", "duplicate")
    (bad,) = told(workspace, 4)
    assert bad[:2] == ("read", "quarantined")
    assert bad[2].startswith(f"{place}, line 4: malformed_json: a.jsonl:4: ")
    facts = why(row_id("a.jsonl", 3), workspace, result.run)
    assert facts[1].values == {"words": 3}
    assert facts[2].values["duplicate_of"] == row_id("a.jsonl", 1)
    assert str(facts[1]) == "long: passed — words=3"


def test_the_beginning_of_an_id_is_enough_if_it_is_one_rows(tmp_path: Path) -> None:
    workspace, _ = make(tmp_path)
    id = row_id("a.jsonl", 1)
    assert why(id[:12], workspace) == why(id, workspace)
    with pytest.raises(UserError, match="several rows' ids begin"):
        why("", workspace)
    with pytest.raises(UserError, match="no row 'zz'"):
        why("zz", workspace)


def test_runs_are_listed_newest_first_without_samples(tmp_path: Path) -> None:
    workspace, one = make(tmp_path)
    _, two = make(tmp_path, YAML.replace("words > 2", "words > 3"))
    sample = sample_run(Recipe.from_yaml(YAML, tmp_path), workspace, None, 3)
    (workspace.runs / "other-verb").mkdir()
    (workspace.runs / "other-verb" / "run.json").write_text("{}")
    assert [record.run for record in runs(workspace)] == [two.run, one.run]
    assert {record.kind for record in runs(workspace, samples=True)} == {"run", "sample"}
    record = find(one.run, workspace)
    assert (record.status, record.rows, record.digest, record.dataset) == (
        "done",
        2,
        one.digest,
        one.dataset,
    )
    assert record.accounts == one.accounts
    assert (record.kept, record.dropped) == (one.kept, one.dropped)
    assert find(sample.run, workspace).kind == "sample"


def test_an_unknown_run_names_the_nearest(tmp_path: Path) -> None:
    workspace, one = make(tmp_path)
    assert find(one.run[:-2], workspace).run == one.run
    with pytest.raises(UserError, match=f"did you mean '{one.run}'"):
        find(one.run.replace("tiny", "tine"), workspace)
    _, two = make(tmp_path, YAML.replace("words > 2", "words > 3"))
    with pytest.raises(UserError, match=f"(?s)several runs begin.*the newest is {two.run}"):
        find("tiny", workspace)


def test_a_run_whose_process_is_gone_is_interrupted(tmp_path: Path) -> None:
    _, one = make(tmp_path)
    path = one.folder / "run.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "status": "running", "pid": 2**22 + 1}))
    assert read_record(one.folder).status == "interrupted"


def test_two_runs_side_by_side(tmp_path: Path) -> None:
    workspace, one = make(tmp_path)
    changed = YAML.replace("words > 2", "words > 3").replace("- exact_dedup\n", "- sample: {fraction: 1.0}\n")
    _, two = make(tmp_path, changed)
    found = diff(one.run, two.run, workspace)
    assert "-    keep: words > 2" in found.recipe
    assert "+    keep: words > 3" in found.recipe
    assert [step.step for step in found.steps] == ["read", "long", "sample", "exact_dedup", "where_2"]
    long = found.steps[1]
    assert long.a is not None
    assert long.b is not None
    assert (long.a.dropped, long.b.dropped) == ({"where": 1}, {"where": 3})
    assert (found.steps[2].a, found.steps[3].b) == (None, None)
    assert (found.only_a, found.only_b, found.both, found.same_digest) == (1, 0, 1, False)
    same = diff(one.run, one.run, workspace)
    assert (same.recipe, same.both, same.same_digest) == ([], 2, True)
