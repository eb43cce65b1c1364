"""Real text for the tasks: passages that end as they should, by domain, and passages of other languages."""

from __future__ import annotations

import gzip
import io
import json
import random
import re
import sysconfig
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import zstandard

from tillage.core.errors import UserError
from tillage.kernels.language import detect

LEAST_WORDS, LEAST_CHARS, MOST_CHARS = 60, 500, 2_500
MOST_OF_A_DOCUMENT = 6
MOST_OF_A_DOMAIN = 6_000
LEAST_OF_A_DOMAIN = 120
_END = re.compile(r"[.!?][\"'”’)\]]*$")
# A passage with one of these might hold what a task plants, so it cannot stand for a clean one.
_SUSPECT = re.compile(r"@\w|</?[a-z][^>]*>|&[a-z]+;|[ÃÂ][\x80-\xbf€™œ]|�|https?://|\{\{|\d[\d -]{8,}\d")
_BLANK = re.compile(r"\n[ \t]*\n")


@dataclass(frozen=True)
class Passage:
    """`document` names the document it was cut from: passages of one must not stand on both sides."""

    text: str
    domain: str
    document: str


@dataclass
class Pool:
    """`domains`: name -> passages in the main language; `foreign`: language -> passages; `chats`: pairs."""

    domains: dict[str, list[Passage]]
    language: str
    foreign: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    chats: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])


def default_text() -> Path:
    """The shared corpora beside the checkout if they are there, or else the machine's Python packages."""
    shared = Path(__file__).parents[3] / "shared" / "corpora"
    return shared if shared.exists() else Path(sysconfig.get_paths()["purelib"])


def load(folder: Path, seed: int = 0) -> Pool:
    """Passages of every .jsonl (.gz, .zst), .txt, .md and .rst file below `folder`.

    The domain is the file of a JSONL row, and the top folder of a text file. `UserError` where every domain
    has fewer than `LEAST_OF_A_DOMAIN` passages.
    """
    rng = random.Random(seed)
    found: dict[str, list[Passage]] = {}
    pairs: list[tuple[str, str]] = []
    for name, documents in _documents(folder):
        passages = found.setdefault(name, [])
        for document, row in documents:
            passages += [Passage(text, name, document) for text in _passages(str(row.get("text") or ""), rng)]
            if isinstance(row.get("instruction"), str) and isinstance(row.get("output"), str):
                pairs.append(
                    (" ".join([row["instruction"], str(row.get("input") or "")]).strip(), row["output"])
                )
            if len(passages) > MOST_OF_A_DOMAIN:
                break
    domains, foreign, language = _by_language(found)
    pool = {name: _distinct(rng.sample(p, len(p))) for name, p in sorted(domains.items())}
    pool = {name: passages for name, passages in pool.items() if len(passages) >= LEAST_OF_A_DOMAIN}
    if not pool:
        raise UserError(
            "too little text for the benchmark",
            where=folder,
            got={name: len(passages) for name, passages in found.items()},
            expected=f"{LEAST_OF_A_DOMAIN} passages of {LEAST_CHARS} characters in a file or more",
        )
    chats = [
        (p, a)
        for p, a in dict.fromkeys(pairs)
        if 20 < len(p) < 2_000 and _END.search(a.strip()) and len(a) > 60
    ]
    if len(chats) < 400:
        chats = _made_chats([p for passages in pool.values() for p in passages])
    rng.shuffle(chats)
    chats = _distinct_chats(chats)
    return Pool(pool, language, foreign, chats[:6_000])


def _documents(folder: Path) -> Iterator[tuple[str, Iterator[tuple[str, dict[str, Any]]]]]:
    rows = sorted(p for p in folder.rglob("*.jsonl*") if p.suffix in (".jsonl", ".gz", ".zst"))
    for path in rows:
        yield path.name.partition(".")[0], ((f"{path.name}:{n}", row) for n, row in _rows(path))
    texts = sorted(p for kind in ("txt", "md", "rst") for p in folder.rglob(f"*.{kind}"))
    for top in sorted({path.relative_to(folder).parts[0] for path in texts}):
        mine = (path for path in texts if path.relative_to(folder).parts[0] == top)
        yield (
            top.partition(".")[0],
            ((str(path), {"text": path.read_text("utf-8", "ignore")}) for path in mine),
        )


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with path.open("rb") as raw:
        stream: Any = raw
        if path.suffix == ".zst":
            stream = zstandard.ZstdDecompressor().stream_reader(raw)
        elif path.suffix == ".gz":
            stream = gzip.GzipFile(fileobj=raw)
        with io.TextIOWrapper(stream, "utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield number, json.loads(line)


def _passages(text: str, rng: random.Random) -> list[str]:
    """Runs of whole paragraphs that end with a sentence."""
    found: list[str] = []
    held: list[str] = []
    for paragraph in _BLANK.split(text.replace("\r\n", "\n")):
        paragraph = paragraph.strip("\n")
        held.append(paragraph)
        size = sum(map(len, held))
        if size >= LEAST_CHARS and _END.search(paragraph.rstrip()):
            passage = "\n\n".join(held).strip()
            if size <= MOST_CHARS and len(passage.split()) >= LEAST_WORDS and not _SUSPECT.search(passage):
                found.append(passage)
            held = []
        elif size > MOST_CHARS:
            held = []
    return rng.sample(found, MOST_OF_A_DOCUMENT) if len(found) > MOST_OF_A_DOCUMENT else found


def _by_language(
    found: dict[str, list[Passage]],
) -> tuple[dict[str, list[Passage]], dict[str, list[str]], str]:
    """Domains that are nearly all in the language that most are in; the rest by language."""
    spoken: dict[str, list[str | None]] = {}
    for name, passages in found.items():
        spoken[name] = detect(pa.array([p.text for p in passages], pa.large_string()))[0].to_pylist()
    main = {name: Counter(langs).most_common(1)[0] for name, langs in spoken.items() if langs}
    pure = {name: lang for name, (lang, n) in main.items() if n > 0.95 * len(spoken[name])}
    weight = Counter[str | None]()
    for name, lang in pure.items():
        weight[lang] += len(found[name])
    language = weight.most_common(1)[0][0] if weight else None
    foreign: dict[str, list[str]] = {}
    for name, passages in found.items():
        if pure.get(name) == language:
            continue
        for passage, lang in zip(passages, spoken[name], strict=True):
            if lang is not None and lang != language:
                foreign.setdefault(lang, []).append(passage.text)
    domains = {name: found[name] for name, lang in pure.items() if lang == language}
    return domains, {k: v for k, v in foreign.items() if len(v) >= 20}, language or "en"


def _distinct(passages: Iterable[Passage]) -> list[Passage]:
    """Passages that share no tenth of their eight-word runs with one before: real text has copies too."""
    seen: set[int] = set()
    kept: list[Passage] = []
    for passage in passages:
        words = passage.text.lower().split()
        runs = [hash(tuple(words[i : i + 8])) for i in range(0, len(words) - 7, 1)]
        if sum(run in seen for run in runs) <= len(runs) // 10:
            seen.update(runs)
            kept.append(passage)
    return kept


def _distinct_chats(chats: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Conversations that do not share their prompts' or answers' wording, as those made by templates do."""
    rows = [Passage(f"{prompt} {answer}", "chat", str(n)) for n, (prompt, answer) in enumerate(chats)]
    return [chats[int(p.document)] for p in _distinct(rows)]


def _made_chats(passages: list[Passage]) -> list[tuple[str, str]]:
    """Prompt and answer out of prose: what follows the first sentence is the answer to being asked for it."""
    asks = ("Go on from here: {}", "What comes after this? {}", "Tell me more. {}", "Continue the text: {}")
    pairs: list[tuple[str, str]] = []
    for number, passage in enumerate(passages):
        parts = re.split(r"(?<=[.!?])\s+", passage.text, maxsplit=1)
        if len(parts) == 2 and len(parts[0]) > 30 and len(parts[1]) > 100:
            pairs.append((asks[number % len(asks)].format(parts[0]), parts[1]))
    return pairs
