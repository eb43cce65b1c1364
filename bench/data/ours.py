"""Our side of every work: `tillage run` on a recipe, as a user starts it."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from bench.data.corpus import Corpus
from bench.data.work import Command, last_json

from tillage.train.tokenizer import Tokenizer

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


WEB_FILTERS: list[Step] = [
    {"unicode_normalise": {}},
    {"language_filter": {"keep": ["en"]}},
    {"gopher_quality": {}},
    {"gopher_repetition": {}},
    {"c4_lines": {}},
    {"c4_quality": {}},
    {"fineweb_quality": {}},
    {"exact_dedup": {}},
    {"minhash_dedup": {}},
    {"pii_mask": {}},
]


def web(corpus: Corpus, folder: Path) -> list[str]:
    """The whole web recipe, then the tokens of the version that it made."""
    run = tillage([*WEB_FILTERS, without(corpus)])(corpus, folder)
    space = ["--workspace", str(folder / "space"), "--json"]
    tokens = [run[0], "tokenize", "bench", "--tokenizer", str(tokenizer(corpus)), *space]
    return ["sh", "-ec", f"{shlex.join(run)}\n{shlex.join(tokens)}"]


def without(corpus: Corpus) -> Step:
    """The step that keeps the benchmark's stretches out."""
    return {"decontaminate": {"against": str(corpus.benchmark)}}


def tokenizer(corpus: Corpus) -> Path:
    """A byte-level BPE of 8,192 tokens, learned once from the corpus for all sides."""
    path = corpus.folder / "tokenizer.json"
    if not path.exists():
        with (corpus.folder / "part-0.jsonl").open(encoding="utf-8") as lines:
            texts = [json.loads(line)["text"] for _, line in zip(range(2000), lines, strict=False)]
        Tokenizer.train(texts, 8192).save(path)
    return path


def tokenised(folder: Path) -> int:
    """Documents in the token store."""
    return int(last_json(folder)["documents"])


def kept(folder: Path) -> int:
    """Rows of the dataset version that the run committed."""
    accounts = last_json(folder)["accounts"]
    return int(accounts[-1]["rows_out"])


def answer(folder: Path) -> str:
    return json.dumps(last_json(folder), indent=1)
