"""The whole loop on a small corpus: every phase does its real work, twice with the same result."""

import json
import random
from pathlib import Path

import pytest

from tillage.agent.goal import Goal, goal_folder
from tillage.core.errors import UserError
from tillage.core.events import Chosen, EventLog, Note, Phase, Result, TrainStep, Utility
from tillage.core.workspace import Workspace
from tillage.data.dataset import Dataset
from tillage.loop.rounds import loop
from tillage.loop.spec import LoopSpec
from tillage.train.model import ModelSpec
from tillage.train.policies import LinUpper, RhoSelect, TargetMix
from tillage.train.policy import Auto, Chain
from tillage.train.reference import ReferenceSpec
from tillage.train.trainer import TrainSpec

SMALL = ModelSpec(layers=1, width=32, head_width=16)
SPEC = LoopSpec(
    seeds=2,
    vocab=300,
    tokenizer_bytes=100_000,
    train=TrainSpec(
        model=SMALL, seq_len=32, batch=8, tokens=12_000, reference=ReferenceSpec(model=SMALL, tokens=8_000)
    ),
    probe=TrainSpec(model=SMALL, seq_len=32, batch=8, tokens=6_000),
    probe_target_bytes=4_000,
    search_bytes=8_000,
    holdout_bytes=8_000,
    utility_documents=160,
    policy=Chain(TargetMix(), RhoSelect(keep=0.75), LinUpper(r=2.0)),
)
SYLLABLES = ["ba", "den", "fi", "gor", "la", "mes", "no", "ri", "sul", "ta", "ven", "pe"]
WORDS = [a + b + c for a in SYLLABLES for b in SYLLABLES for c in ("", "s", "ra")]


def sentence(rng: random.Random) -> str:
    # Squaring makes the first words frequent, as words are; long shared runs stay unlikely.
    words = [WORDS[int(len(WORDS) * rng.random() ** 2)] for _ in range(rng.randint(7, 12))]
    return " ".join([words[0].capitalize(), "the", *words[1:4], "of", *words[4:]]) + "."


def noise(rng: random.Random) -> str:
    return " ".join(
        "".join(rng.choice("qxzjkvw0123456789") for _ in range(rng.randint(3, 9))) for _ in range(12)
    )


def document(rng: random.Random, kind: str) -> str:
    line = sentence if kind == "prose" else noise
    return "\n".join(line(rng) for _ in range(rng.randint(8, 14)))


@pytest.fixture(scope="module")
def goal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("goal")
    rng = random.Random(1)
    rows = [{"text": document(rng, kind), "domain": kind} for kind in ("prose", "noise") for _ in range(150)]
    rows += [dict(row) for row in rows[:20]]
    lines = [json.dumps(row) for row in rows]
    lines.insert(7, '{"text": "cut')
    (folder / "raw.jsonl").write_text("\n".join(lines) + "\n")
    target = [{"text": document(rng, "prose"), "group": f"g{i % 8}"} for i in range(40)]
    (folder / "target.jsonl").write_text("".join(json.dumps(row) + "\n" for row in target))
    path = folder / "goal.yaml"
    path.write_text(
        "name: small\n"
        "task: good at prose\n"
        "sources:\n  - jsonl: {path: raw.jsonl, domain_field: domain}\n"
        "target: {path: target.jsonl, group_field: group}\n"
        "budget: {sample_rows: 200, probe_bytes: 20000, seeds: 3}\n"
    )
    return path


def run(goal: Path, home: Path):
    events = []
    done = loop(goal, Workspace(home), EventLog(None, [events.append]), spec=SPEC)
    return done, events


@pytest.fixture(scope="module")
def first(goal: Path, tmp_path_factory: pytest.TempPathFactory):
    home = tmp_path_factory.mktemp("home")
    return (*run(goal, home), home)


def test_every_phase_is_entered_and_left(first):
    _, events, _ = first
    phases = [(event.name, event.done) for event in events if isinstance(event, Phase)]
    for name in (
        "profile",
        "plan",
        "verify",
        "prepare",
        "tokenise",
        "train",
        "feedback",
        "revise",
        "verdict",
    ):
        assert (name, False) in phases
        assert (name, True) in phases


def test_four_lines_over_paired_seeds_and_what_was_prepared_is_better(first):
    done, events, _ = first
    results = {event.name: event for event in events if isinstance(event, Result)}
    assert list(results) == ["raw, plain", "prepared, plain", "prepared, dynamic", "second round"]
    assert all(len(r.values) == 2 and r.low <= r.bpb <= r.high and r.seconds > 0 for r in results.values())
    # Half of the raw rows are noise.
    assert max(results["prepared, plain"].values) < min(results["raw, plain"].values)
    assert [r["name"] for r in done["results"]] == list(results)


def test_the_accounts_balance_and_the_dataset_is_there(first):
    done, _, _ = first
    for account in done["accounts"]:
        gone = sum(account["dropped"].values()) + sum(account["quarantined"].values())
        assert account["rows_in"] == account["rows_out"] + gone
    assert done["accounts"][0]["quarantined"] == {"malformed_json": 1}
    dataset = Dataset.open(done["dataset"]["path"], done["dataset"]["version"])
    assert dataset.count() == done["accounts"][-1]["rows_out"]
    said = dataset.lineage()["contamination"]
    assert said["verdict"] == "clean"
    assert [one["against"] for one in said["sets"] if one["step"] == "gate"] == ["protected.jsonl"]
    assert Path(done["recipe"]).exists()


def test_training_gives_evidence_and_a_revision_is_decided(first):
    _, events, _ = first
    utilities = [event for event in events if isinstance(event, Utility)]
    assert {u.kind for u in utilities} >= {"domain", "bucket", "dropped"}
    assert [event.round for event in events if isinstance(event, Chosen)][-1] == 2
    dynamic = [e for e in events if isinstance(e, TrainStep) and e.arm == "prepared, dynamic"]
    assert min(e.kept for e in dynamic) < 1
    assert any(e.weight_max > 1 for e in dynamic)


def test_the_holdout_is_read_for_one_verdict(first):
    _, _, home = first
    reads = [line for path in home.glob("goals/*/reads.jsonl") for line in path.read_text().splitlines()]
    assert len(reads) == 1


def test_the_same_seed_gives_the_same_numbers(first, goal, tmp_path):
    done, _, _ = first
    again = loop(goal, Workspace(tmp_path), EventLog(), spec=SPEC.model_copy(update={"rounds": 1}))
    assert [r["values"] for r in again["results"]] == [r["values"] for r in done["results"][:3]]


def test_a_goal_without_a_target_is_refused(goal, tmp_path):
    without = Goal.from_yaml(goal).model_copy(update={"target": None})
    with pytest.raises(UserError, match="needs a target"):
        loop(without, Workspace(tmp_path), EventLog())


def test_a_training_file_lies_over_the_defaults(tmp_path):
    path = tmp_path / "training.yaml"
    path.write_text("seeds: 2\ntrain: {tokens: 5000}\npolicy: odm\n")
    spec = LoopSpec.from_yaml(path)
    assert (spec.seeds, spec.train.tokens, spec.policy.name) == (2, 5000, "odm")
    assert spec.train.reference == LoopSpec().train.reference
    path.write_text("policy: auto\n")
    assert LoopSpec.from_yaml(path).policy == Auto()
    path.write_text("seads: 2\n")
    with pytest.raises(UserError, match="seads") as error:
        LoopSpec.from_yaml(path)
    assert "seeds" in (error.value.hint or "")


def test_a_second_verdict_on_the_same_holdout_is_warned_of(first, goal):
    _, _, home = first
    events = []
    spec = SPEC.model_copy(update={"rounds": 1})
    loop(goal, Workspace(home), EventLog(None, [events.append]), spec=spec)
    warnings = [event.text for event in events if isinstance(event, Note) and event.level == "warning"]
    assert any("no longer an unbiased figure" in text for text in warnings)


def test_another_target_is_frozen_apart(goal, tmp_path):
    space = Workspace(tmp_path)
    wanted = Goal.from_yaml(goal)
    before = goal_folder(wanted, space)
    path = tmp_path / "target.jsonl"
    path.write_text((goal.parent / "target.jsonl").read_text() + '{"text": "more of it", "group": "g9"}\n')
    other = wanted.model_copy(update={"target": wanted.target.model_copy(update={"path": (str(path),)})})
    assert goal_folder(other, space) != before == goal_folder(wanted, space)
