"""A filter that is wrong: training says so, and the loop takes it back."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pyarrow as pa
import pytest
from test_rounds import SPEC, document

from tillage.core.events import Chosen, EventLog, Note, Result, StepAccount, Utility
from tillage.core.workspace import Workspace
from tillage.data.dataset import Dataset
from tillage.flow.recipe import Recipe
from tillage.loop.rounds import loop
from tillage.train.policies import Proportional


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory):
    """The loop on prose and noise, with a filter planted that drops most of the prose."""
    folder = tmp_path_factory.mktemp("wrong")
    rng = random.Random(3)
    rows = [
        {"id": f"{kind}-{i}", "text": document(rng, kind), "domain": kind}
        for kind in ("prose", "noise")
        for i in range(150)
    ]
    (folder / "raw.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    target = [{"text": document(rng, "prose"), "group": f"g{i % 8}"} for i in range(40)]
    (folder / "target.jsonl").write_text("".join(json.dumps(row) + "\n" for row in target))
    goal = folder / "goal.yaml"
    goal.write_text(
        "name: wrong\ntask: good at prose\n"
        "sources:\n  - jsonl: {path: raw.jsonl, id_field: id, domain_field: domain}\n"
        "target: {path: target.jsonl, group_field: group}\n"
        "budget: {sample_rows: 200, probe_bytes: 20000, seeds: 3}\n"
    )
    recipe = Recipe.from_yaml(
        "name: planted\n"
        "sources:\n  - jsonl: {path: raw.jsonl, domain_field: domain}\n"
        "steps:\n"
        f"  - decontaminate: {{against: {folder / 'target.jsonl'}}}\n"
        "  - where: {keep: \"domain <> 'prose' or words < 105\", reason: planted}\n    id: wrong\n"
        "dataset: wrong\n",
        base=folder,
    )
    seen: list[object] = []
    spec = SPEC.model_copy(update={"rounds": 5, "policy": Proportional()})
    done = loop(goal, Workspace(folder / "home"), EventLog(None, [seen.append]), spec=spec, recipe=recipe)
    return done, seen


def test_the_step_is_found_by_what_it_drops(told) -> None:
    _, seen = told
    planted = [
        u for u in seen if isinstance(u, Utility) and u.kind == "dropped" and u.key.startswith("wrong:")
    ]
    assert planted and planted[0].low > 0
    notes = [e.text for e in seen if isinstance(e, Note)]
    assert any("what wrong drops" in text and "left out" in text for text in notes)
    assert any(text.startswith("collect more of domain prose") for text in notes)


def test_the_rows_are_let_in_again_and_training_gets_better(told) -> None:
    done, seen = told
    assert "wrong" not in [s.id for s in Recipe.from_yaml(Path(done["recipe"])).steps]
    books = [e for e in seen if isinstance(e, StepAccount) and e.step == "wrong"]
    assert [e.dropped["planted"] for e in books] == [115]  # in the first full run, and in no later one
    dataset = Dataset.open(done["dataset"]["path"], done["dataset"]["version"])
    kept = pa.Table.from_batches(list(dataset.batches()))
    assert kept["domain"].to_pylist().count("prose") > 2 * (150 - 115)
    results = {e.name: e for e in seen if isinstance(e, Result)}
    assert max(results["second round"].values) < min(results["prepared, plain"].values)


def test_the_loop_ends_where_nothing_improves(told) -> None:
    _, seen = told
    chosen = [e for e in seen if isinstance(e, Chosen)]
    assert [e.round for e in chosen] == list(range(2, len(chosen) + 2)) and len(chosen) < 4
    assert "reverted" in chosen[-1].why
