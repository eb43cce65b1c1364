# pyright: reportPrivateUsage=false
"""Reading inputs ahead: what is found is what would have been found, and a guess that fails does no harm."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tillage.cli.ahead import read_ahead
from tillage.core.workspace import Workspace
from tillage.data import files, scan
from tillage.data.reader import plan
from tillage.data.sources import Jsonl

LINES = b'{"text": "one"}\n{"text": "two"}\n'


@pytest.fixture(autouse=True)
def _nothing_begun() -> Iterator[None]:
    yield
    scan.forget()


def recipe(folder: Path, path: str) -> str:
    file = folder / "recipe.yaml"
    file.write_text(f'name: x\nsources:\n- jsonl: {{path: "{path}"}}\nsteps: []\n')
    return str(file)


def test_what_was_read_ahead_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "CHUNK", 20)
    monkeypatch.setattr(scan, "SPLIT", 16)
    for name in ("a.jsonl", "b.jsonl"):
        (tmp_path / name).write_bytes(LINES * 3)
    source = Jsonl(path=(str(tmp_path),))
    whole = plan([source]).files
    read_ahead(["--json", recipe(tmp_path, "*.jsonl"), "--workspace", str(tmp_path / "space")])
    for file in whole:
        assert len(file.cuts) > 1
        scan._ahead[file.path].scan.result()
    monkeypatch.setattr(files, "_scan", lambda *_: pytest.fail("read again"))
    assert plan([source]).files == whole


def test_a_file_that_changed_since_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(LINES)
    read_ahead([recipe(tmp_path, "a.jsonl"), f"--workspace={tmp_path}"])
    scan._ahead[str(path)].scan.result()
    path.write_bytes(LINES.replace(b"one", b"1st"))
    os.utime(path, ns=(0, 1))
    (found,) = plan([Jsonl(path=(str(path),))]).files
    assert found.digest == scan._open_and_scan(str(path)).digest


def test_what_an_earlier_run_knows_is_not_read_ahead(tmp_path: Path) -> None:
    path, space = tmp_path / "a.jsonl", Workspace(tmp_path / "space")
    path.write_bytes(LINES)
    plan([Jsonl(path=(str(path),))], space.inputs)
    read_ahead([recipe(tmp_path, "a.jsonl"), "--workspace", str(space.root)])
    assert not scan._ahead


@pytest.mark.parametrize(
    "text",
    [
        "",
        "- a",
        "sources: 3",
        "sources: [jsonl]",
        "sources: [{jsonl: {path: [3, x://y, none.jsonl]}}]",
        "a: [",
    ],
)
def test_a_recipe_that_is_none_does_no_harm(tmp_path: Path, text: str) -> None:
    (tmp_path / "recipe.yaml").write_text(text)
    read_ahead([str(tmp_path / "recipe.yaml")])
    read_ahead([str(tmp_path / "none.yaml")])
    read_ahead([])
    assert not scan._ahead


def test_a_file_that_cannot_be_read_ahead_is_named_by_the_run(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(LINES)
    read_ahead([recipe(tmp_path, "a.jsonl")])
    version = scan._ahead[str(path)].version
    scan._ahead[str(path)] = scan._Ahead(version, scan.ThreadPoolExecutor(1).submit(_fails))
    with pytest.raises(OSError):
        scan._ahead[str(path)].scan.result()
    assert len(plan([Jsonl(path=(str(path),))]).files) == 1


def _fails() -> scan.Scan:
    raise OSError("no")
