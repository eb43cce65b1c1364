"""`tillage ops learn`, `write` and `promote`, from the command line to a recipe that runs."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from cli_project import Tillage, write_jsonl

sys.path.insert(0, str(Path(__file__).parent.parent / "llm"))  # for the scripted server

from scripted_llm import llm

from tillage.ops.base import operators
from tillage.ops.conformance import conform

__all__ = ["llm"]

GOOD = [{"text": f"The farm has {i} fields and rain falls on each of them."} for i in range(12)]
BAD = [{"text": f"BUY {i} NOW!!!"} for i in range(12)]
TESTS = [{"text": row["text"], "keep": True} for row in GOOD[:3]]
TESTS += [{"text": row["text"], "keep": False} for row in BAD[:3]]


def test_a_filter_is_learned_and_runs(fresh: Path, tillage: Tillage) -> None:
    good, bad = write_jsonl(fresh / "good.jsonl", GOOD), write_jsonl(fresh / "bad.jsonl", BAD)
    done = tillage("ops", "learn", "--good", good, "--bad", bad, "-o", "step.yaml", "--json")
    assert done.code == 0, done.err
    assert done.last["precision"] == done.last["recall"] == 1.0
    recipe = yaml.safe_load(Path("recipe.yaml").read_text())
    write_jsonl(fresh / "rows.jsonl", [*GOOD, *BAD])
    recipe |= {
        "sources": [{"jsonl": {"path": "rows.jsonl"}}],
        "steps": yaml.safe_load(Path("step.yaml").read_text()),
    }
    Path("learned.yaml").write_text(yaml.safe_dump(recipe))
    (_, books) = tillage("run", "learned.yaml", "--json").last["accounts"]
    assert books["dropped"] == {"learned": 12}


def test_a_rewrite_is_learned(fresh: Path, tillage: Tillage) -> None:
    pairs = [{"before": f"{i}) row {i}", "after": f"row {i}"} for i in range(8)]
    done = tillage("ops", "learn", "--pairs", write_jsonl(fresh / "pairs.jsonl", pairs), "--json")
    assert done.last["step"]["edit"]["program"] == [{"do": "prefix", "what": "<d>) "}]


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--good", "recipe.yaml"),
        ("--pairs", "nowhere.jsonl"),
        ("--pairs", "recipe.yaml"),
        ("--pairs", "target.jsonl"),
    ],
)
def test_wrong_input_to_learn(arguments: tuple[str, ...], fresh: Path, tillage: Tillage) -> None:
    assert tillage("ops", "learn", *arguments).code == 2


def test_an_operator_is_written_run_and_promoted(
    llm: Any, fresh: Path, tillage: Tillage, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pydantic_monty")
    assert tillage("ops", "write", "drop adverts").code == 2  # no language model is named
    monkeypatch.setenv("TILLAGE_LLM_URL", llm.url)
    monkeypatch.setenv("TILLAGE_LLM_MODEL", "scripted")
    source = "def keep(text):\n    return '!!!' not in text\n"
    llm.answers = [
        json.dumps({"name": "no_adverts", "code": source, "why": "x", "tests": TESTS, "values": {}})
    ]
    rows = [*({**row, "keep": True} for row in GOOD), *({**row, "keep": False} for row in BAD)]
    done = tillage(
        "ops", "write", 'drop """adverts"""', "--examples", write_jsonl(fresh / "cases.jsonl", rows), "--json"
    )
    assert done.code == 0, done.err
    assert (done.last["name"], done.last["judged_on"], done.last["recall"]) == ("no_adverts", "given", 1.0)
    recipe = yaml.safe_load(Path("recipe.yaml").read_text())
    write_jsonl(fresh / "rows.jsonl", [*GOOD, *BAD])
    recipe |= {"sources": [{"jsonl": {"path": "rows.jsonl"}}], "steps": [done.last["step"]]}
    Path("made.yaml").write_text(yaml.safe_dump(recipe))
    ran = tillage("run", "made.yaml", "--json").last
    assert ran["accounts"][-1]["dropped"] == {"predicate": 12}
    assert "'!!!' not in text" in (Path(ran["folder"]) / "recipe.yaml").read_text()

    assert tillage("ops", "promote", "no_adverts").code == 0
    assert tillage("ops", "promote", "no_adverts").code == 2  # it does not overwrite
    assert tillage("ops", "promote", "no_advert").code == 2
    spec = importlib.util.spec_from_file_location("no_adverts", "no_adverts.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "no_adverts", module)
    try:
        spec.loader.exec_module(module)
        assert conform(module.NoAdverts()) == []
        assert all(module.keep(case["text"]) == case["keep"] for case in module.CASES)
    finally:
        operators._classes.pop("no_adverts", None)


@pytest.mark.parametrize("kind", ["map", "annotate"])
def test_promoted_maps_and_annotations_conform(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pydantic_monty")
    from tillage.agent.library import Entry
    from tillage.agent.promote import source_of

    code = {
        "map": "def rewrite(text):\n    return text.strip()\n",
        "annotate": "def measure(text):\n    return {'n': len(text)}\n",
    }
    entry = Entry(
        name=f"made_{kind}",
        need="a\nneed",
        kind=kind,
        code=code[kind],
        values={"n": "integer"} if kind == "annotate" else {},
        author="m",
        judged_on="judged on its own rows",
        precision=1,
        recall=1,
        examples=4,
    )
    module: dict[str, Any] = {"__name__": f"made_{kind}"}
    try:
        exec(compile(source_of(entry), "made.py", "exec"), module)
        assert conform(module[f"Made{kind.capitalize()}"]()) == []
    finally:
        operators._classes.pop(f"made_{kind}", None)
