from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_project import Done, Tillage, make_project

from tillage.cli.main import main


@pytest.fixture
def tillage(capfd: pytest.CaptureFixture[str]) -> Tillage:
    """Runs one command line in this process."""

    def run(*argv: str | Path) -> Done:
        capfd.readouterr()
        code = main([str(arg) for arg in argv])
        captured = capfd.readouterr()
        return Done(code, captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project in which the recipe was run once. Tests only read it."""
    folder = tmp_path_factory.mktemp("project")
    make_project(folder)
    before = Path.cwd()
    os.chdir(folder)
    try:
        assert main(["run", "recipe.yaml", "--json"]) == 0
        assert main(["run", "other.yaml", "--json"]) == 0
    finally:
        os.chdir(before)
    return folder


@pytest.fixture
def project(built: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The built project as the current folder."""
    monkeypatch.chdir(built)
    monkeypatch.delenv("TILLAGE_HOME", raising=False)
    return built


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A new project in which nothing has been done, as the current folder."""
    make_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TILLAGE_HOME", raising=False)
    yield tmp_path
