"""The input of all sides: real text in JSONL, a fifth of its documents near-copies with their truth kept."""

from __future__ import annotations

import hashlib
import io
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import zstandard
from bench.page import ROOT

from tillage.loop.machine_corpus import collect

SHARED = ROOT.parent / "shared" / "corpora"
COPIES = 0.2
"""The share of the documents that are near-copies of another one."""
PARTS = 4
BENCHMARK_EVERY, BENCHMARK_WORDS = 200, 40
LEAST_WORDS = 60
MOST_REPLACED = 0.02
VERSION = 2


@dataclass(frozen=True)
class Corpus:
    """`folder/part-*.jsonl`: rows with `id`, `text`, `kind`. `pairs`: JSON lines [id, id of its copy].
    `benchmark`: JSON lines with `text`, stretches of the documents that must not be trained on."""

    folder: Path
    bytes: int
    documents: int
    kinds: tuple[str, ...]

    @property
    def glob(self) -> str:
        return str(self.folder / "part-*.jsonl")

    @property
    def pairs(self) -> Path:
        return self.folder / "pairs.jsonl"

    @property
    def benchmark(self) -> Path:
        return self.folder / "benchmark.jsonl"

    @property
    def mb(self) -> float:
        return self.bytes / 1e6


def assemble(data: Path | None, mb: float, seed: int, cache: Path) -> Corpus:
    """About `mb` megabytes of JSONL from a folder of .jsonl and .jsonl.zst files (fields `text`, any others).

    Without a folder the text of this machine's Python packages is taken. Documents come in an order drawn by
    `seed`, so a smaller corpus holds the same mixture. Where the source is too small, further rounds join
    the first half of one document to the second half of another. Made once and kept in `cache`.
    """
    source = data if data is not None else SHARED if SHARED.is_dir() else _machine(cache, mb, seed)
    files = sorted(p for p in source.rglob("*.jsonl*") if p.name.endswith((".jsonl", ".jsonl.zst")))
    if not files:
        raise SystemExit(f"no .jsonl or .jsonl.zst files in {source}")
    mark = json.dumps([VERSION, mb, seed, [(p.name, p.stat().st_size) for p in files]])
    folder = cache / f"corpus-{mb:g}mb-{hashlib.blake2b(mark.encode(), digest_size=4).hexdigest()}"
    about = folder / "about.json"
    if not about.exists():
        _write(folder, files, int(mb * 1e6), seed)
    return Corpus(folder, **{**(found := json.loads(about.read_text())), "kinds": tuple(found["kinds"])})


def _machine(cache: Path, mb: float, seed: int) -> Path:
    folder = cache / f"machine-{mb:g}mb-{seed}"
    if not (folder / "target.jsonl").exists():
        collect(folder, seed=seed, megabytes=mb)
    return folder / "raw"


def _write(folder: Path, files: list[Path], size: int, seed: int) -> None:
    draw = random.Random(seed)
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[tuple[str, str]] = []
    held = 0
    for kind, text in _originals(files, draw):
        rows.append((kind, text))
        held += len(json.dumps(text, ensure_ascii=False).encode()) + 50
        if held >= size * (1 - COPIES):
            break
    originals = len(rows)
    able = [i for i, (_, text) in enumerate(rows) if len(text.split()) >= LEAST_WORDS]
    chosen = [draw.choice(able) for _ in range(int(originals * COPIES / (1 - COPIES)))] if able else []
    # One copy of each, as far as there are enough: clusters of many would be a test of their own.
    chosen = draw.sample(able, min(len(able), len(chosen)))
    rows += [(rows[i][0], near_copy(rows[i][1], draw)) for i in chosen]
    place = list(range(len(rows)))
    draw.shuffle(place)
    per_part = len(rows) // PARTS + 1
    for part in range(PARTS):
        with (folder / f"part-{part}.jsonl").open("w", encoding="utf-8") as out:
            for at in place[part * per_part : (part + 1) * per_part]:
                kind, text = rows[at]
                out.write(json.dumps({"id": f"{at:08d}", "text": text, "kind": kind}, ensure_ascii=False))
                out.write("\n")
    with (folder / "pairs.jsonl").open("w") as out:
        for number, original in enumerate(chosen):
            out.write(json.dumps([f"{original:08d}", f"{originals + number:08d}"]) + "\n")
    with (folder / "benchmark.jsonl").open("w", encoding="utf-8") as out:
        for _, text in rows[:originals:BENCHMARK_EVERY]:
            words = text.split()
            begin = len(words) // 3
            out.write(json.dumps({"text": " ".join(words[begin : begin + BENCHMARK_WORDS])}) + "\n")
    total = sum(p.stat().st_size for p in folder.glob("part-*.jsonl"))
    about = {"bytes": total, "documents": len(rows), "kinds": sorted({kind for kind, _ in rows})}
    (folder / "about.json").write_text(json.dumps(about))


def _originals(files: list[Path], draw: random.Random) -> Iterator[tuple[str, str]]:
    documents = [(path.name.partition(".")[0], text) for path in files for text in _texts(path)]
    draw.shuffle(documents)
    yield from documents
    while documents:
        # Joined halves are new text to every deduplicator, and as real as their halves.
        order = list(range(len(documents)))
        draw.shuffle(order)
        for i, j in enumerate(order):
            kind, first = documents[i]
            second = documents[j][1]
            yield kind, first[: len(first) // 2] + "\n" + second[len(second) // 2 :]


def _texts(path: Path) -> Iterator[str]:
    with path.open("rb") as raw:
        stream = zstandard.ZstdDecompressor().stream_reader(raw) if path.suffix == ".zst" else raw
        for line in io.BufferedReader(stream):  # type: ignore[arg-type]
            try:
                text = json.loads(line).get("text")
            except ValueError:  # the machine's own packages hold bytes that are not UTF-8
                continue
            if isinstance(text, str) and text:
                yield text.encode("utf-8", "replace").decode()


def near_copy(text: str, draw: random.Random) -> str:
    """`text` with up to 2 % of its words replaced, and at times a line before it or its last words gone."""
    pieces = text.split(" ")
    share = draw.uniform(0, MOST_REPLACED)
    for _ in range(max(1, int(len(pieces) * share))):
        pieces[draw.randrange(len(pieces))] = draw.choice(pieces)
    change = draw.randrange(3)
    if change == 0:
        return "Mirrored from an archive.\n" + " ".join(pieces)
    if change == 1:
        return " ".join(pieces[: max(1, int(len(pieces) * 0.98))])
    return " ".join(pieces)
