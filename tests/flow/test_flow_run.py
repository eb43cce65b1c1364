"""Runs: accounts that balance, digests that depend on nothing they should not, reuse, quarantine, commit."""

from __future__ import annotations

import gzip
import json
import os
from collections import Counter
from pathlib import Path

import daft
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from daft import DataFrame, DataType, Expression, col
from flow_rows import Chars, First, Short, Strip, home, recipe, run_quietly, write_raw

from tillage.core.errors import UserError, WorkFailed
from tillage.core.events import Committed, Event, EventLog, Example, Note, StageDone, StepAccount
from tillage.data.dataset import Dataset
from tillage.data.reader import RowTask
from tillage.data.rows import row_id
from tillage.data.sources import Text
from tillage.flow import run as running
from tillage.flow.recipe import Recipe, Step
from tillage.flow.run import run, sample_run
from tillage.flow.sample import take_sample
from tillage.kernels.digest import TableDigest
from tillage.ops.base import Annotate, Filter
from tillage.ops.where import Where


def plain_python(raw: Path) -> tuple[dict[str, int], list[str]]:
    """What the recipe Short, Strip, First should do, worked out without an engine."""
    drops: Counter[str] = Counter()
    alive: list[tuple[str, str]] = []
    for path in sorted(raw.glob("*.jsonl")):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            text = json.loads(line)["text"]
            if len(text) < 12:
                drops["short:too_short"] += 1
            elif len(text) > 50:
                drops["short:too_long"] += 1
            elif len(text) % 7 == 3:
                drops["short:odd"] += 1
            else:
                alive.append((row_id(path.name, number), text.replace("x", "")))
    seen: set[str] = set()
    kept: list[str] = []
    for id, text in sorted(alive):
        if text in seen:
            drops["first:copy"] += 1
        else:
            kept.append(id)
        seen.add(text)
    return dict(drops), kept


def steps() -> tuple[Short, Strip, First]:
    return Short(least=12, most=50), Strip(), First()


def test_a_run_does_what_plain_python_does(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw")
    result, events = run_quietly(recipe(raw, *steps()), home(tmp_path))
    drops, kept = plain_python(raw)
    assert len(drops) == 4
    by_step = {account.step: account for account in result.accounts}
    found = {f"{s}:{r}": n for s, account in by_step.items() for r, n in account.dropped.items()}
    assert found == drops
    assert result.kept_table(["id"]).column("id").to_pylist() == kept
    dropped = result.dropped_table()
    assert Counter(f"{r['step']}:{r['reason']}" for r in dropped.to_pylist()) == drops
    assert not [name for name in result.kept_table().schema.names if name.startswith("_")]
    assert {type(event) for event in events} >= {StageDone, StepAccount, Example, Committed}


def test_accounts_balance_in_rows_and_bytes(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw")
    result, _ = run_quietly(recipe(raw, *steps()), home(tmp_path))
    texts = [json.loads(line)["text"] for p in raw.glob("*") for line in p.read_text().splitlines()]
    first = result.accounts[0]
    assert (first.step, first.rows_in, first.bytes_in) == ("read", 400, sum(map(len, texts)))
    for before, after in zip(result.accounts, result.accounts[1:], strict=False):
        assert (after.rows_in, after.bytes_in) == (before.rows_out, before.bytes_out)
        assert after.rows_in == after.rows_out + sum(after.dropped.values())
    strip = result.accounts[2]
    assert strip.bytes_out < strip.bytes_in
    kept = result.kept_table(["text"]).column("text").to_pylist()
    assert (result.accounts[-1].rows_out, result.accounts[-1].bytes_out) == (len(kept), sum(map(len, kept)))


def test_the_digest_knows_nothing_of_shards(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw")
    results = [
        run_quietly(recipe(raw, *steps()), home(tmp_path, f"home-{size}"), shard_bytes=size)[0]
        for size in (1, 8_000, 1 << 30)
    ]
    assert len(results[0].kept) == 8 > len(results[1].kept) > len(results[2].kept) == 1
    for result in results:
        assert result.digest == TableDigest().update(result.kept_table()).hexdigest() == results[0].digest
        assert result.accounts == results[0].accounts


def test_the_digest_knows_nothing_of_the_order_of_files_and_where_they_lie(tmp_path: Path) -> None:
    one = write_raw(tmp_path / "one")
    two = write_raw(tmp_path / "elsewhere" / "two")
    files = sorted(two.glob("*"), reverse=True)
    what = recipe(two, *steps())
    shuffled = what.sources[0].model_copy(update={"path": tuple(str(f) for f in files)})
    first, _ = run_quietly(recipe(one, *steps()), home(tmp_path, "a"))
    second, _ = run_quietly(what.model_copy(update={"sources": (shuffled,)}), home(tmp_path, "b"))
    assert first.digest == second.digest
    assert first.run == second.run


def test_what_is_finished_is_reused_and_not_committed_again(tmp_path: Path) -> None:
    what, workspace = recipe(write_raw(tmp_path / "raw"), *steps()), home(tmp_path)
    First.fits = 0
    one, _ = run_quietly(what, workspace)
    two, events = run_quietly(what, workspace)
    assert First.fits == 1
    assert two.reused == ["short+strip", "first"]
    assert (one.digest, one.dataset, one.accounts) == (two.digest, two.dataset, two.accounts)
    assert all(event.reused for event in events if isinstance(event, StageDone))
    assert len(Dataset(one.dataset[0]).history()) == 1  # type: ignore[index]
    three, _ = run_quietly(what, workspace, fresh=True)
    assert First.fits == 2
    assert (three.digest, three.dataset, three.reused) == (one.digest, one.dataset, [])


def test_what_dead_processes_left_is_swept_away(tmp_path: Path) -> None:
    what, workspace = recipe(write_raw(tmp_path / "raw"), *steps()), home(tmp_path)
    one, _ = run_quietly(what, workspace)
    stage = one.kept[0].parent.parent
    dead, living = 2**22 + 1, os.getpid()
    left = [workspace.stages / f".fit.{dead}.0a.tmp", stage / f".shard-00000-ab.{dead}.0a.tmp"]
    busy = stage / f".shard-00000-ab.{living}.0a.tmp"
    for folder in [*left, busy]:
        folder.mkdir()
    run_quietly(what, workspace)
    assert [folder.exists() for folder in [*left, busy]] == [False, False, True]


def test_a_changed_last_step_reuses_the_stages_before_it(tmp_path: Path) -> None:
    raw, workspace = write_raw(tmp_path / "raw"), home(tmp_path)
    run_quietly(recipe(raw, *steps()), workspace)
    other, _ = run_quietly(recipe(raw, *steps(), Short(least=13)), workspace)
    assert other.reused == ["short+strip"]


def test_a_changed_input_makes_a_new_run(tmp_path: Path) -> None:
    raw, workspace = write_raw(tmp_path / "raw"), home(tmp_path)
    one, _ = run_quietly(recipe(raw, *steps()), workspace)
    with (raw / "part-00000.jsonl").open("a") as more:
        more.write('{"text": "one more line that is new"}\n')
    two, _ = run_quietly(recipe(raw, *steps()), workspace)
    assert one.run != two.run
    assert two.accounts[0].rows_in == 401
    assert two.dataset == (one.dataset[0], 1)  # type: ignore[index]


def test_the_dataset_carries_its_lineage(tmp_path: Path) -> None:
    result, _ = run_quietly(recipe(write_raw(tmp_path / "raw"), *steps()), home(tmp_path))
    path, version = result.dataset  # type: ignore[misc]
    lineage = Dataset.open(path, version).lineage()
    assert (lineage["run"], lineage["digest"]) == (result.run, result.digest)
    assert [StepAccount(**a) for a in lineage["accounts"]] == result.accounts
    assert len(lineage["inputs"]) == 8
    digest = TableDigest()
    for batch in Dataset.open(path).batches():
        digest.update(batch)
    assert digest.hexdigest() == result.digest


def test_examples_are_those_with_the_smallest_ids(tmp_path: Path) -> None:
    result, events = run_quietly(recipe(write_raw(tmp_path / "raw"), *steps()), home(tmp_path), shard_bytes=1)
    shown = [e.id for e in events if isinstance(e, Example) and (e.step, e.reason) == ("short", "too_short")]
    dropped = [r["id"] for r in result.dropped_table().to_pylist() if r["reason"] == "too_short"]
    assert shown == sorted(dropped)[:3]


class Vanish(Filter):
    """Removes rows itself, which no operator may."""

    name = "vanish"

    def reads(self) -> frozenset[str]:
        return frozenset({"n"})

    def apply(self, frame: DataFrame, artifact: Path | None = None) -> DataFrame:
        return frame.where(col("n") != 3)


def test_an_operator_that_loses_rows_is_found_out(tmp_path: Path) -> None:
    with pytest.raises(WorkFailed, match="the accounts do not balance") as caught:
        run_quietly(recipe(write_raw(tmp_path / "raw"), Vanish()), home(tmp_path))
    assert "400 rows read" in str(caught.value)
    assert not (tmp_path / "home" / "datasets" / "test").exists()


class Breaks(Annotate):
    """Its function raises at one row."""

    name = "breaks"

    def writes(self) -> dict[str, pa.DataType]:
        return {"inverse": pa.float64()}

    def columns(self) -> dict[str, Expression]:
        return {"inverse": _inverse(col("n"))}


@daft.func(return_dtype=DataType.float64())
def _inverse(n: int) -> float:
    return 1 / (n - 7)


def test_an_operator_that_raises_fails_the_run_by_name(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    what, workspace = recipe(write_raw(tmp_path / "raw"), Breaks()), home(tmp_path)
    with pytest.raises(WorkFailed, match="a stage failed") as caught:
        run_quietly(what, workspace)
    assert "stage breaks, shard-" in str(caught.value)
    assert "division by zero" in str(caught.value)
    assert (capfd.readouterr().err, caplog.records) == ("", [])
    assert json.loads(next(workspace.runs.glob("*/run.json")).read_text())["status"] == "failed"


def test_a_folder_of_notes_is_read_in_large_batches(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    notes.mkdir()
    for number in range(300):
        (notes / f"{number}.txt").write_text(f"note {number}")
    what = Recipe(name="notes", sources=(Text(path=(str(notes),)),))
    result, _ = run_quietly(what, home(tmp_path))
    assert result.accounts[0].rows_in == 300
    inputs = running.plan(what.sources)
    task = RowTask(inputs.sources, inputs.parts, inputs.schema, tmp_path / "count")
    assert [batch.num_rows for batch in task._joined({})] == [300]


def bad_raw(tmp_path: Path, bad: int) -> Path:
    raw = write_raw(tmp_path / "raw")
    with (raw / "part-00000.jsonl").open("a") as more:
        more.write('{"text": "cut\n' * bad)
    return raw


def test_bad_rows_are_counted_and_kept_for_reading(tmp_path: Path) -> None:
    result, events = run_quietly(recipe(bad_raw(tmp_path, 3), *steps()), home(tmp_path))
    assert result.accounts[0].quarantined == {"malformed_json": 3}
    assert (result.accounts[0].rows_in, result.accounts[0].rows_out) == (403, 400)
    bad = [row for row in result.dropped_table().to_pylist() if row["step"] == "read"]
    assert sorted(row["line"] for row in bad) == [51, 52, 53]
    assert "part-00000.jsonl:51: " in next(row["_detail"] for row in bad if row["line"] == 51)
    shown = [e.text for e in events if isinstance(e, Example) and e.step == "read"]
    assert "Unterminated string" in shown[0]


def test_a_file_that_ends_early_is_a_warning(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw")
    whole = gzip.compress("".join(f'{{"text": "{i} {i * i}"}}\n' for i in range(3000)).encode())
    (raw / "cut.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    _, events = run_quietly(recipe(raw, *steps()), home(tmp_path))
    (note,) = [event for event in events if isinstance(event, Note)]
    assert note.level == "warning"
    assert "the rest of a file is lost: cut.jsonl.gz:" in note.text


def test_too_many_bad_rows_fail_the_run_and_nothing_is_committed(tmp_path: Path) -> None:
    what, workspace = recipe(bad_raw(tmp_path, 5), *steps()), home(tmp_path)
    with pytest.raises(WorkFailed) as caught:
        run_quietly(what, workspace)
    said = str(caught.value)
    assert "5 of 405 (1.2%): malformed_json 5" in said
    assert "part-00000.jsonl:51: Unterminated string" in said
    assert "at most 1.0%" in said
    assert not Dataset(what.dataset_path(workspace)).exists()
    record = json.loads(next(workspace.runs.glob("*/run.json")).read_text())
    assert record["status"] == "failed"
    result, _ = run_quietly(what.model_copy(update={"max_quarantine": 0.02}), workspace)
    assert result.accounts[0].quarantined == {"malformed_json": 5}


def test_a_sample_over_the_limit_is_a_warning(tmp_path: Path) -> None:
    what, workspace = recipe(bad_raw(tmp_path, 5), *steps()), home(tmp_path)
    events: list[Event] = []
    sample_run(what, workspace, EventLog(None, [events.append]), 1.0)
    (note,) = [event for event in events if isinstance(event, Note)]
    assert note.level == "warning"
    assert "5 of 405 (1.2%): malformed_json 5, the limit is 1.0%" in note.text


def test_a_corpus_step_sees_only_what_the_one_before_it_kept(tmp_path: Path) -> None:
    raw, workspace = write_raw(tmp_path / "raw"), home(tmp_path)
    alone, _ = run_quietly(recipe(raw, Strip(), First(key="_a")), workspace)
    between = Where(keep="n < 300")
    both, events = run_quietly(recipe(raw, Strip(), First(key="_a"), between, First(key="_b")), workspace)
    assert alone.accounts[2].dropped["copy"] > 0
    assert both.accounts[2].dropped == alone.accounts[2].dropped
    assert both.accounts[3].dropped["where"] > 0
    assert both.accounts[4].dropped == {}
    stages = [event.stage for event in events if isinstance(event, StageDone)]
    assert stages == ["strip", "fit:first", "fit:first_2", "first+where+first_2"]
    assert not [name for name in both.kept_table().schema.names if name in ("_a", "_b")]


def test_steps_after_a_checkpoint_reuse_it(tmp_path: Path) -> None:
    raw, workspace = write_raw(tmp_path / "raw"), home(tmp_path)
    source = recipe(raw).sources
    first = Step(op=Short(), checkpoint=True)
    one = Recipe(name="a", sources=source, steps=(first, Step(op=Strip())))
    two = Recipe(name="a", sources=source, steps=(first, Step(op=Short(most=30))))
    run_quietly(one, workspace)
    assert run_quietly(two, workspace)[0].reused == ["short"]
    plain = Recipe(name="a", sources=source, steps=(Step(op=Short()), Step(op=Strip())))
    assert run_quietly(plain, workspace)[0].digest == run_quietly(one, workspace)[0].digest
    assert plain.fingerprint() == one.fingerprint()


def test_an_empty_file_is_noted(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw")
    (raw / "empty.jsonl").touch()
    (raw / "blank.jsonl").write_text("\n\n")
    _, events = run_quietly(recipe(raw), home(tmp_path))
    notes = [event.text for event in events if isinstance(event, Note)]
    assert notes == [f"{raw / 'empty.jsonl'} is empty", "blank.jsonl holds no rows"]


def test_input_of_blank_lines_only_is_the_users_error(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "a.jsonl").write_text("\n\n")
    with pytest.raises(UserError, match="the input holds no rows"):
        run_quietly(recipe(tmp_path / "raw"), home(tmp_path))


@pytest.mark.parametrize("change", ["vanish", "grow"])
def test_a_file_that_vanishes_during_the_run_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    raw, path = write_raw(tmp_path / "raw"), tmp_path / "raw" / "part-00350.jsonl"
    plan = running.plan

    def then_lost(*args: object) -> object:
        planned = plan(*args)  # type: ignore[arg-type]
        path.unlink() if change == "vanish" else path.write_text("{}")
        return planned

    monkeypatch.setattr(running, "plan", then_lost)
    with pytest.raises(UserError, match=r"vanished|changed") as caught:
        run_quietly(recipe(raw, *steps()), home(tmp_path))
    assert caught.value.where == str(path)
    assert not isinstance(caught.value, WorkFailed)


def test_an_output_that_cannot_be_written_is_said_before_work_begins(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="cannot write here"):
        run(recipe(raw), home(tmp_path, "file/home"))
    with pytest.raises(UserError, match="cannot write here"):
        run(recipe(raw, dataset=str(tmp_path / "file" / "data")), home(tmp_path))
    with pytest.raises(UserError, match="the dataset's path is a file"):
        run(recipe(raw, dataset=str(tmp_path / "file")), home(tmp_path))
    assert not (tmp_path / "home" / "stages").exists()


def test_a_sample_run_commits_nothing_and_is_the_same_each_time(tmp_path: Path) -> None:
    raw, workspace = write_raw(tmp_path / "raw"), home(tmp_path)
    what = recipe(raw, *steps())
    one = sample_run(what, workspace, None, 100)
    assert (one.accounts[0].rows_in, one.dataset) == (100, None)
    assert not workspace.datasets.exists()
    two = sample_run(what, home(tmp_path, "other"), None, 100)
    assert one.digest == two.digest
    share = sample_run(what, workspace, None, 0.25)
    assert 60 < share.accounts[0].rows_in < 140


def test_a_larger_sample_holds_the_rows_of_a_smaller_one(tmp_path: Path) -> None:
    raw, workspace = write_raw(tmp_path / "raw"), home(tmp_path)
    sources = recipe(raw).sources

    def ids(count: int, seed: int = 0) -> set[str]:
        path = take_sample(sources, workspace, count, seed)
        return set(pq.read_table(path).column("id").to_pylist())

    assert ids(50) < ids(200) < ids(1000)
    assert [len(ids(n)) for n in (50, 200, 1000)] == [50, 200, 400]
    assert ids(50) != ids(50, seed=3)
    with pytest.raises(UserError, match="a sample needs a size"):
        take_sample(sources, workspace, 0)


def test_documents_replace_the_sources(tmp_path: Path) -> None:
    raw, workspace = write_raw(tmp_path / "raw"), home(tmp_path)
    frozen = take_sample(recipe(raw).sources, workspace, 120)
    moved = tmp_path / "frozen.parquet"
    moved.write_bytes(frozen.read_bytes())
    what = recipe(tmp_path / "gone", *steps())
    result = sample_run(what, workspace, None, moved)
    assert result.accounts[0].rows_in == 120
    assert result.digest == sample_run(recipe(raw, *steps()), workspace, None, 120).digest


def test_a_recipe_that_drops_everything_commits_an_empty_version(tmp_path: Path) -> None:
    result, _ = run_quietly(recipe(write_raw(tmp_path / "raw"), Short(least=10_000)), home(tmp_path))
    assert result.accounts[-1].rows_out == 0
    assert Dataset.open(*result.dataset).count() == 0  # type: ignore[misc]
    assert result.digest == "0" * 32


def test_measurements_describe_the_text_that_is_kept(tmp_path: Path) -> None:
    result, _ = run_quietly(recipe(write_raw(tmp_path / "raw"), Chars(), Strip()), home(tmp_path))
    table = result.kept_table(["text", "chars"])
    assert [len(t) for t in table.column("text").to_pylist()] == table.column("chars").to_pylist()
    assert table.schema.field("chars").type == pa.int64()
