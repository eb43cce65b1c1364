"""The gate: no version with rows that give evaluation items away, unless the recipe says so."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from flow_rows import home, recipe, run_quietly

from tillage.core.errors import UserError
from tillage.core.events import Contamination, Note
from tillage.data.dataset import Dataset
from tillage.flow.contamination import TABLE
from tillage.flow.history import find
from tillage.flow.recipe import Recipe
from tillage.ops.decontaminate import Decontaminate

NOUNS = [f"noun{i}" for i in range(300)]


def half(text: str) -> int:
    """The place of a space in the middle."""
    return text.index(" ", len(text) // 2)


def sentence(draw: random.Random, words: int = 40) -> str:
    return " ".join(draw.choice(NOUNS) for _ in range(words))


@pytest.fixture
def world(tmp_path: Path) -> tuple[Path, Path, list[str]]:
    """Raw rows; row 3 holds item 1 as it is, row 5 with every eighth word changed; and the items' file."""
    draw = random.Random(5)
    items = [sentence(draw) for _ in range(4)]
    texts = [sentence(draw, 80) for _ in range(20)]
    texts[3] += " " + items[1]
    texts[5] += " " + " ".join("other" if i % 8 == 7 else w for i, w in enumerate(items[1].split()))
    raw = tmp_path / "raw"
    raw.mkdir()
    for part in (0, 10):
        lines = [json.dumps({"text": t, "n": i}) for i, t in enumerate(texts[part : part + 10], part)]
        (raw / f"part-{part}.jsonl").write_text("\n".join(lines) + "\n")
    path = tmp_path / "exam.jsonl"
    path.write_text("".join(json.dumps({"q": t[: half(t)], "a": [t[half(t) + 1 :]]}) + "\n" for t in items))
    return raw, path, items


def exam(path: Path, **fields: object) -> Decontaminate:
    return Decontaminate.model_validate({"against": path, "field": ("q", "a"), **fields})


def test_a_version_that_gives_items_away_is_refused_and_the_items_are_named(
    world: tuple[Path, Path, list[str]], tmp_path: Path
) -> None:
    raw, path, items = world
    space = home(tmp_path)
    what = recipe(raw, evaluation=(exam(path),))
    with pytest.raises(UserError, match="give evaluation items away") as caught:
        run_quietly(what, space)
    assert "2 rows hold something of 1 of 4 items of exam.jsonl" in str(caught.value)
    assert not Dataset(what.dataset_path(space)).exists()
    record = find("test", space)
    assert record.status == "failed"
    assert record.data["contamination"][0]["hit"] == 1
    table = pq.read_table(record.folder / TABLE).to_pylist()
    assert [(row["step"], row["item"], row["ngrams"] > 0) for row in table] in (
        [("gate", 1, True), ("gate", 1, False)],
        [("gate", 1, False), ("gate", 1, True)],
    )
    assert {row["item_text"] for row in table} == {
        (items[1][: half(items[1])] + "\n" + items[1][half(items[1]) + 1 :])[:200]
    }
    near = min(table, key=lambda row: row["share"])
    assert 0.4 <= near["share"] < 1 == max(row["share"] for row in table)


def test_marked_is_committed_and_said_in_the_lineage(
    world: tuple[Path, Path, list[str]], tmp_path: Path
) -> None:
    raw, path, _ = world
    space = home(tmp_path)
    result, events = run_quietly(recipe(raw, evaluation=(exam(path),), contamination="mark"), space)
    assert any("the lineage says so" in e.text for e in events if isinstance(e, Note))
    assert result.dataset is not None
    said = Dataset(Path(result.dataset[0])).lineage()["contamination"]
    assert said["verdict"] == "marked"
    (one,) = said["sets"]
    assert (one["step"], one["items"], one["hit"], one["rows"]) == ("gate", 4, 1, 2)
    # Without a set nothing was looked for, and the version says that.
    result, _ = run_quietly(recipe(raw), space)
    assert result.dataset is not None
    assert Dataset(Path(result.dataset[0])).lineage()["contamination"] == {"verdict": "unchecked", "sets": []}


def test_after_decontamination_the_gate_is_open_and_what_was_found_is_kept(
    world: tuple[Path, Path, list[str]], tmp_path: Path
) -> None:
    raw, path, _ = world
    space = home(tmp_path)
    what = recipe(raw, exam(path), evaluation=(exam(path),))
    result, events = run_quietly(what, space)
    assert sum(result.accounts[-1].dropped.values()) == 2
    assert result.dataset is not None
    assert Dataset(Path(result.dataset[0])).lineage()["contamination"]["verdict"] == "clean"
    told = [event for event in events if isinstance(event, Contamination)]
    assert [(one.step, one.hit, one.rows) for one in told] == [("decontaminate", 1, 2), ("gate", 0, 0)]
    ids = set(told[0].worst[0]["ids"])
    assert ids == set(result.dropped_table(["id"]).column("id").to_pylist())
    again, _ = run_quietly(what, space)
    assert (again.digest, again.dataset) == (result.digest, result.dataset)
    # New files alone are looked at; what they hold shuts the gate.
    made = {p: p.stat().st_mtime_ns for p in space.stages.glob("gate-*/*/keys.parquet")}
    (raw / "part-20.jsonl").write_text(json.dumps({"text": "nothing of it", "n": 20}) + "\n")
    run_quietly(what, space)
    assert {p: p.stat().st_mtime_ns for p in made} == made
    assert len(list(space.stages.glob("gate-*/*/keys.parquet"))) == len(made) + 1


def test_rows_added_to_marked_ones_do_not_make_the_version_clean(
    world: tuple[Path, Path, list[str]], tmp_path: Path
) -> None:
    raw, path, _ = world
    space, gate = home(tmp_path), (exam(path),)
    base, other = tmp_path / "base.jsonl", tmp_path / "other.jsonl"
    for file in (base, other):
        file.write_text(json.dumps({"text": f"nothing of it in {file.name}", "n": 20}) + "\n")
    clean = recipe(other, evaluation=gate, name="clean", dataset="rows")
    run_quietly(recipe(raw, evaluation=gate, contamination="mark", dataset="rows"), space)
    target = Dataset(clean.dataset_path(space))
    run_quietly(clean, space, commit="append")
    said = target.lineage()["contamination"]
    assert (said["verdict"], [one["hit"] for one in said["sets"]]) == ("marked", [1, 0])
    run_quietly(recipe(base, evaluation=gate, dataset="rows"), space)
    run_quietly(clean, space, commit="append")
    assert target.lineage()["contamination"]["verdict"] == "clean"
    run_quietly(recipe(base, dataset="rows"), space)
    run_quietly(clean, space, commit="append")
    assert target.lineage()["contamination"]["verdict"] == "unchecked"


def test_a_recipe_with_evaluation_sets_is_written_and_read(
    world: tuple[Path, Path, list[str]], tmp_path: Path
) -> None:
    raw, path, _ = world
    what = recipe(raw, evaluation=(exam(path, ngram=8),), contamination="mark")
    again = Recipe.from_yaml(what.to_yaml())
    assert again == what and again.fingerprint() == what.fingerprint() != recipe(raw).fingerprint()
    (tmp_path / "r.yaml").write_text(
        "name: a\nsources: [{jsonl: {path: raw}}]\nevaluation: [{against: exam.jsonl, field: q}]\n"
    )
    assert Recipe.from_yaml(tmp_path / "r.yaml").evaluation[0].against == path
    (tmp_path / "r.yaml").write_text(
        "name: a\nsources: [{jsonl: {path: raw}}]\nevaluation: [{against: exam.jsonl, fields: q}]\n"
    )
    with pytest.raises(UserError, match="field") as caught:
        Recipe.from_yaml(tmp_path / "r.yaml")
    assert "evaluation" in str(caught.value)


@pytest.mark.parametrize(("field", "message"), [("question", "no text in field 'question'"), ("q", "")])
def test_a_set_that_cannot_be_read_is_told_before_the_run(
    world: tuple[Path, Path, list[str]], tmp_path: Path, field: str, message: str
) -> None:
    raw, path, _ = world
    if not message:
        path.unlink()
        message = "cannot read"
    with pytest.raises(UserError, match=message):
        run_quietly(recipe(raw, evaluation=(exam(path, field=field),)), home(tmp_path))
