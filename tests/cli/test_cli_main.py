"""Exit codes, messages, lazy loading: what holds for every verb."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from cli_project import Tillage, skip_without_extra

from tillage.cli import main as cli
from tillage.cli.main import VERBS
from tillage.core.errors import UserError, WorkFailed

PROGRAM = Path(sys.executable).parent / "tillage"
HEAVY = ("daft", "torch", "numba", "pydantic_ai", "deltalake", "pyarrow", "tokenizers", "ray", "numpy")


def python(code: str) -> subprocess.CompletedProcess[str]:
    """Run `code`, which leaves its exit code in `code`. Engine threads may abort a finished interpreter."""
    leave = "import os, sys; sys.stdout.flush(); sys.stderr.flush(); os._exit(code)"
    return subprocess.run([sys.executable, "-c", f"{code}\n{leave}"], capture_output=True, text=True)


@pytest.mark.parametrize("argv", [["--help"], ["--version"], [], ["nonsense"]])
def test_help_loads_nothing_heavy(argv: list[str]) -> None:
    code = f"""
import sys
from tillage.cli.main import main
code = main({argv!r})
print("LOADED", sorted(set(sys.modules) & set({HEAVY!r})), code)
"""
    done = python(code)
    expected = 2 if argv == ["nonsense"] else 0
    assert done.returncode == expected
    assert done.stdout.rstrip().endswith(f"LOADED [] {expected}"), done.stdout + done.stderr
    assert done.stderr.count("error:") == (1 if expected else 0)


def test_help_names_every_verb(tillage: Tillage) -> None:
    done = tillage("--help")
    assert done.code == 0
    for verb in VERBS:
        assert f" {verb} " in done.out


def test_preparation_needs_no_torch_and_no_model_library() -> None:
    code = """
import sys
for name in ("torch", "pydantic_ai", "openai", "transformers", "ray", "tokenizers"):
    sys.modules[name] = None
from tillage.cli.main import main
verbs = ["profile", "plan", "check", "run", "ops", "why", "runs", "diff", "report"]
code = sum(main([verb, "--help"]) for verb in verbs)
"""
    done = python(code)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_and_json(verb: str, tillage: Tillage) -> None:
    skip_without_extra(verb)
    done = tillage(verb, "--help")
    assert done.code == 0
    for option in ("--json", "--workspace"):
        assert option in done.out
    writes = verb not in ("why", "contamination", "ops", "runs", "diff", "datasets", "ask", "mcp")
    assert ("--dry-run" in done.out) == writes


def test_a_missing_extra_is_named() -> None:
    code = """
import sys
sys.modules["torch"] = None
from tillage.cli.main import main
code = main(["train", "train.yaml"])
"""
    done = python(code)
    assert done.returncode == 2
    assert "pip install 'tillage[train]'" in done.stderr
    assert "Traceback" not in done.stderr


WRONG = [
    ["profile", "nowhere"],
    ["plan", "nowhere.yaml"],
    ["plan", "goal.yaml", "--planner", "llm", "--workspace", "other"],
    ["check", "nowhere.yaml"],
    ["run", "nowhere.yaml"],
    ["run", "."],
    ["tokenize", "nowhere"],
    ["train", "nowhere.yaml"],
    ["loop", "nowhere.yaml"],
    ["report", "nowhere"],
    ["why", "0123456789abcdef"],
    ["ops", "nonsense"],
    ["diff", "nowhere", "nothing"],
    ["runn", "recipe.yaml"],
    ["run"],
    ["demo", "--megabytes", "1"],
    ["run", "recipe.yaml", "--nonsense"],
    ["run", "recipe.yaml", "--runner", "nonsense"],
    ["check", "recipe.yaml", "--sample", "many"],
]


@pytest.mark.parametrize("argv", WRONG, ids=" ".join)
def test_wrong_input_is_told_without_a_traceback(
    argv: list[str], project: Path, tillage: Tillage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TILLAGE_LLM_URL", raising=False)
    done = tillage(*argv)
    assert done.code == 2
    assert done.err.startswith("error: ")
    assert "Traceback" not in done.out + done.err
    told = tillage(*argv, "--json")
    assert told.code == 2
    assert told.last["exit"] == 2
    assert told.last["error"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("name: a\nsources: [", "YAML"),
        ("just text", "mapping"),
        ("name: a\nsources:\n- jsonl: {path: raw/*.jsonl}\nsteps:\n- gopher_qualty: {}\n", "gopher_quality"),
        ("name: a\nsources:\n- jsonl: {path: raw/*.jsonl}\nsteps:\n- where: {kep: 'words > 1'}\n", "keep"),
        (
            "name: a\nsources:\n- jsonl: {path: raw/*.jsonl}\nsteps:\n- where: {keep: 'domian = 1'}\n",
            "domain",
        ),
        ("name: a\nsources:\n- jsonl: {path: none/*.jsonl}\n", "none"),
        ("", "mapping"),
    ],
)
def test_wrong_recipes_are_told_with_the_nearest_name(
    content: str, said: str, fresh: Path, tillage: Tillage
) -> None:
    Path("wrong.yaml").write_text(content)
    for verb in ("check", "run"):
        done = tillage(verb, "wrong.yaml")
        assert done.code == 2
        assert said in done.out + done.err
        assert "Traceback" not in done.err


def test_errors_become_exit_codes(monkeypatch: pytest.MonkeyPatch, tillage: Tillage) -> None:
    def raising(error: BaseException) -> None:
        def app(_: list[str]) -> None:
            raise error

        monkeypatch.setattr(cli, "make_app", lambda: app)

    raising(UserError("wrong", where="here", got="this", expected="that", hint="do so"))
    done = tillage("runs")
    assert (done.code, done.err) == (
        2, "error: wrong\n  where: here\n  got: this\n  expected: that\n  hint: do so\n",
    )  # fmt: skip
    raising(WorkFailed("failed"))
    assert tillage("runs").code == 1
    assert tillage("runs", "--json").last == {"error": "failed", "exit": 1}
    raising(KeyboardInterrupt())
    assert tillage("runs").code == 130
    raising(RuntimeError("a fault of ours"))
    done = tillage("runs", "--json")
    assert done.code == 1
    assert "Traceback" in done.err
    assert done.last == {"error": "RuntimeError: a fault of ours", "exit": 1}


def test_an_interrupt_is_told_by_every_verb(tillage: Tillage, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tillage.cli.verbs.ops.catalogue", interrupted)
    done = tillage("ops")
    assert done.code == 130
    assert done.err.startswith("interrupted;")


def test_the_program_leaves_with_the_code_and_all_its_output(project: Path) -> None:
    done = subprocess.run([PROGRAM, "ops", "--json"], capture_output=True, text=True)
    assert done.returncode == 0
    assert len(json.loads(done.stdout)["operators"]) > 10
    done = subprocess.run([PROGRAM, "ops", "nonsense"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: unknown operator 'nonsense'")


def test_a_reader_that_goes_away_is_no_fault() -> None:
    process = subprocess.Popen([PROGRAM, "ops", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    assert process.wait() == 141
    assert err == b""


def test_the_workspace_can_be_named(project: Path, tillage: Tillage, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(tillage("runs", "--json").last["runs"]) == 2
    assert tillage("runs", "--json", "--workspace", "elsewhere").last["runs"] == []
    monkeypatch.setenv("TILLAGE_HOME", str(project / "elsewhere"))
    assert tillage("runs", "--json").last["runs"] == []
    assert not os.path.exists("elsewhere")
