"""What datatrove's rules decide of each document, with its own splitter or with Tillage's words.

    python datatrove_decide.py CORPUS_FOLDER OUT own|words

OUT gets one JSON line a document: id, kind and for each rule the reason for dropping ("" if kept). With
`words` every rule that counts words is given the words of `tillage.kernels.words.raw_words`, written out
here in plain Python; nothing else of datatrove is touched. C4 runs with the bounds of the published
pipeline (3 sentences, lines of 5 words) instead of those of an early text of the paper.
"""

from __future__ import annotations

import json
import re
import sys
import unicodedata
from pathlib import Path

import datatrove.pipeline.filters.fineweb_quality_filter as fineweb
import datatrove.pipeline.filters.gopher_quality_filter as quality
import datatrove.pipeline.filters.gopher_repetition_filter as repetition
from datatrove.data import Document
from datatrove.pipeline.filters import C4QualityFilter

SOLO = (
    (0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x3005, 0x3007), (0x3040, 0x30FF),
    (0x31F0, 0x31FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xA9E0, 0xA9FF), (0xAA60, 0xAA7F),
    (0xF900, 0xFAFF), (0xFF66, 0xFF9D), (0x1B000, 0x1B16F), (0x20000, 0x323AF),
)  # fmt: skip
"""Letters of scripts that set no spaces between words: each is a word, with the marks that follow it."""
JOINERS = (0x200B, 0x200C, 0x200D, 0x2060, 0xFEFF)
WORD = re.compile("SM*|[MX]+")


def kind(c: str) -> str:
    category = unicodedata.category(c)
    if category[0] == "L" and any(a <= ord(c) <= b for a, b in SOLO):
        return "S"
    if c.isspace():
        return " "
    return "M" if category[0] in "MP" or ord(c) in JOINERS else "X"


class _Kinds(dict):
    def __missing__(self, code: int) -> str:
        self[code] = found = kind(chr(code))
        return found


KINDS = _Kinds()


def words(text: str, language: str = "") -> list[str]:
    del language
    return [text[m.start() : m.end()] for m in WORD.finditer(text.translate(KINDS))]


def main(source: str, out: str, splitter: str) -> None:
    if splitter == "words":
        for module in (quality, repetition, fineweb):
            module.split_into_words = words
    rules = {
        "gopher_quality": quality.GopherQualityFilter(),
        "gopher_repetition": repetition.GopherRepetitionFilter(),
        "c4": C4QualityFilter(min_num_sentences=3, min_words_per_line=5),
        "fineweb": fineweb.FineWebQualityFilter(),
    }
    with Path(out).open("w") as file:
        for part in sorted(Path(source).glob("part-*.jsonl")):
            for line in part.read_text("utf-8").split("\n"):
                if not line:
                    continue
                row = json.loads(line)
                found = {"id": row["id"], "kind": row["kind"]}
                for name, rule in rules.items():
                    try:
                        kept = rule.filter(Document(text=row["text"], id=row["id"]))
                    except ZeroDivisionError:  # no words, or none but newlines: the pipeline would stop here
                        kept = (False, "division_by_zero")
                    found[name] = "" if kept is True else kept[1] if isinstance(kept, tuple) else "dropped"
                file.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:4])
