"""The verbs of dataset versions, and the estimate of a dry run."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_project import Tillage, make_project, write_jsonl


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared")
    make_project(folder)
    return folder


def test_versions_from_the_first_run_to_the_export(
    prepared: Path, tillage: Tillage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(prepared)
    told = tillage("run", "recipe.yaml", "--dry-run", "--json").last
    assert told["estimate"]["rows"]["low"] <= 85 <= told["estimate"]["rows"]["high"]
    shown = tillage("run", "recipe.yaml", "--dry-run").out
    assert "time " in shown and "memory " in shown
    assert not list((prepared / ".tillage").glob("datasets/*"))
    first = tillage("run", "recipe.yaml")
    assert first.code == 0, first.err
    assert "against the estimate: rows " in first.out + first.err
    write_jsonl(
        prepared / "raw" / "more.jsonl", [{"text": f"word {i} " * 30, "domain": "more"} for i in range(5)]
    )
    assert tillage("run", "recipe.yaml").code == 0

    (listed,) = tillage("datasets", "--json").last["datasets"]
    assert (listed["name"], listed["versions"], listed["version"], listed["rows"]) == ("try", 2, 1, 65)
    assert "try" in tillage("datasets").out
    assert tillage("tag", "try@0", "gold").code == 0
    versions = tillage("datasets", "try", "--verify", "--json").last["versions"]
    assert [(v["version"], v["rows"], v["tags"], v["damage"]) for v in versions] == [
        (1, 65, [], []), (0, 60, ["gold"], []),
    ]  # fmt: skip
    shown = tillage("datasets", "try@gold")
    assert "exact_dedup" in shown.out
    assert "field.jsonl" in shown.out

    found = tillage("diff", "try@gold", "try", "--json").last
    assert (found["only_a"], found["only_b"], found["changed"], found["unchanged"]) == (0, 5, 0, 60)
    shown = tillage("diff", "try@0", "try@1").out
    assert "in 5, out 0, changed 0, unchanged 60" in shown
    assert "word 0 word 0" in shown

    assert tillage("rollback", "try@gold", "--json").last["version"] == 2
    assert tillage("rollback", "try").code == 2
    done = tillage("export", "try@1", "out", "--to", "hf")
    assert done.code == 0, done.err
    assert "| more | 5 |" in (prepared / "out" / "README.md").read_text()
    assert tillage("export", "try@1", "out", "--to", "parquet").code == 2
    assert tillage("tag", "try", "gold", "--remove").code == 0
    assert tillage("export", "try@gold", "other", "--to", "jsonl").code == 2

    waste = tillage("clean", "--dry-run", "--json").last
    assert tillage("clean", "--json").last["folders"] == waste["folders"]
    assert tillage("run", "recipe.yaml", "--json").last["reused"]


def test_a_damaged_dataset_fails_the_check(
    prepared: Path, tillage: Tillage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(prepared)
    assert tillage("run", "recipe.yaml", "--workspace", "other").code == 0
    (file,) = (prepared / "other" / "datasets" / "try").glob("*.parquet")
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 1
    file.write_bytes(raw)
    done = tillage("datasets", "try", "--verify", "--workspace", "other")
    assert done.code == 1
    assert "is not what was written" in done.out


def test_the_gate_refuses_and_names_the_items(
    tmp_path: Path, tillage: Tillage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    leak = write_jsonl(tmp_path / "leak.jsonl", [{"text": f"alpha beta gamma {i} " * 9} for i in range(3)])
    recipe = "name: gate\nsources: [{jsonl: {path: leak.jsonl}}]\nevaluation: [{against: exam.jsonl}]\n"
    (tmp_path / "gate.yaml").write_text(recipe)
    write_jsonl(tmp_path / "exam.jsonl", [{"text": "of something else, and long enough for a look"}])
    assert tillage("run", "gate.yaml").code == 0
    assert "evaluation sets: clean; exam.jsonl: 0 of 1" in tillage("datasets", "gate@0").out
    write_jsonl(tmp_path / "exam.jsonl", [{"text": leak.read_text().splitlines()[1][10:-2]}])
    done = tillage("run", "gate.yaml")
    assert done.code == 2
    assert "give evaluation items away" in done.err and "1 of 1 items of exam.jsonl" in done.err
    assert tillage("datasets", "gate", "--json").last["versions"][0]["version"] == 0
    run = next(r["run"] for r in tillage("runs", "--json").last["runs"] if r["status"] == "failed")
    told = tillage("contamination", run, "--json").last
    assert (told["sets"][0]["step"], told["items"][0]["item"], told["items"][0]["rows"]) == ("gate", 0, 1)
    assert "alpha beta gamma 1" in tillage("contamination", run).out
    (row,) = tillage("contamination", run, "--item", "0", "--json").last["rows"]
    assert row["id"] == told["items"][0]["ids"][0]
    assert "Contamination" in Path(tillage("report", run, "--json").last["report"]).read_text("utf-8")
    (tmp_path / "gate.yaml").write_text(recipe + "contamination: mark\n")
    assert tillage("run", "gate.yaml").code == 0
    assert (
        "evaluation sets: marked; exam.jsonl: 1 of 1 items hit by 1 rows" in tillage("datasets", "gate@1").out
    )
    (tmp_path / "gate.yaml").write_text(recipe.partition("evaluation")[0])
    ran = tillage("run", "gate.yaml", "--json").last
    assert "recipe names none" in tillage("datasets", "gate@2").out
    assert "looked for no evaluation items" in tillage("contamination", ran["run"]).out


def test_a_profile_of_chats_says_what_they_ask_for(fresh: Path, tillage: Tillage) -> None:
    turns = [("user", "Write a poem about the field."), ("assistant", "The field is wide.")]
    rows = [
        {"messages": [{"role": role, "content": f"{said} {n}"} for role, said in turns]} for n in range(20)
    ]
    write_jsonl(fresh / "chats.jsonl", rows)
    shown = tillage("profile", "chats.jsonl", "--chat", "auto")
    assert shown.code == 0, shown.err
    assert "100.0 %: write poem" in " ".join(shown.out.split())
    found = tillage("profile", "chats.jsonl", "--chat", "openai", "--json").last["actions"]
    assert (found["distinct"], found["top"]) == (1, {"write poem": 1.0})
