"""What `make` and `.ci/run` would do, without doing it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="no make here")


def make(*words: str) -> subprocess.CompletedProcess[str]:
    # Under `make test` this is a make in a make: the outer one's flags must not leak in.
    outer = ("MAKE", "MFLAGS", "VENV", "ARGS", "TESTS", "PYTHON")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(outer)}
    return subprocess.run(["make", *words], cwd=ROOT, env=environment, capture_output=True, text=True)


def dry_run(*words: str) -> str:
    done = make("-n", *words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_new_environment_is_made_and_installed_before_the_demo(tmp_path: Path) -> None:
    plan = dry_run("demo", f"VENV={tmp_path / 'venv'}", "ARGS=--json --seed 3")
    steps = [plan.index(word) for word in ("-m venv", "pip install", "bin/tillage demo --json --seed 3")]
    assert steps == sorted(steps)
    assert "-c constraints.txt -e '.[train,agent]'" in plan


def test_every_check_runs_and_the_tests_come_last(tmp_path: Path) -> None:
    plan = dry_run("test", f"VENV={tmp_path / 'venv'}")
    words = (
        "ruff check",
        "ruff format --check",
        "basedpyright",
        "lint-imports",
        "bin/pytest -n 2 --dist loadfile tests",
    )
    steps = [plan.rindex(word) for word in words]
    assert steps == sorted(steps)
    assert plan.rstrip().endswith("bin/pytest -n 2 --dist loadfile tests")


def test_nothing_names_a_registry() -> None:
    for name in ("Makefile", ".ci/run", "constraints.txt", "pyproject.toml"):
        text = (ROOT / name).read_text("utf-8")
        assert not re.search(r"https?://|--(extra-)?index-url|--find-links", text), name


def test_an_old_or_missing_python_is_told(tmp_path: Path) -> None:
    done = make("demo", f"VENV={tmp_path / 'venv'}", "PYTHON=no-such-python")
    assert done.returncode != 0
    assert "needs Python 3.11 or newer; no-such-python is missing" in done.stdout
    assert not (tmp_path / "venv").exists()


def test_ci_ends_with_the_tests_in_an_environment_of_its_own() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    last = script.read_text("utf-8").rstrip().splitlines()[-1]
    assert last == 'make test VENV="$folder/venv" "$@"'
    assert subprocess.run(["sh", "-n", str(script)]).returncode == 0
