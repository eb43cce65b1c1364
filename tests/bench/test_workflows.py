"""The workflow benchmark: what is planted is what the truth says, and what is scored is what was planted."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from bench.workflows import __main__ as command
from bench.workflows.faults import FAULTS, Vocabulary, name
from bench.workflows.score import Output, oracle, score_rows
from bench.workflows.tasks import TASKS, build
from bench.workflows.text import load

from tillage.agent.goal import Goal

WORDS = ["field", "river", "harvest", "winter", "letter", "garden", "engine", "market", "village", "weather"]


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two files of made prose, three hundred passages each."""
    folder = tmp_path_factory.mktemp("text")
    rng = random.Random(3)
    for file in ("one", "two"):
        with (folder / f"{file}.jsonl").open("w") as out:
            for _ in range(300):
                said = [
                    f"The {rng.choice(WORDS)} of {name(rng).capitalize()} was {name(rng)} and they were "
                    f"{name(rng)} with the {rng.choice(WORDS)} that we had in {name(rng).capitalize()}."
                    for _ in range(9)
                ]
                out.write(json.dumps({"text": " ".join(said)}) + "\n")
    return folder


def test_there_are_tasks_enough_and_combinations() -> None:
    assert len(TASKS) >= 24
    assert len({task.name for task in TASKS}) == len(TASKS)
    assert sum(3 <= len(task.faults) <= 5 for task in TASKS) >= 8


def test_every_task_is_built_from_any_text_and_the_same_again(text: Path, tmp_path: Path) -> None:
    pool = load(text)
    for task in TASKS:
        built = build(task, pool, 1, tmp_path / task.name)
        assert built is not None, task.name
        assert {row.fault for row in built.rows} - {""} == set(task.faults)
        goal = Goal.from_yaml(built.goal)
        assert goal.aim == "clean"
        files = (tmp_path / task.name / "data").glob("*.jsonl")
        lines = {path.name: path.read_text("utf-8").split("\n") for path in files}
        for row in built.rows:
            record = json.loads(lines[row.file][row.line - 1])
            if task.layout != "chat":
                assert row.text in record.values()
        again = build(task, pool, 1, tmp_path / "again")
        assert again is not None
        assert [row.text for row in again.rows] == [row.text for row in built.rows]


def test_a_perfect_corpus_scores_one_and_the_raw_one_nothing(text: Path, tmp_path: Path) -> None:
    pool = load(text)
    for task in TASKS:
        built = build(task, pool, 2, tmp_path / task.name)
        assert built is not None
        raw = {(r.file, r.line): Output(r.text, r.domain) for r in built.rows if r.cure != "read"}
        nothing = score_rows(built.rows, raw)
        assert (nothing.recall, nothing.clean_kept) == (0.0, 1.0), task.name
        groups: set[str] = set()
        perfect: dict[tuple[str, int], Output] = {}
        for row in built.rows:
            if row.group in groups or row.cure == "drop":
                continue
            groups |= {row.group} - {""}
            mended = row.original if row.cure in ("mend", "read") else row.text
            perfect[row.file, row.line] = Output(mended, row.domain)
        best = score_rows(built.rows, perfect)
        assert (best.recall, best.precision, best.clean_kept) == (1.0, 1.0, 1.0), task.name
        assert len(oracle(built.rows)) >= len(perfect) - sum(bool(row.label) for row in built.rows)


def test_marks_are_in_the_planted_text_and_not_in_its_original(text: Path) -> None:
    pool = load(text)
    passages = [p for found in pool.domains.values() for p in found]
    vocabulary = Vocabulary.draw(random.Random(5), pool, passages)
    for kind, (cure, make) in FAULTS.items():
        for passage in passages[:40]:
            planted = make(passage.text, vocabulary)
            if cure == "mend":
                assert planted.marks, kind
                assert all(mark in planted.text for mark in planted.marks), kind
                good = planted.original or passage.text
                assert not any(mark in good for mark in planted.marks), kind


def test_the_command_plans_scores_and_ends_with_one_object(
    text: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = command.main(["--text", str(text), "--only", "gibberish", "--seeds", "4", "--json"])
    result = json.loads(capsys.readouterr().out.strip().split("\n")[-1])
    assert code == 0
    (row,) = result["tasks"]
    assert row["valid"]
    assert row["recall"] > 0.9
    assert row["clean_kept"] > 0.95
    assert result["medians"]["embedded"]["tasks"] == 1


def test_a_language_model_is_measured_beside_the_embedded_planner_and_alone(
    text: Path, llm: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pydantic_ai")
    for variable, value in {
        "URL": llm.url, "MODEL": "scripted", "MODE": "draft", "PRICE_IN": "10", "PRICE_OUT": "20"
    }.items():  # fmt: skip
        monkeypatch.setenv(f"TILLAGE_LLM_{variable}", value)
    steps = [
        {"operator": "decontaminate", "parameters": {"against": "$PROTECTED"}, "why": "the target overlaps"},
        {"operator": "minhash_dedup", "parameters": {}, "why": "near-copies"},
    ]
    llm.last = json.dumps({"candidates": [{"name": "mine", "summary": "x", "steps": steps}]})
    asked = ["--text", str(text), "--only", "near_copies", "--seeds", "4", "--json"]
    assert command.main([*asked, "--planner", "llm,llm-alone"]) == 0
    result = json.loads(capsys.readouterr().out.strip().split("\n")[-1])
    beside, alone = result["tasks"]
    assert (beside["planner"], alone["planner"]) == ("llm", "llm-alone")
    assert (alone["chosen"], alone["model_won"], alone["by_model"]) == ("mine", True, 1)
    assert beside["by_model"] == 1
    assert beside["recall"] > 0.9
    assert (alone["calls"], alone["tokens"], alone["money"]) == (1, 110, (100 * 10 + 10 * 20) / 1e6)
    assert result["medians"]["llm"]["tokens"] == 110
    llm.last = (500, {})
    monkeypatch.setenv("TILLAGE_LLM_ATTEMPTS", "1")
    assert command.main([*asked, "--planner", "llm,llm-alone"]) == 1
    beside, alone = json.loads(capsys.readouterr().out.strip().split("\n")[-1])["tasks"]
    assert (beside["valid"], beside["by_model"], beside["model_won"]) == (True, 0, False)
    assert not alone["valid"]
    assert "does not answer" in alone["error"]


def test_a_language_model_that_is_not_there_is_told(
    text: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("TILLAGE_LLM_URL", raising=False)
    assert command.main(["--text", str(text), "--only", "gibberish", "--planner", "llm"]) == 2
    assert "TILLAGE_LLM_URL" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        command.main(["--planner", "oracle"])


def test_wrong_arguments_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        command.main(["--only", "nonsense"])
    assert left.value.code == 2
    assert command.main(["--text", str(tmp_path), "--only", "gibberish"]) == 2
    assert "too little text" in capsys.readouterr().err
