"""A small project with data, recipes and a goal, and what a command said, for the tests of the commands."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from random import Random
from typing import Any

import pytest

WORDS = (
    "the model of a small farm and the data that it has to be with all of you when rain falls on that field"
)


@dataclass
class Done:
    """The end of one command: its code, and what it printed."""

    code: int
    out: str
    err: str

    @property
    def last(self) -> dict[str, Any]:
        """The JSON object on the last line of standard output."""
        return json.loads(self.out.rstrip("\n").rpartition("\n")[2])


Tillage = Callable[..., Done]


TRAINS = {"demo", "loop", "tokenize", "train"}


def skip_without_extra(verb: str) -> None:
    """Skip the test of a verb whose extra is not installed; that it says so is tested on its own."""
    if verb in TRAINS and not (find_spec("torch") and find_spec("tokenizers")):
        pytest.skip(f"{verb} needs the extra train")
    if verb == "mcp":
        pytest.importorskip("mcp")


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def make_project(folder: Path) -> None:
    """Raw rows of two domains, some short, some copies; a target; a recipe; a goal; a training file."""
    random = Random(7)
    words = WORDS.split()

    def text(length: int) -> str:
        return " ".join(random.choice(words) for _ in range(length)) + "."

    texts = [text(40 + i) for i in range(60)]
    field = [{"text": t, "domain": "field"} for t in [*texts, *texts[:10]]]
    write_jsonl(folder / "raw" / "field.jsonl", field)
    short = [{"text": f"too short {i}", "domain": "short"} for i in range(15)]
    write_jsonl(folder / "raw" / "short.jsonl", short)
    write_jsonl(folder / "target.jsonl", [{"text": f"{text(60)} harvest {i}"} for i in range(20)])
    (folder / "recipe.yaml").write_text(
        "name: try\nsources:\n- jsonl: {path: raw/*.jsonl, domain_field: domain}\n"
        "steps:\n- where: {keep: 'words >= 20'}\n  id: long\n  why: short rows carry little\n"
        "- exact_dedup: {}\n"
    )
    (folder / "other.yaml").write_text((folder / "recipe.yaml").read_text().replace(">= 20", ">= 50"))
    (folder / "goal.yaml").write_text(
        "name: farm\ntask: write about farms\nsources:\n- jsonl: {path: raw/*.jsonl, domain_field: domain}\n"
        "target: {path: target.jsonl}\nbudget: {sample_rows: 100, probe_bytes: 10000}\n"
    )


def tree(folder: Path) -> dict[str, int]:
    """Every file below `folder` with the time of its last change."""
    return {
        str(p.relative_to(folder)): p.stat().st_mtime_ns for p in sorted(folder.rglob("*")) if p.is_file()
    }
