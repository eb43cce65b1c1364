"""Synthesised predicates: denied what they must not have, stopped in time, vetted before use."""

from __future__ import annotations

import pickle

import daft
import pyarrow as pa
import pytest

pytest.importorskip("pydantic_monty")

from tillage.agent import sandbox
from tillage.agent.sandbox import Limits, run_entry, run_predicate
from tillage.agent.synthesis import SANDBOXED, Case, SandboxedFilter, make, vet, vet_cases
from tillage.core.errors import UserError, WorkFailed
from tillage.ops.base import Operator, operators
from tillage.ops.conformance import conform

LONG = "def keep(text):\n    return len(text.split()) >= 3\n"


def test_predicate_runs() -> None:
    assert run_predicate(LONG, ["a b c", "a", "ü 中 🙂"]) == [True, False, True]


@pytest.mark.parametrize(
    ("body", "match"),
    [
        # Files and the environment.
        ("from pathlib import Path\n    return Path('/etc/passwd').exists()", "imports 'pathlib'"),
        ("return open('/etc/passwd').read() != ''", "uses 'open'"),
        ("import os\n    return bool(os.environ)", "imports 'os'"),
        # Network, processes, threads, foreign code.
        ("import socket\n    return True", "imports 'socket'"),
        ("import subprocess\n    return True", "imports 'subprocess'"),
        ("from os import fork\n    return fork() == 0", "imports 'os'"),
        ("import multiprocessing as m\n    return True", "imports 'multiprocessing'"),
        ("import ctypes\n    return True", "imports 'ctypes'"),
        ("return __import__('os') is not None", "uses '__import__'"),
        ("return eval('1') == 1", "uses 'eval'"),
        # Time and memory.
        ("while True: pass", "TimeoutError"),
        ("import re\n    return bool(re.match('(a+)+$', 'a' * 60 + 'b'))", ""),
        ("return bool([0] * 10**10)", "MemoryError"),
        ("x = 'a'\n    while True: x = x + x", "MemoryError"),
        ("return 10 ** 10 ** 8 > 0", "MemoryError"),
        ("return all(x == 0 for x in iter(int, 1))", "MemoryError|TimeoutError"),
        ("return keep(text)", "RecursionError"),
        ("x = []\n    for i in range(10**6): x = [x]\n    return str(x) != ''", "Error"),
        # Output, of which none may reach this process's own.
        ("print('x' * 10**8)\n    return True", "MemoryError"),
        ("while True: print('x' * 1000)", "MemoryError"),
        # Walks along attributes.
        ("return ().__class__.__bases__[0].__subclasses__() != []", "AttributeError"),
        ("return keep.__globals__ != {}", "AttributeError"),
        ("return (lambda: 0).__code__ is not None", "AttributeError"),
        ("return getattr(text, '__cl' + 'ass__') is not None", "AttributeError"),
        ("return '{0.__class__.__init__}'.format(text) != ''", "AttributeError"),
        ("return __builtins__ is not None", "NameError"),
        ("return globals() != {}", "NameError"),
        # What is merely wrong.
        ("raise SystemExit(0)", "Error"),
        ("return 1 / 0 > 0", "ZeroDivisionError"),
        ("return 'yes'", "True or False"),
    ],
)
def test_what_is_denied_or_stopped(body: str, match: str, capfd: pytest.CaptureFixture[str]) -> None:
    limits = Limits(seconds=0.2, memory_mb=32)
    if match:
        with pytest.raises(UserError, match=match):
            run_predicate(f"def keep(text):\n    {body}\n", ["text"], limits)
    else:  # an engine without backtracking: the classical trap is none
        assert run_predicate(f"def keep(text):\n    {body}\n", ["text"], limits) == [False]
    printed = capfd.readouterr()
    assert (printed.out, printed.err) == ("", "")


@pytest.mark.parametrize(
    ("entry", "code"),
    [
        ("rewrite", "def rewrite(text):\n    return 'x' * 10**8\n"),
        ("measure", "def measure(text):\n    return {str(i): 'x' * 1000 for i in range(10**6)}\n"),
    ],
)
def test_huge_results_are_stopped(entry: str, code: str) -> None:
    with pytest.raises(UserError, match=r"MemoryError|TimeoutError"):
        run_entry(code, entry, ["text"], Limits(seconds=0.5, memory_mb=32))


@pytest.mark.parametrize("module", ["os", "pathlib", "socket", "sys", "subprocess"])
def test_the_interpreter_denies_without_the_review(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The list of modules is for clear messages; taken away, nothing gets out all the same."""
    monkeypatch.setattr(sandbox, "review", lambda code: None)
    uses = {
        "os": "os.listdir('/') != []",
        "pathlib": "pathlib.Path('/etc/passwd').read_text() != ''",
        "sys": "sys.modules['os'] is not None",
    }
    body = f"import {module}\n    return {uses.get(module, 'True')}"
    with pytest.raises(WorkFailed, match=r"PermissionError|ModuleNotFoundError|AttributeError"):
        run_predicate(f"def keep(text):\n    {body}\n", ["text"])


def test_clock_and_dice_stand_still() -> None:
    code = (
        "import datetime\n\ndef rewrite(text):\n    return str(datetime.datetime.now().year) + ' ' + text\n"
    )
    assert run_entry(code, "rewrite", ["a"]) == ["2000 a"]


def test_wrong_source() -> None:
    with pytest.raises(UserError, match="not valid"):
        run_predicate("def keep(:", ["x"])
    with pytest.raises(UserError, match="not valid"):
        run_predicate("(" * 5000, ["x"])
    with pytest.raises(UserError, match="no such function"):
        run_predicate("def other(text): return True", ["x"])


def test_operator_drops_with_its_reason() -> None:
    step = SandboxedFilter(code=LONG)
    assert operators.get("sandboxed_filter") is SandboxedFilter
    assert pickle.loads(pickle.dumps(step)) == step
    frame = daft.from_arrow(pa.table({"text": pa.array(["a b c", "a", None], pa.large_string())}))
    got = step.apply(frame).with_columns(step.reasons()).to_pydict()
    assert got["predicate"] == [False, True, None]


@pytest.mark.parametrize("cls", SANDBOXED)
def test_operators_conform(cls: type[Operator]) -> None:
    assert conform(cls.example()) == []


LOG = [
    Case(
        text="2024-01-02 ERROR disk is full",
        values={"level": "ERROR", "size": 12},
        rewritten="disk is full",
    ),
    Case(text="2024-01-03 INFO all is well", values={"level": "INFO", "size": 11}, rewritten="all is well"),
    Case(text="no log line", values={"level": None, "size": None}),
]


def test_maps_and_annotations_are_vetted() -> None:
    split = "p = text.split(' ', 2)\n    ok = len(p) == 3 and len(p[0]) == 10\n"
    measure = (
        f"def measure(text):\n    {split}    return {{'level': p[1], 'size': len(p[2])}} if ok else {{}}\n"
    )
    op = make("annotate", measure, {"level": "string", "size": "integer"})
    assert vet_cases(op, LOG) == vet_cases(op, LOG)
    assert (vet_cases(op, LOG).precision, vet_cases(op, LOG).recall) == (1.0, 1.0)
    rewrite = make("map", f"def rewrite(text):\n    {split}    return p[2] if ok else text\n")
    assert (vet_cases(rewrite, LOG).precision, vet_cases(rewrite, LOG).recall) == (1.0, 1.0)
    upper = vet_cases(make("map", "def rewrite(text):\n    return text.upper()\n"), LOG)
    assert (upper.precision, upper.recall) == (0.0, 0.0)
    assert len(upper.wrong) == 3
    with pytest.raises(UserError, match="ask for nothing"):
        vet_cases(rewrite, LOG[2:])
    with pytest.raises(WorkFailed, match="declared integer"):
        vet_cases(make("annotate", measure, {"level": "integer"}), LOG)


def test_annotation_adds_typed_columns() -> None:
    op = make(
        "annotate", "def measure(text):\n    return {'n': len(text)}\n", {"n": "integer", "m": "number"}
    )
    table = pa.table({"text": pa.array(["ab", None], pa.large_string())})
    got = op.apply(daft.from_arrow(table)).to_arrow()
    assert got.schema.field("n").type == pa.int64()
    assert got.to_pydict() == {"text": ["ab", None], "n": [2, None], "m": [None, None]}
    with pytest.raises(UserError, match="cannot be the name"):
        make("annotate", "x", {"no name": "string"})


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
