"""Text for the benchmark, packed once: a folder of token stores and targets that any machine can train on.

    python -m bench.interaction --prepare FOLDER --corpora DIR       # needs only the text and a CPU

DIR holds `NAME.jsonl`, also `.gz` or `.zst`, with a field `text`. Three stores come of it: "domains"
(seven real
domains and one of noise), "dirty" (20 % relevant, 60 % not, 20 % corrupted, in crawls that mix these), and
"same" (four domains of the same text, for the negative control).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pyarrow as pa

from tillage.core.errors import UserError
from tillage.train.evaluate import Target
from tillage.train.tokens import Tokenizer, TokenStore

DOMAINS = ("books", "peps", "rust_rfcs", "eips", "gsm8k", "algorithms_py", "scitldr")
TARGET = "peps"
NOISE = "noise"
CRAWLS = {"crawl-a": 0.5, "crawl-b": 0.2, "crawl-c": 0.05, "crawl-d": 0.05}
"""Share of the relevant text in each of four crawls of the same size: 20 % of all."""
CORRUPT = 0.2


@dataclass(frozen=True)
class Bundle:
    """A store with the texts to reference (`search`) and to measure by, by domain."""

    store: TokenStore
    search: dict[str, Target]
    holdout: dict[str, Target]


def prepare(folder: Path, corpora: Path, per_domain: int, vocab: int, seed: int = 0) -> dict[str, Any]:
    """Write the three stores; says how many tokens each has.

    Args:
        per_domain: most bytes of text of a domain.
    """
    texts: dict[str, list[str]] = {}
    parts: dict[str, dict[str, list[str]]] = {"search": {}, "holdout": {}}
    for name in DOMAINS:
        rows = _texts(corpora, name)
        order = np.random.default_rng([seed, len(name)]).permutation(len(rows))
        rows = [rows[i] for i in order]
        held, rest = _take(rows, min(per_domain // 20, 250_000))
        parts["holdout"][name] = held
        found, rest = _take(rest, min(per_domain // 10, 500_000))
        parts["search"][name] = found
        texts[name] = _take(rest, per_domain)[0]
    tokenizer = Tokenizer.train(
        (t[:20_000] for rows in texts.values() for t in _take(rows, 1_000_000)[0]), vocab
    )
    folder.mkdir(parents=True, exist_ok=True)
    for kind, by_name in parts.items():
        _save(folder / f"{kind}.npz", {n: Target.from_texts(n, t, tokenizer) for n, t in by_name.items()})
    rng = np.random.default_rng(seed)
    noise = [_shuffled_letters(t, rng) for t in _take(texts["books"], per_domain // 2)[0]]
    made = {
        "domains": _rows({**texts, NOISE: noise}),
        "dirty": _dirty(texts, parts["search"][TARGET], per_domain, rng),
        "same": _same(texts["books"]),
    }
    sizes: dict[str, Any] = {}
    for name, rows in made.items():
        store = TokenStore.write(folder / name, [pa.RecordBatch.from_pylist(rows)], tokenizer)
        sizes[name] = dict(zip(store.groups.names, store.groups.tokens, strict=True))
    (folder / "sizes.json").write_text(json.dumps(sizes, indent=1))
    return sizes


def load(folder: Path, name: str) -> Bundle:
    """What `prepare` wrote."""
    if not (folder / name).exists():
        raise UserError(
            "no prepared data here", where=folder,
            hint="python -m bench.interaction --prepare FOLDER --corpora DIR",
        )  # fmt: skip
    store = TokenStore.open(folder / name)
    return Bundle(
        store, *(_targets(folder / f"{kind}.npz", store.tokenizer.eos) for kind in ("search", "holdout"))
    )


def joined(name: str, targets: Sequence[Target]) -> Target:
    """Several targets as one."""
    lengths = np.concatenate([np.diff(t.starts) for t in targets])
    return Target(
        name,
        np.concatenate([t.tokens for t in targets]),
        np.concatenate([t.bytes for t in targets]),
        np.concatenate([[0], np.cumsum(lengths)]),
        targets[0].eos,
    )


def head(target: Target, tokens: int) -> Target:
    """The first documents of a target with about so many tokens, at least one."""
    count = max(int(np.searchsorted(target.starts, tokens, side="right")) - 1, 1)
    end = int(target.starts[count])
    return Target(
        target.name, target.tokens[:end], target.bytes[:count], target.starts[: count + 1], target.eos
    )


def _texts(corpora: Path, name: str) -> list[str]:
    for suffix in (".jsonl.zst", ".jsonl.gz", ".jsonl"):
        path = corpora / f"{name}{suffix}"
        if path.exists():
            with pa.input_stream(str(path), compression="detect") as stream:
                lines = stream.read().decode().split("\n")  # splitlines would cut at U+2028 too
            return [text for line in lines if line.strip() and (text := json.loads(line)["text"])]
    raise UserError("a corpus is missing", where=corpora, got=name, expected=", ".join(DOMAINS))


def _take(texts: Sequence[str], size: int) -> tuple[list[str], list[str]]:
    """The first texts of about `size` bytes, each cut to a third of it, and the rest."""
    total = 0
    for i, text in enumerate(texts):
        total += min(len(text.encode()), size // 3)
        if total >= size:
            return [t[: size // 3] for t in texts[: i + 1]], list(texts[i + 1 :])
    return [t[: size // 3] for t in texts], []


def _rows(texts: dict[str, list[str]]) -> list[dict[str, Any]]:
    return [
        {"id": sha256(f"{domain}/{i}/{text}".encode()).hexdigest()[:32], "text": text, "domain": domain}
        for domain, rows in texts.items()
        for i, text in enumerate(rows)
    ]


def _same(texts: list[str]) -> list[dict[str, Any]]:
    return _rows({f"part-{k}": texts[k::4] for k in range(4)})


def _dirty(
    texts: dict[str, list[str]], target: list[str], per_domain: int, rng: np.random.Generator
) -> list[dict[str, Any]]:
    relevant = texts[TARGET]
    others = [text for name, rows in texts.items() if name != TARGET for text in rows]
    others = [others[i] for i in rng.permutation(len(others))]
    total = 5 * sum(len(t.encode()) for t in _take(relevant, per_domain)[0])
    rows: dict[str, list[str]] = {}
    kinds: dict[str, str] = {}
    for crawl, share in CRAWLS.items():
        mine = total / len(CRAWLS)
        wanted, relevant = _take(relevant, int(mine * share))
        spoilt, others = _take(others, int(mine * CORRUPT))
        plain, others = _take(others, int(mine * (1 - share - CORRUPT)))
        rows[crawl] = [*wanted, *(_shuffled_words(t, rng) for t in spoilt), *plain]
        for kind, group in (("relevant", wanted), ("corrupted", rows[crawl][len(wanted) : -len(plain)])):
            kinds.update(dict.fromkeys(group, kind))
    found = _rows(rows)
    likeness = _likeness([row["text"] for row in found], target)
    return [
        {
            **row,
            "relevant": float(kinds.get(row["text"]) == "relevant"),
            "likeness": value,
            "random": float(rng.random()),
        }
        for row, value in zip(found, likeness, strict=True)
    ]


def _likeness(texts: Sequence[str], target: Sequence[str], buckets: int = 20_000) -> list[float]:
    """Mean log ratio of hashed words and pairs of words, target against all: the preparation-time score.

    The features of DSIR (Xie et al. 2023, arXiv 2302.03169).
    """

    def features(text: str) -> np.ndarray[Any, Any]:
        words = text.lower().split()
        pairs = [f"{a} {b}" for a, b in pairwise(words)]
        return np.asarray([crc32(w.encode()) % buckets for w in (*words, *pairs)], dtype=np.int64)

    every = [features(text) for text in texts]
    wanted = np.bincount(np.concatenate([features(t) for t in target]), minlength=buckets) + 1.0
    whole = np.bincount(np.concatenate(every), minlength=buckets) + 1.0
    ratio = np.log(wanted / wanted.sum()) - np.log(whole / whole.sum())
    return [float(ratio[f].mean()) if len(f) else 0.0 for f in every]


def _shuffled_words(text: str, rng: np.random.Generator) -> str:
    words = text.split()
    return " ".join(words[i] for i in rng.permutation(len(words)))


def _shuffled_letters(text: str, rng: np.random.Generator) -> str:
    return "".join(text[i] for i in rng.permutation(len(text)))


def _save(path: Path, targets: dict[str, Target]) -> None:
    arrays: dict[str, Any] = {}
    for name, target in targets.items():
        arrays[f"{name}.tokens"] = target.tokens.astype(np.uint16)
        arrays[f"{name}.bytes"], arrays[f"{name}.starts"] = target.bytes, target.starts
    np.savez_compressed(path, **arrays)


def _targets(path: Path, eos: int) -> dict[str, Target]:
    with np.load(path) as arrays:
        names = [name.removesuffix(".tokens") for name in arrays.files if name.endswith(".tokens")]
        return {
            n: Target(
                n, arrays[f"{n}.tokens"].astype(np.uint32), arrays[f"{n}.bytes"], arrays[f"{n}.starts"], eos
            )
            for n in names
        }
