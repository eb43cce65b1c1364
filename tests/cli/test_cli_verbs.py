"""Each verb on small real data: its JSON, its lines, and that a dry run writes nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from cli_project import Tillage, skip_without_extra, tree, write_jsonl

from tillage.core.events import Committed, Finished, Started, StepAccount
from tillage.report.log import Log

ROWS, SHORT, COPIES = 85, 15, 10


def run_names(tillage: Tillage) -> tuple[str, str]:
    """The two runs of the project: the other recipe's and the recipe's."""
    found = tillage("runs", "--json").last["runs"]
    by_version = {run["dataset"]["version"]: run["run"] for run in found}
    return by_version[1], by_version[0]


def test_profile_counts_what_is_there(project: Path, tillage: Tillage) -> None:
    done = tillage("profile", "raw", "--domain-field", "domain", "--json")
    assert done.code == 0
    assert done.last["documents"] == ROWS
    assert set(done.last["domains"]) == {"field", "short"}
    assert "profiled a sample of 85 documents" in done.err
    plain = tillage("profile", "raw", "--domain-field", "domain", "--target", "target.jsonl")
    assert "overlap with the target" in plain.out
    assert "field" in plain.out


def test_check_tells_whether_the_contract_holds(project: Path, tillage: Tillage) -> None:
    done = tillage("check", "recipe.yaml", "--json")
    assert (done.code, done.last["findings"]) == (0, [])
    sampled = tillage("check", "recipe.yaml", "--sample", "40", "--json")
    assert sampled.code == 0
    accounts = sampled.last["accounts"]
    assert accounts[0]["rows_in"] == 40
    for step in accounts:
        lost = sum(step["dropped"].values()) + sum(step["quarantined"].values())
        assert step["rows_in"] == step["rows_out"] + lost


def test_run_commits_and_goes_on(fresh: Path, tillage: Tillage) -> None:
    first = tillage("run", "recipe.yaml", "--json")
    assert first.code == 0
    assert first.last["dataset"]["version"] == 0
    assert [step["rows_out"] for step in first.last["accounts"]] == [
        ROWS,
        ROWS - SHORT,
        ROWS - SHORT - COPIES,
    ]
    again = tillage("run", "recipe.yaml", "--json")
    assert again.last["digest"] == first.last["digest"]
    assert again.last["reused"]
    plain = tillage("run", "recipe.yaml")
    assert "committed" in plain.out
    assert "digest" in plain.out
    log = Log.read(Path(first.last["folder"]))
    assert len(log.all(StepAccount)) == 3
    assert log.last(Committed) is not None


def test_why_tells_a_dropped_rows_life(project: Path, tillage: Tillage) -> None:
    _, run = run_names(tillage)
    log = Log.read(project / ".tillage" / "runs" / run)
    dropped = next(event.id for event in log.events if getattr(event, "kept", True) is False)
    done = tillage("why", dropped, "--run", run, "--json")
    assert done.code == 0
    assert [fact["outcome"] for fact in done.last["facts"]][:2] == ["read", "dropped"]
    assert "dropped" in tillage("why", dropped).out


def test_diff_shows_the_changed_bound(project: Path, tillage: Tillage) -> None:
    other, run = run_names(tillage)
    done = tillage("diff", run, other, "--json")
    assert done.code == 0
    assert done.last["only_b"] == 0
    assert done.last["only_a"] > 0
    shown = tillage("diff", run, other).out
    assert "-    keep: words >= 20" in shown
    assert "+    keep: words >= 50" in shown


def test_report_draws_a_run(project: Path, tillage: Tillage, tmp_path: Path) -> None:
    _, run = run_names(tillage)
    page = tmp_path / "page.html"
    done = tillage("report", run, "--out", page, "--json")
    assert done.code == 0
    assert done.last["report"] == str(page)
    assert "All steps balance" in page.read_text("utf-8")


def test_ops_describes(tillage: Tillage) -> None:
    assert "minhash_dedup" in tillage("ops").out
    about = tillage("ops", "where", "--json").last
    assert about["name"] == "where"
    assert any(parameter["name"] == "keep" for parameter in about["parameters"])


def test_plan_proposes_verifies_and_writes(fresh: Path, tillage: Tillage) -> None:
    done = tillage("plan", "goal.yaml", "-o", "best.yaml", "--top", "sample", "--json")
    assert done.code == 0, done.err
    assert len(done.last["candidates"]) >= 3
    assert done.last["recipe"] == "best.yaml"
    assert tillage("check", "best.yaml").code == 0
    log = Log.read(fresh / ".tillage" / "runs" / done.last["run"])
    assert isinstance(log.events[0], Started)
    assert isinstance(log.events[-1], Finished)
    assert log.events[-1].status == "done"
    assert tillage("report", done.last["run"]).code == 0
    assert [run["kind"] for run in tillage("runs", "--json").last["runs"]] == ["plan"]
    again = tillage("plan", "goal.yaml", "-o", "best.yaml", "--top", "sample", "--json")
    assert again.last["candidates"] == done.last["candidates"]
    assert (fresh / ".tillage" / "runs" / done.last["run"] / "events.1.jsonl").exists()


def test_tokenize_and_train(project: Path, tillage: Tillage, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    space = tmp_path / "space"
    shutil.copytree(project / ".tillage", space)
    store = tmp_path / "store"
    made = tillage(
        "tokenize",
        "try",
        "--version",
        "0",
        "--store",
        store,
        "--vocab",
        "300",
        "--workspace",
        space,
        "--json",
    )
    assert made.code == 0, made.err
    assert made.last["documents"] == ROWS - SHORT - COPIES
    job = tmp_path / "train.yaml"
    shape = "{layers: 1, width: 16, head_width: 8}"
    job.write_text(
        f"store: {store}\ntargets: {{farm: {project / 'target.jsonl'}}}\n"
        f"train: {{arm: 'a, small', seq_len: 16, batch: 2, tokens: 320, model: {shape}}}\n"
    )
    done = tillage("train", job, "--workspace", space, "--json")
    assert done.code == 0, done.err
    assert done.last["steps"] == 10
    assert done.last["bpb"]["farm"] > 0
    assert tillage("report", done.last["run"], "--workspace", space).code == 0
    row = Log.read(space / "runs" / run_names(tillage)[1]).all(Committed)[0]
    assert row.rows == ROWS - SHORT - COPIES
    found = tillage("runs", "--workspace", space, "--json").last["runs"]
    assert done.last["run"] in [run["run"] for run in found]


DRY = [
    ["run", "recipe.yaml", "--no-probe"],
    ["check", "recipe.yaml", "--sample", "20"],
    ["profile", "raw"],
    ["plan", "goal.yaml", "-o", "best.yaml"],
    ["demo"],
    ["loop", "goal.yaml"],
]


@pytest.mark.parametrize("argv", DRY, ids=" ".join)
def test_a_dry_run_says_what_and_writes_nothing(argv: list[str], fresh: Path, tillage: Tillage) -> None:
    skip_without_extra(argv[0])
    before = tree(fresh)
    done = tillage(*argv, "--dry-run")
    assert done.code == 0, done.err
    assert done.out.startswith("would ")
    assert "nothing was written" in done.out
    told = tillage(*argv, "--dry-run", "--json").last
    assert told["dry_run"] is True
    assert told["writes"]
    assert tree(fresh) == before


def test_chats_are_tokenized_and_branches_trained(
    tmp_path: Path, tillage: Tillage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From records of chats to a store in which answers are learned, and two budgets out of one run."""
    skip_without_extra("train")
    monkeypatch.chdir(tmp_path)
    rows = [{"instruction": f"what is field {i}?", "output": f"a farm of {i} and rain"} for i in range(60)]
    write_jsonl(tmp_path / "chats.jsonl", rows)
    Path("recipe.yaml").write_text("name: chats\nsources:\n- jsonl: {path: chats.jsonl, chat: auto}\n")
    assert tillage("run", "recipe.yaml", "--json").code == 0
    made = tillage("tokenize", "chats", "--vocab", "300", "--chat", "plain", "--json")
    assert made.code == 0, made.err
    manifest = json.loads(Path(made.last["store"], "manifest.json").read_text())
    assert manifest["chat"] == "plain" and manifest["files"]["mask.bin"] == manifest["tokens"]
    refused = tillage("tokenize", "chats", "--chat", "template")
    assert refused.code == 2 and "--tokenizer FOLDER" in refused.err
    train = {
        "model": {"layers": 1, "width": 32, "head_width": 16}, "seq_len": 64, "batch": 2,
        "tokens": 64 * 2 * 8, "policy": "uniform",
    }  # fmt: skip
    job = {"store": made.last["store"], "train": train, "branches": [64 * 2 * 4]}
    Path("train.yaml").write_text(json.dumps(job))
    done = tillage("train", "train.yaml", "--json")
    assert done.code == 0, done.err
    assert done.last["steps"] == 8 and list(done.last["branches"]) == ["512"]


@pytest.mark.parametrize("verb", ["report", "tokenize"])
def test_a_dry_run_on_results_writes_nothing(verb: str, project: Path, tillage: Tillage) -> None:
    pytest.importorskip("torch")
    subject = run_names(tillage)[1] if verb == "report" else "try"
    before = tree(project)
    done = tillage(verb, subject, "--dry-run")
    assert done.code == 0
    assert "nothing was written" in done.out
    assert tree(project) == before


def test_an_unwritable_workspace_is_told(fresh: Path, tillage: Tillage) -> None:
    Path("file").write_text("")
    done = tillage("run", "recipe.yaml", "--workspace", "file/below")
    assert done.code == 2
    assert "cannot write here" in done.err


def test_too_much_quarantine_fails_the_work(fresh: Path, tillage: Tillage) -> None:
    with Path("raw/field.jsonl").open("a") as out:
        out.write("not json\n" * 5)
    done = tillage("run", "recipe.yaml", "--json")
    assert done.code == 1
    assert "malformed_json 5" in done.last["got"]
    assert not (fresh / ".tillage" / "datasets" / "try").exists()
    found = json.loads((next((fresh / ".tillage" / "runs").glob("*/run.json"))).read_text())
    assert found["status"] == "failed"
