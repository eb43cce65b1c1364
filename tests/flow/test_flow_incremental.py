"""New input files alone are processed, what is damaged is made again; the digest is that of a full run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import ClassVar

import pyarrow as pa
import pytest
from daft import DataFrame
from flow_rows import First, Short, Strip, home, recipe, run_quietly, write_raw
from hypothesis import given
from hypothesis import strategies as st

from tillage.core.events import Note
from tillage.core.whole import SUMS, damage, make_whole
from tillage.core.workspace import Workspace
from tillage.data.dataset import Dataset
from tillage.flow.incremental import Unit, group
from tillage.flow.recipe import Recipe
from tillage.flow.run import RunResult
from tillage.ops.base import Decisions

SHARD = 3_000


def made(workspace: Workspace) -> dict[Path, int]:
    """The finished shards of all stages, and when each was made."""
    return {p.parent: p.stat().st_mtime_ns for p in workspace.stages.glob("*/shard-*/stats.json")}


def steps() -> tuple[Short, Strip, First]:
    return Short(least=12, most=50), Strip(), First()


def full(what: Recipe, tmp_path: Path, name: str) -> RunResult:
    return run_quietly(what, home(tmp_path, name), shard_bytes=1 << 30)[0]


def add_file(raw: Path, name: str, texts: list[str]) -> None:
    lines = [json.dumps({"text": text, "n": i}) for i, text in enumerate(texts)]
    (raw / name).write_text("\n".join(lines) + "\n")


def test_a_new_file_leaves_finished_shards_alone_and_gives_the_digest_of_a_full_run(tmp_path: Path) -> None:
    raw, workspace = write_raw(tmp_path / "raw"), home(tmp_path)
    what = recipe(raw, *steps())
    run_quietly(what, workspace, shard_bytes=SHARD)
    before = made(workspace)
    # Between the others by name, so that what comes after it moves up by one place.
    add_file(raw, "part-00120.jsonl", [f"a row that is new and {i}" for i in range(30)])
    two, _ = run_quietly(what, workspace, shard_bytes=SHARD)
    after = made(workspace)
    assert {path: after[path] for path in before} == before
    new = after.keys() - before.keys()
    assert len(new) == 2, "one shard of the new file, and one of what was kept of it"
    assert two.accounts[0].rows_in == 430
    whole = full(what, tmp_path, "again")
    assert (two.digest, two.accounts) == (whole.digest, whole.accounts)


def test_a_shard_is_done_again_where_a_new_row_changes_what_was_decided_of_an_old_one(tmp_path: Path) -> None:
    raw, workspace = write_raw(tmp_path / "raw"), home(tmp_path)
    what = recipe(raw, *steps())
    one, _ = run_quietly(what, workspace, shard_bytes=1)
    kept = one.kept_table(["id", "text"]).to_pylist()
    before = made(workspace)
    # Enough copies of one text that one of them has a smaller id than the row that was kept.
    text = max(kept, key=lambda row: row["id"])["text"]
    add_file(raw, "part-99999.jsonl", [text] * 40)
    two, _ = run_quietly(what, workspace, shard_bytes=1)
    new = made(workspace).keys() - before.keys()
    assert len(new) == 3, "the new file, what was kept of it, and the shard that lost its row"
    whole = full(what, tmp_path, "again")
    assert (two.digest, two.accounts) == (whole.digest, whole.accounts)


@pytest.mark.parametrize("change", ["removed", "changed", "renamed"])
def test_a_file_that_goes_or_changes_takes_only_its_own_rows_along(tmp_path: Path, change: str) -> None:
    raw, workspace = write_raw(tmp_path / "raw"), home(tmp_path)
    what = recipe(raw, *steps())
    run_quietly(what, workspace, shard_bytes=1)
    before = made(workspace)
    file = raw / "part-00100.jsonl"
    if change == "removed":
        file.unlink()
    elif change == "changed":
        add_file(raw, file.name, ["other rows than before"] * 3)
    else:
        file.rename(raw / "other.jsonl")
    two, _ = run_quietly(what, workspace, shard_bytes=1)
    first = {path.parent for path in before if "raw" not in path.name}
    assert first
    assert len(made(workspace).keys() - before.keys()) <= (0 if change == "removed" else 2) + 2
    whole = full(what, tmp_path, "again")
    assert (two.digest, two.accounts) == (whole.digest, whole.accounts)


class Extending(First):
    """First, with an index: the smallest id of each text."""

    name = "extending"
    extends = True
    seen: ClassVar[list[int]] = []

    def fit(self, frame: DataFrame, artifact: Path) -> None:
        self._decide(frame, {}, {}, artifact)

    def extend(self, frame: DataFrame, before: Path, artifact: Path) -> None:
        index = json.loads((before / "index.json").read_text())
        self._decide(frame, index["first"], index["copies"], artifact)

    def _decide(
        self, frame: DataFrame, first: dict[str, str], copies: dict[str, str], artifact: Path
    ) -> None:
        rows = frame.select("id", self.key).to_arrow().to_pylist()
        Extending.seen.append(len(rows))
        for row in rows:
            other = first.get(row[self.key], row["id"])
            first[row[self.key]] = min(other, row["id"])
            if other != row["id"]:
                copies[max(other, row["id"])] = ""
        (artifact / "index.json").write_text(json.dumps({"first": first, "copies": copies}))
        table = {"id": pa.array(copies, pa.large_string()), f"copy{self.key}": pa.array([True] * len(copies))}
        Decisions.write(artifact, pa.table(table))


@pytest.mark.parametrize("earlier", [False, True])
def test_an_operator_with_an_index_sees_new_rows_only(tmp_path: Path, earlier: bool) -> None:
    raw, workspace = write_raw(tmp_path / "raw"), home(tmp_path)
    before = [First(key="_before")] if earlier else []
    what = recipe(raw, Strip(), *before, Extending())
    Extending.seen.clear()
    one, _ = run_quietly(what, workspace, shard_bytes=SHARD)
    text = one.kept_table(["id", "text"]).column("text")[-1].as_py()
    add_file(raw, "part-99998.jsonl", [f"a row that is new and {i}" for i in range(12)])
    run_quietly(what, workspace, shard_bytes=SHARD)
    assert Extending.seen == [one.accounts[-1].rows_in, 12]
    # Many copies of one text: the step before decides anew of an old row, which the index has counted in.
    add_file(raw, "part-99999.jsonl", [text] * 30)
    two, _ = run_quietly(what, workspace, shard_bytes=SHARD)
    assert Extending.seen[2] == (two.accounts[-1].rows_in if earlier else 30)
    (raw / "part-00000.jsonl").unlink()
    three, _ = run_quietly(what, workspace, shard_bytes=SHARD)
    assert Extending.seen[3] == three.accounts[-1].rows_in
    whole = full(what, tmp_path, "again")
    assert (three.digest, three.accounts) == (whole.digest, whole.accounts)


def flip(path: Path, at: float = 0.5) -> None:
    raw = bytearray(path.read_bytes())
    raw[int(len(raw) * at)] ^= 1
    path.write_bytes(raw)


@pytest.mark.parametrize("which", ["shard-*/kept-0.*", "shard-*/stats.json", "fit-*/decisions.arrow"])
def test_a_flipped_bit_in_finished_work_is_noticed_and_mended(tmp_path: Path, which: str) -> None:
    raw, workspace = write_raw(tmp_path / "raw"), home(tmp_path)
    what = recipe(raw, *steps())
    one, _ = run_quietly(what, workspace, shard_bytes=SHARD)
    for path in sorted(workspace.stages.glob(f"*/{which}")):
        flip(path)
    two, events = run_quietly(what, workspace, shard_bytes=SHARD)
    notes = [event.text for event in events if isinstance(event, Note) and event.level == "warning"]
    assert notes
    assert all("is not what was written" in text for text in notes)
    assert (two.digest, two.accounts) == (one.digest, one.accounts)
    assert not [path for path in workspace.stages.rglob(SUMS) if damage(path.parent)]
    read = Dataset.open(*two.dataset)  # type: ignore[misc]
    assert sum(batch.num_rows for batch in read.batches()) == two.accounts[-1].rows_out


def test_what_is_wrong_with_a_folder_is_said(tmp_path: Path) -> None:
    folder = tmp_path / "whole"
    assert make_whole(folder, lambda path: (path / "a").write_text("one") and None)
    assert damage(folder) is None
    assert not make_whole(folder, lambda path: None)
    (folder / "a").write_text("two")
    assert damage(folder) == f"{folder / 'a'} is not what was written"
    (folder / "a").unlink()
    assert damage(folder) == f"{folder / 'a'} is gone"
    (folder / SUMS).write_text("{")
    assert "cannot be read" in str(damage(folder))


@given(
    sizes=st.lists(st.integers(1, 20), min_size=1, max_size=30),
    known=st.lists(st.lists(st.integers(0, 35), min_size=1, max_size=5, unique=True), max_size=8),
    limit=st.integers(1, 60),
)
def test_groups_hold_each_unit_once_and_keep_what_is_known(
    sizes: list[int], known: list[list[int]], limit: int
) -> None:
    units = [Unit(f"{i:03d}", size) for i, size in enumerate(sizes)]
    groups = group(units, [[f"{i:03d}" for i in keys] for keys in known], limit)
    assert sorted(unit.key for chosen in groups for unit in chosen) == [unit.key for unit in units]
    have = [[unit.key for unit in chosen] for chosen in groups]
    for chosen in groups:
        keys = [unit.key for unit in chosen]
        old = [int(key) for key in keys] in known
        assert old or len(chosen) == 1 or sum(unit.bytes for unit in chosen) <= limit
    # A known group of units that are all there is kept unless it overlaps another one.
    whole = [k for k in known if all(i < len(units) for i in k)]
    for keys in whole:
        if all(set(keys).isdisjoint(other) for other in known if other is not keys):
            assert [f"{i:03d}" for i in keys] in have
