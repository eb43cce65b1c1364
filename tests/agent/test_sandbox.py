"""Synthesised predicates: denied what they must not have, stopped in time, vetted before use."""

from __future__ import annotations

import pickle

import daft
import pyarrow as pa
import pytest

pytest.importorskip("pydantic_monty")

from tillage.agent.sandbox import Limits, run_predicate
from tillage.agent.synthesis import SandboxedFilter, vet
from tillage.core.errors import UserError, WorkFailed
from tillage.ops.base import operators
from tillage.ops.conformance import conform

LONG = "def keep(text):\n    return len(text.split()) >= 3\n"


def test_predicate_runs() -> None:
    assert run_predicate(LONG, ["a b c", "a", "ü 中 🙂"]) == [True, False, True]


@pytest.mark.parametrize(
    ("body", "match"),
    [
        ("return open('/etc/passwd').read() != ''", "PermissionError"),
        ("import os\n    return bool(os.listdir('/'))", "PermissionError"),
        ("import socket\n    return True", "ModuleNotFoundError"),
        ("import subprocess\n    return True", "ModuleNotFoundError"),
        ("while True: pass", "TimeoutError"),
        ("return bool([0] * 10**10)", "MemoryError"),
        ("return keep(text)", "RecursionError"),
        ("return 1 / 0 > 0", "ZeroDivisionError"),
        ("return 'yes'", "True or False"),
    ],
)
def test_what_is_denied_or_stopped(body: str, match: str) -> None:
    with pytest.raises(WorkFailed, match=match):
        run_predicate(f"def keep(text):\n    {body}\n", ["text"], Limits(seconds=0.2, memory_mb=32))


def test_wrong_source() -> None:
    with pytest.raises(UserError, match="not valid"):
        run_predicate("def keep(:", ["x"])
    with pytest.raises(UserError, match="no such function"):
        run_predicate("def other(text): return True", ["x"])


def test_operator_drops_with_its_reason() -> None:
    step = SandboxedFilter(code=LONG)
    assert operators.get("sandboxed_filter") is SandboxedFilter
    assert pickle.loads(pickle.dumps(step)) == step
    frame = daft.from_arrow(pa.table({"text": pa.array(["a b c", "a", None], pa.large_string())}))
    got = step.apply(frame).with_columns(step.reasons()).to_pydict()
    assert got["predicate"] == [False, True, None]


def test_operator_conforms() -> None:
    assert conform(SandboxedFilter.example()) == []


def test_vetting_measures_precision_and_recall() -> None:
    vetting = vet(LONG, keep=["a b c", "one two three", "x"], drop=["a", "b c", "spam spam spam spam"])
    assert vetting.precision == pytest.approx(2 / 3)
    assert vetting.recall == pytest.approx(2 / 3)
    assert vetting.wrong == ["x", "spam spam spam spam"]
    assert not vetting.passes()
    assert vet("def keep(text): return True", ["a"], ["b"]).precision == 0.0
    with pytest.raises(UserError, match="order"):
        vet(
            "n = [0]\ndef keep(text):\n    n[0] = n[0] + 1\n    return n[0] % 2 == 0\n",
            ["a"],
            ["b", "c", "d"],
        )
