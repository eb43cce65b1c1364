"""Decisions of the Gopher, C4 and FineWeb rules here and in datatrove, document by document.

    python bench/compare_rules.py sample FOLDER docs.jsonl         # 2,200 documents of a folder of .jsonl.zst
    PEER/bin/python bench/compare_rules.py decide docs.jsonl theirs.jsonl [--as-here]
    python bench/compare_rules.py compare docs.jsonl theirs.jsonl

PEER is an environment of its own with datatrove[processing], spacy and nltk. With `--as-here` datatrove's
rules use this project's readings: words between white space, lines without the blank ones (FineWeb's trimmed
as well), an n-gram is the most frequent only if it recurs. C4's bounds are those of this project in both: 3
sentences, lines of 5 words.
"""

from __future__ import annotations

import io
import json
import random
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

COUNTS = {
    "books": 250, "peps": 250, "rust_rfcs": 200, "eips": 200, "gsm8k": 200, "scitldr": 250,
    "tldr_multiling": 200, "bible_multiling": 100, "gpteacher": 250, "wikitext2_valtest": 100,
    "algorithms_py": 200,
}  # fmt: skip
MOST_CHARS = 40_000


def read(path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text("utf-8").splitlines()]


def sample(folder: str, out: str) -> None:
    import zstandard

    draw = random.Random(0)
    with Path(out).open("w") as file:
        for name, count in COUNTS.items():
            with Path(folder, f"{name}.jsonl.zst").open("rb") as packed:
                lines = io.TextIOWrapper(zstandard.ZstdDecompressor().stream_reader(packed), encoding="utf-8")
                rows = [json.loads(line) for line in lines]
            for row in draw.sample(rows, min(count, len(rows))):
                file.write(json.dumps({"text": row["text"][:MOST_CHARS], "kind": name}) + "\n")


def decide(docs: str, out: str, as_here: bool) -> None:
    import datatrove.pipeline.filters.fineweb_quality_filter as fineweb
    import datatrove.pipeline.filters.gopher_quality_filter as quality
    import datatrove.pipeline.filters.gopher_repetition_filter as repetition
    from datatrove.data import Document
    from datatrove.pipeline.filters import C4QualityFilter

    filters = {
        "quality": quality.GopherQualityFilter(),
        "repetition": repetition.GopherRepetitionFilter(),
        "c4": C4QualityFilter(min_num_sentences=3, min_words_per_line=5),
        "fineweb": fineweb.FineWebQualityFilter(),
    }
    if as_here:
        for module in (quality, repetition, fineweb):
            module.split_into_words = lambda text, language: text.split()
        top = repetition.find_top_duplicate
        repetition.find_top_duplicate = lambda grams: top(grams) if len(set(grams)) < len(grams) else 0
        filters["repetition"]._line_splitter = re.compile(r"\s*\n\s*")
        filters["repetition"].paragraph_exp = re.compile(r"\s*\n\s*\n\s*")
    with Path(out).open("w") as file:
        for row in read(docs):
            found: dict[str, str] = {}
            for name, rule in filters.items():
                text = row["text"].strip() if as_here and name == "repetition" else row["text"]
                if as_here and name == "fineweb":
                    text = "\n".join(line.strip() for line in text.split("\n"))
                kept = rule.filter(Document(text=text, id="0"))
                found[name] = "" if kept is True else kept[1] if isinstance(kept, tuple) else "dropped"
            file.write(json.dumps(found) + "\n")


def compare(docs: str, theirs: str) -> None:
    import daft
    from daft import col, lit

    from tillage.ops.base import mark_drops
    from tillage.ops.c4 import C4Lines, C4Quality
    from tillage.ops.fineweb import FinewebQuality
    from tillage.ops.gopher import GopherQuality, GopherRepetition

    rows, other = read(docs), read(theirs)
    chains = {
        "quality": [GopherQuality()],
        "repetition": [GopherRepetition()],
        "c4": [C4Lines(), C4Quality()],
        "fineweb": [FinewebQuality()],
    }
    for name, chain in chains.items():
        columns = {"id": list(range(len(rows))), "text": [row["text"] for row in rows]}
        frame = daft.from_pydict(columns).with_column("_drop", lit(None).cast("string"))
        for op in chain:
            for need in op.requires():
                frame = need.apply(frame)
            frame = mark_drops(op.apply(frame), op.name, op.reasons())
        ours = frame.sort(col("id")).select("_drop").to_pydict()["_drop"]
        same = sum((mine is None) == (not their[name]) for mine, their in zip(ours, other, strict=True))
        drops = sum(mine is not None for mine in ours), sum(bool(their[name]) for their in other)
        print(f"{name}: {same} of {len(rows)} alike ({same / len(rows):.1%})", end="; ")
        print(f"drops here {drops[0]}, there {drops[1]}")
        unlike = Counter(
            (row["kind"], their[name] or "kept", (mine or "kept").split(":")[-1])
            for row, mine, their in zip(rows, ours, other, strict=True)
            if (mine is None) != (not their[name])
        )
        for (kind, there, here), count in unlike.most_common(12):
            print(f"  {count:4d} {kind}: there {there}, here {here}")


if __name__ == "__main__":
    verb, *args = [arg for arg in sys.argv[1:] if arg != "--as-here"]
    if verb == "sample":
        sample(*args)
    elif verb == "decide":
        decide(args[0], args[1], "--as-here" in sys.argv)
    else:
        compare(*args)
