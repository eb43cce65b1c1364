"""Dataset versions: append, roll back, tag, compare, verify, clean; two runs at once."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import numpy as np
import pytest
from flow_rows import First, Short, Strip, home, recipe, run_quietly, write_raw
from hypothesis import given
from hypothesis import strategies as st
from test_flow_incremental import add_file, flip, steps

from tillage.core.errors import UserError
from tillage.core.events import EventLog
from tillage.core.lock import hold
from tillage.core.workspace import Workspace
from tillage.data.dataset import Dataset
from tillage.data.refs import names, open_ref, remove_tag, set_tag, tags
from tillage.flow.clean import clean, find_waste
from tillage.flow.run import LOCK, run, sample_run
from tillage.flow.versions import compare, distance
from tillage.kernels.digest import TableDigest


def digest(dataset: Dataset) -> str:
    total = TableDigest()
    for batch in dataset.batches():
        total.update(batch)
    return total.hexdigest()


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Workspace]:
    """A dataset of two versions: before and after a file came, and another changed and one went."""
    folder = tmp_path_factory.mktemp("grown")
    raw, workspace = write_raw(folder / "raw"), home(folder)
    what = recipe(raw, *steps())
    one, _ = run_quietly(what, workspace, shard_bytes=1)
    kept = one.kept_table(["source", "line"]).to_pylist()
    place = next(row["line"] for row in kept if row["source"] == "part-00050.jsonl") - 1
    add_file(raw, "part-99999.jsonl", [f"a row that is new, {i}" for i in range(20)])
    lines = (raw / "part-00050.jsonl").read_text().splitlines()
    row = json.loads(lines[place])
    lines[place] = json.dumps({**row, "text": "a row that is changed 1"})
    (raw / "part-00050.jsonl").write_text("\n".join(lines) + "\n")
    (raw / "part-00100.jsonl").unlink()
    run_quietly(what, workspace, shard_bytes=1)
    return raw, workspace


def test_a_comparison_says_what_plain_python_says(grown: tuple[Path, Workspace]) -> None:
    _, workspace = grown
    a, b = open_ref("test@0", workspace), open_ref("test@1", workspace)
    rows_a, rows_b = ({row["id"]: row for batch in d.batches() for row in batch.to_pylist()} for d in (a, b))
    found = compare(a, b)
    both = rows_a.keys() & rows_b.keys()
    changed = {id for id in both if rows_a[id] != rows_b[id]}
    assert (found.rows_a, found.rows_b) == (len(rows_a), len(rows_b))
    assert (found.only_a, found.only_b) == (len(rows_a.keys() - both), len(rows_b.keys() - both))
    assert found.changed == len(changed) == 1
    assert found.unchanged == len(both) - 1
    assert {kind: len(rows) for kind, rows in found.examples.items()} == {"in": 3, "out": 3, "changed": 1}
    (example,) = found.examples["changed"]
    assert example == {
        "id": example["id"],
        "a": rows_a[example["id"]]["text"],
        "b": "a row that is changed 1",
    }
    assert all(row["id"] in rows_b and row["id"] not in rows_a for row in found.examples["in"])
    assert found.domains == {"test": (len(rows_a), len(rows_b))}
    assert {shift.column for shift in found.shifts} >= {"bytes of text", "chars", "n"}
    assert [step.step for step in found.steps] == ["read", "short", "strip", "first"]
    assert found.recipe == []
    assert not found.same_digest


def test_a_version_compared_with_itself_has_not_moved(grown: tuple[Path, Workspace]) -> None:
    a = open_ref("test@1", grown[1])
    found = compare(a, a)
    assert (found.only_a, found.only_b, found.changed, found.unchanged) == (0, 0, 0, found.rows_a)
    assert all(shift.distance == 0 and shift.a == shift.b for shift in found.shifts)


@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=20), st.lists(st.integers(0, 9), min_size=1, max_size=20)
)
def test_the_distance_of_distributions_is_the_largest_gap(a: list[int], b: list[int]) -> None:
    gaps = [abs(sum(x <= t for x in a) / len(a) - sum(x <= t for x in b) / len(b)) for t in range(10)]
    assert distance(np.sort(np.array(a, float)), np.sort(np.array(b, float))) == pytest.approx(max(gaps))


def test_a_commit_keeps_the_files_that_stay(grown: tuple[Path, Workspace]) -> None:
    one, two = ({path.name for path in open_ref(f"test@{v}", grown[1]).files()} for v in (0, 1))
    assert len(one & two) >= 5
    assert one - two
    assert two - one


def test_rollback_makes_a_version_equal_to_an_old_one(tmp_path: Path) -> None:
    raw, workspace = write_raw(tmp_path / "raw"), home(tmp_path)
    one, _ = run_quietly(recipe(raw, *steps()), workspace)
    two, _ = run_quietly(recipe(raw, *steps(), Short(least=14)), workspace)
    dataset = open_ref("test", workspace)
    assert dataset.rollback(0) == 2
    newest = open_ref("test", workspace)
    assert digest(newest) == newest.lineage()["digest"] == one.digest != two.digest
    assert newest.lineage()["rolled_back"] == {"from": 1, "to": 0}
    assert digest(open_ref("test@1", workspace)) == two.digest
    with pytest.raises(UserError, match="newest version already"):
        dataset.rollback(2)
    again, _ = run_quietly(recipe(raw, *steps(), Short(least=14)), workspace)
    assert again.dataset == (two.dataset[0], 3)  # type: ignore[index]


def test_appending_adds_rows_and_refuses_those_that_are_there(tmp_path: Path) -> None:
    raw, workspace = write_raw(tmp_path / "raw"), home(tmp_path)
    more = tmp_path / "more"
    more.mkdir()
    add_file(more, "b.jsonl", [f"more of it and {i}" for i in range(9)])
    one, _ = run_quietly(recipe(raw, *steps()), workspace)
    two, _ = run_quietly(recipe(more, *steps()), workspace, commit="append")
    newest = open_ref("test", workspace)
    lineage = newest.lineage()
    assert (two.dataset[1], lineage["base"]) == (1, 0)  # type: ignore[index]
    assert digest(newest) == lineage["digest"] != one.digest
    assert newest.count() == lineage["rows"] == one.accounts[-1].rows_out + two.accounts[-1].rows_out
    again, _ = run_quietly(recipe(more, *steps()), workspace, commit="append")
    assert again.dataset == two.dataset
    add_file(more, "c.jsonl", ["another row"])
    with pytest.raises(UserError, match="holds already cannot be appended"):
        run_quietly(recipe(more, *steps()), workspace, commit="append")
    with pytest.raises(UserError, match="other columns cannot be appended"):
        run_quietly(recipe(more, Strip()), workspace, commit="append")
    assert [entry.version for entry in newest.history()] == [1, 0]


def test_tags_name_versions(tmp_path: Path) -> None:
    raw, workspace = write_raw(tmp_path / "raw"), home(tmp_path)
    run_quietly(recipe(raw, Short()), workspace)
    run_quietly(recipe(raw, Strip()), workspace)
    set_tag(open_ref("test@0", workspace), "gold")
    assert open_ref("test@gold", workspace).version == 0
    set_tag(open_ref("test", workspace), "gold")
    assert tags(workspace.datasets / "test") == {"gold": 1}
    assert names(workspace) == ["test"]
    for bad, match in (
        ("test@golf", "gold"),
        ("tost", "test"),
        ("test@", "no version"),
        ("test@9", "no such"),
    ):
        with pytest.raises(UserError, match=match):
            open_ref(bad, workspace)
    with pytest.raises(UserError, match="not a name for a tag"):
        set_tag(open_ref("test", workspace), "7")
    remove_tag(workspace.datasets / "test", "gold")
    with pytest.raises(UserError, match="no tag 'gold'"):
        remove_tag(workspace.datasets / "test", "gold")


def test_a_damaged_version_is_noticed_and_a_new_run_mends_it(tmp_path: Path) -> None:
    raw, workspace = write_raw(tmp_path / "raw"), home(tmp_path)
    what = recipe(raw, *steps())
    one, _ = run_quietly(what, workspace)
    dataset = open_ref("test", workspace)
    assert dataset.damage() == []
    (file,) = dataset.files()
    flip(file)
    assert dataset.damage() == [f"{file} is not what was written"]
    two, _ = run_quietly(what, workspace)
    newest = Dataset.open(*two.dataset)  # type: ignore[misc]
    assert newest.damage() == []
    assert digest(newest) == one.digest


def test_two_recipes_that_commit_to_one_dataset_at_once_come_one_after_the_other(tmp_path: Path) -> None:
    raw, workspace = write_raw(tmp_path / "raw"), home(tmp_path)
    recipes = [
        recipe(raw, Short(least=5 + i), name=f"r{i}", dataset="shared", max_quarantine=0.0) for i in range(3)
    ]
    digests: list[str] = []
    threads = [threading.Thread(target=lambda r=r: digests.append(run(r, workspace).digest)) for r in recipes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    history = open_ref("shared", workspace).history()
    assert [entry.version for entry in history] == [2, 1, 0]
    assert {entry.lineage["digest"] for entry in history} == set(digests)
    for entry in history:
        assert digest(open_ref(f"shared@{entry.version}", workspace)) == entry.lineage["digest"]


def test_the_same_run_twice_at_once_is_a_clear_error(tmp_path: Path) -> None:
    raw, workspace = write_raw(tmp_path / "raw"), home(tmp_path)
    what = recipe(raw, Short())
    one, _ = run_quietly(what, workspace)
    events = (one.folder / "events.jsonl").read_bytes()
    with hold(one.folder / LOCK) as other:
        assert other is None
        with pytest.raises(UserError, match="another process is at the same run"):
            run_quietly(what, workspace)
    assert (one.folder / "events.jsonl").read_bytes() == events
    assert run_quietly(what, workspace)[0].digest == one.digest


def test_clean_keeps_what_versions_need_and_frees_the_rest(tmp_path: Path) -> None:
    raw, workspace = write_raw(tmp_path / "raw"), home(tmp_path)
    what = recipe(raw, *steps())
    one, _ = run_quietly(what, workspace, shard_bytes=1)
    sample_run(recipe(raw, Strip()), workspace, EventLog(None), 50)
    run_quietly(recipe(raw, Strip(), First()), workspace, commit=None)
    waste = find_waste(workspace)
    assert waste.bytes > 0
    before = digest(open_ref("test", workspace))
    assert clean(workspace) == waste
    assert find_waste(workspace).folders == []
    assert not list((workspace.root / "samples").glob("*"))
    assert digest(open_ref("test", workspace)) == before
    assert all(path.exists() for path in one.rows), "why tells of rows that a version was made from"
    again, _ = run_quietly(what, workspace, shard_bytes=1)
    assert again.reused == ["short+strip", "first"]
