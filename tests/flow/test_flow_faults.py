"""Full disks and changing sources: a clear error, nothing lost, doubled or half visible, and a way on.

Kills are in test_flow_resume, damaged files in test_flow_incremental, runs at once in test_flow_versions.
"""

from __future__ import annotations

import errno
import json
import os
import random
import resource
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
from flow_rows import First, Short, Strip, home, recipe, run_quietly, write_raw

from tillage.core.errors import UserError, WorkFailed
from tillage.core.workspace import Workspace, disk_full
from tillage.data.dataset import Dataset
from tillage.flow import run as running
from tillage.flow import shards, stages
from tillage.flow.recipe import Recipe


@contextmanager
def largest_file(limit: int) -> Generator[None]:
    """Files cannot grow beyond `limit` bytes: a write fails half way, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def noise(raw: Path, count: int) -> None:
    """A file of text that no compression makes small."""
    chance = random.Random(5)
    lines = [json.dumps({"text": chance.randbytes(2_000).hex(), "n": i}) for i in range(count)]
    (raw / "zz-noise.jsonl").write_text("\n".join(lines) + "\n")


def nothing_half_done(workspace: Workspace) -> None:
    assert not list(workspace.root.glob("stages/**/.*.tmp"))
    assert not [path for path in workspace.root.glob("**/.*.tmp") if path.is_file()]
    assert not Dataset(workspace.datasets / "test").exists()


def test_a_disk_that_fills_while_a_shard_is_written(tmp_path: Path) -> None:
    raw, workspace = write_raw(tmp_path / "raw"), home(tmp_path)
    noise(raw, 400)
    what = recipe(raw, Strip(), Short(most=5_000), First())
    with largest_file(400_000), pytest.raises(WorkFailed, match="no space left to write") as caught:
        run_quietly(what, workspace, shard_bytes=1)
    assert os.strerror(errno.EFBIG) in str(caught.value.got)
    nothing_half_done(workspace)
    record = json.loads(next(workspace.runs.glob("*/run.json")).read_text())
    assert record["status"] == "failed"
    kept = len(list(workspace.stages.glob("*/shard-*")))
    assert kept == 8, "the shards before it stay"
    result, _ = run_quietly(what, workspace, shard_bytes=1)
    whole, _ = run_quietly(what, home(tmp_path, "again"))
    assert (result.digest, result.accounts) == (whole.digest, whole.accounts)


@pytest.mark.parametrize(
    ("module", "name"), [(stages, "write_stats"), (stages, "write_units"), (shards, "write_index")]
)
def test_a_disk_that_fills_at_any_other_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: object, name: str
) -> None:
    what, workspace = recipe(write_raw(tmp_path / "raw"), Strip(), First()), home(tmp_path)

    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(module, name, full)
        with pytest.raises(WorkFailed, match="no space left to write"):
            run_quietly(what, workspace)
    nothing_half_done(workspace)
    assert run_quietly(what, workspace)[0].accounts[0].rows_in == 400


def test_a_disk_that_fills_while_committing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw, workspace = write_raw(tmp_path / "raw"), home(tmp_path)
    one, _ = run_quietly(recipe(raw, Strip()), workspace)

    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("tillage.data.dataset.link", full)
        with pytest.raises(WorkFailed, match="no space left to write"):
            run_quietly(recipe(raw, Short()), workspace)
    dataset = Dataset.open(workspace.datasets / "test")
    assert (dataset.version, dataset.lineage()["digest"]) == (0, one.digest)
    assert run_quietly(recipe(raw, Short()), workspace)[0].dataset == (str(dataset.path), 1)


def test_other_errors_are_not_taken_for_a_full_disk() -> None:
    assert disk_full(PermissionError(13, "Permission denied"), "here") is None
    outer = RuntimeError("query failed")
    outer.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    assert disk_full(outer, "here") is not None
    assert disk_full(RuntimeError("IO error: No space left on device (os error 28)"), "here") is not None


def grown(path: Path) -> None:
    with path.open("a") as more:
        more.write('{"text": "one more line, written while the run was on", "n": 1}\n')


def test_a_source_that_changes_during_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw, workspace = write_raw(tmp_path / "raw"), home(tmp_path)
    what: Recipe = recipe(raw, Strip(), First())
    late = raw / "part-00300.jsonl"
    written = stages.write_units
    calls: list[Path] = []

    def then_change(folder: Path, units: list[stages.Unit]) -> None:
        written(folder, units)
        calls.append(folder)
        if len(calls) == 3:
            grown(late)

    with monkeypatch.context() as patch:
        patch.setattr(stages, "write_units", then_change)
        with pytest.raises(UserError, match="changed while the run was using it") as caught:
            run_quietly(what, workspace, shard_bytes=1)
    assert caught.value.where == str(late)
    nothing_half_done(workspace)
    result, _ = run_quietly(what, workspace, shard_bytes=1)
    assert result.accounts[0].rows_in == 401
    whole, _ = run_quietly(what, home(tmp_path, "again"))
    assert (result.digest, result.accounts) == (whole.digest, whole.accounts)


def test_a_source_that_changes_after_it_was_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw, workspace = write_raw(tmp_path / "raw"), home(tmp_path)
    what = recipe(raw, Strip(), First())
    written = stages.write_fitted

    def then_change(*args: object) -> None:
        written(*args)  # type: ignore[arg-type]
        grown(raw / "part-00000.jsonl")

    with monkeypatch.context() as patch:
        patch.setattr(stages, "write_fitted", then_change)
        one, _ = run_quietly(what, workspace)
    # The version is of the content that was read, and says so; the next run reads the new content.
    assert one.accounts[0].rows_in == 400
    inputs = Dataset.open(*one.dataset).lineage()["inputs"]  # type: ignore[misc]
    now = {file.name: file.digest for file in running.plan(what.sources).files}
    assert [item["name"] for item in inputs if item["digest"] != now[item["name"]]] == ["part-00000.jsonl"]
    assert run_quietly(what, workspace)[0].accounts[0].rows_in == 401
