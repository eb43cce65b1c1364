"""Estimates come from running pieces, count only what is new, and the run says how far they were off."""

from __future__ import annotations

import gzip
import json
from dataclasses import asdict
from pathlib import Path

import pytest
from flow_rows import First, Short, Strip, home, recipe, run_quietly, write_raw
from test_flow_incremental import add_file

from tillage.core.events import Note
from tillage.flow.estimate import estimate
from tillage.flow.expected import Estimate, Range, how_far_off, save


def test_rows_and_disk_of_an_even_corpus_are_foretold(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw", count=2_000, per_file=100)
    workspace = home(tmp_path)
    what = recipe(raw, Short(least=5, most=60), Strip())
    before = sorted(raw.iterdir())
    found = estimate(what, workspace)
    assert sorted(raw.iterdir()) == before
    assert not list(workspace.datasets.glob("*"))
    assert not list(workspace.stages.glob("*"))
    assert found.new_bytes == found.bytes == sum(path.stat().st_size for path in before)
    result, events = run_quietly(what, workspace)
    rows, kept = result.accounts[0].rows_in, result.accounts[-1].rows_out
    assert found.rows.low <= rows <= found.rows.high
    assert found.kept.low <= kept <= found.kept.high
    for value in asdict(found).values():
        if isinstance(value, dict):
            assert 0 <= value["low"] <= value["mean"] <= value["high"]
    (said,) = [e.text for e in events if isinstance(e, Note) and e.text.startswith("against the estimate")]
    assert "rows " in said
    assert "(inside)" in said
    record = json.loads((result.folder / "run.json").read_text())
    assert record["estimate"] == said


def test_what_is_done_already_is_not_counted(tmp_path: Path) -> None:
    raw, workspace = write_raw(tmp_path / "raw", count=2_000, per_file=100), home(tmp_path)
    what = recipe(raw, Strip(), First())
    run_quietly(what, workspace)
    assert estimate(what, workspace).new_bytes == 0
    add_file(raw, "zz.jsonl", ["a new row"] * 9)
    found = estimate(what, workspace)
    assert found.new_bytes == (raw / "zz.jsonl").stat().st_size
    assert found.disk.high < 100 * found.new_bytes


@pytest.mark.parametrize("packed", [False, True])
def test_one_large_file_is_probed_in_pieces(tmp_path: Path, packed: bool) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    text = "".join(
        json.dumps({"text": f"row {i} " + "word " * (i % 40), "n": i}) + "\n" for i in range(60_000)
    )
    if packed:
        (raw / "a.jsonl.gz").write_bytes(gzip.compress(text.encode(), 1))
    else:
        (raw / "a.jsonl").write_text(text)
    found = estimate(recipe(raw, Short()), home(tmp_path))
    assert packed or found.probed_bytes < found.bytes
    assert found.rows.low <= 60_000 <= found.rows.high


def test_how_far_an_estimate_was_off(tmp_path: Path) -> None:
    workspace = home(tmp_path)
    assert how_far_off("a-1", workspace, {"rows": 1.0}) is None
    ten = Range(10.0, 5.0, 15.0)
    save(Estimate("a-1", 1, 1, 1, ten, ten, ten, ten, ten), workspace)
    said = how_far_off("a-1", workspace, {"rows": 12.0, "seconds": 20.0})
    assert said == "against the estimate: rows +20% (inside), seconds +100% (outside)"
