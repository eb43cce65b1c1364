"""Our side of every work: `tillage run` on a recipe, as a user starts it."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from bench.data.corpus import Corpus
from bench.data.work import Command, last_json

Step = dict[str, Any]

QUALITY: list[Step] = [
    {"gopher_quality": {}},
    {"gopher_repetition": {}},
    {"c4_quality": {}},
    {"fineweb_quality": {}},
]


def tillage(steps: Sequence[Step]) -> Command:
    """`tillage run` of these steps over the corpus, with a workspace of its own."""

    def command(corpus: Corpus, folder: Path) -> list[str]:
        recipe = folder / "recipe.yaml"
        sources = [{"jsonl": {"path": corpus.glob, "domain": "bench"}}]
        recipe.write_text(yaml.safe_dump({"name": "bench", "sources": sources, "steps": list(steps)}))
        program = str(Path(sys.executable).with_name("tillage"))
        return [program, "run", str(recipe), "--workspace", str(folder / "space"), "--json"]

    return command


def kept(folder: Path) -> int:
    """Rows of the dataset version that the run committed."""
    accounts = last_json(folder)["accounts"]
    return int(accounts[-1]["rows_out"])


def answer(folder: Path) -> str:
    return json.dumps(last_json(folder), indent=1)
