"""Checks of near-duplicate removal: injected pairs, and pairs by exact Jaccard similarity on a sample."""

from __future__ import annotations

import json
import random
import re
from collections import defaultdict
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from bench.data.corpus import Corpus
from bench.data.work import last_json, output_ids
from deltalake import DeltaTable
from numpy.typing import NDArray

from tillage.kernels.minhash import clusters, least_equal, minhash

SAMPLE = 5000
DROPPED = 2000
THRESHOLD = 0.7
NGRAM = 5
PRIME = np.int64(0x1E3779B97F4A7C15)
WORD = re.compile(r"[^\W_]+")  # runs of what str.isalnum accepts


def documents(corpus: Corpus) -> dict[tuple[str, int], tuple[str, str]]:
    """(file name, line) -> (id, text)."""
    found: dict[tuple[str, int], tuple[str, str]] = {}
    for path in sorted(corpus.folder.glob("part-*.jsonl")):
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                row = json.loads(line)
                found[path.name, number] = (row["id"], row["text"])
    return found


def kept_ids(tool: str, folder: Path, corpus: Corpus) -> set[str]:
    """The ids of the corpus's rows that a tool kept."""
    if not tool.startswith("tillage"):
        return set(output_ids(folder))
    known = documents(corpus)
    table = DeltaTable(last_json(folder)["dataset"]["path"]).to_pyarrow_table(columns=["source", "line"])
    places = zip(table.column("source").to_pylist(), table.column("line").to_pylist(), strict=True)
    return {known[Path(source).name, line][0] for source, line in places}


def check_near(folders: Mapping[str, Path], corpora: Mapping[str, Corpus]) -> dict[str, Any]:
    """Injected pairs of which not both were kept, a tool; rows dropped that are like another one, a tool; our
    pairs against exact ones on a sample."""
    caught: dict[str, float] = {}
    right: dict[str, float] = {}
    left: dict[Corpus, dict[str, set[str]]] = defaultdict(dict)
    for tool, folder in folders.items():
        kept = left[corpora[tool]][tool] = kept_ids(tool, folder, corpora[tool])
        pairs = [json.loads(line) for line in corpora[tool].pairs.read_text().splitlines()]
        caught[tool] = round(sum(not (a in kept and b in kept) for a, b in pairs) / max(1, len(pairs)), 5)
    for corpus, tools in left.items():
        right |= dropped_rightly(corpus, tools)
    return {
        "injected pairs caught": caught,
        f"of {DROPPED} dropped rows, those at least {THRESHOLD} like another row": right,
        **exact_agreement(corpora["tillage"]),
    }


def hashed_shingles(text: str) -> NDArray[np.int64]:
    """The distinct n-grams of words that `shingles` finds, as hashes in ascending order."""
    words = [hash(word) for word in WORD.findall(text.lower())]
    size = min(NGRAM, len(words))
    if not size:
        return np.zeros(0, np.int64)
    held = np.array(words, np.int64)
    grams = np.zeros(len(words) - size + 1, np.int64)
    for place in range(size):
        grams = grams * PRIME + held[place : place + len(grams)]
    # Multiplied once more, so that the order is no longer that of the last word.
    return np.unique((grams ^ (grams >> 29)) * PRIME)


def dropped_rightly(corpus: Corpus, kept: Mapping[str, set[str]], seed: int = 20) -> dict[str, float]:
    """Of a sample of the rows that a tool did not keep, the share with a row of exact Jaccard similarity at
    least the threshold anywhere in the corpus. Such rows have one of the first n-grams of each in common, in
    any one order of all n-grams (prefix filtering, Chaudhuri et al. 2006); here the order of their hashes."""
    known = list(documents(corpus).values())
    chosen: dict[str, set[str]] = {}
    for tool, ids in kept.items():
        gone = sorted(id for id, _ in known if id not in ids)
        chosen[tool] = set(random.Random(seed).sample(gone, min(len(gone), DROPPED)))
    asked = set().union(*chosen.values())
    sets = {id: hashed_shingles(text) for id, text in known if id in asked}
    holders: dict[int, list[str]] = defaultdict(list)
    for id, grams in sets.items():
        for gram in _prefix(grams).tolist():
            holders[gram].append(id)
    keys = np.array(sorted(holders), np.int64)
    found: set[str] = set()
    for id, text in known:
        grams = hashed_shingles(text)
        first = _prefix(grams)
        held = keys[np.minimum(np.searchsorted(keys, first), len(keys) - 1)] == first if len(keys) else []
        near = {row for gram in first[held].tolist() for row in holders[gram]}
        for other in near - found - {id}:
            both = len(np.intersect1d(grams, sets[other], assume_unique=True))
            if both >= THRESHOLD * (len(grams) + len(sets[other]) - both):
                found.add(other)
    return {tool: round(len(found & ids) / max(1, len(ids)), 5) for tool, ids in chosen.items()}


def _prefix(grams: NDArray[np.int64]) -> NDArray[np.int64]:
    return grams[: len(grams) - int(np.ceil(THRESHOLD * len(grams))) + 1]


def shingles(text: str) -> frozenset[tuple[str, ...]]:
    """N-grams of words as the operator sees them, without its hashes."""
    cleaned = "".join(c if c.isalnum() else " " for c in text.lower())
    words = cleaned.split()
    size = min(NGRAM, len(words))
    return (
        frozenset(tuple(words[i : i + size]) for i in range(len(words) - size + 1)) if size else frozenset()
    )


def exact_agreement(corpus: Corpus, sample: int = SAMPLE, seed: int = 20) -> dict[str, Any]:
    """Recall of exact pairs by our clusters, and precision of the pairs that join these, by exact similarity.

    Half of the sample are documents of injected pairs, so that there is something to find. Clusters are
    closures: that two of their rows are less alike than the threshold is no error, a pair that joins is one.
    """
    draw = random.Random(seed)
    known = dict(documents(corpus).values())
    pairs = [json.loads(line) for line in corpus.pairs.read_text().splitlines()]
    draw.shuffle(pairs)
    chosen = dict.fromkeys(id for pair in pairs[: sample // 4] for id in pair)
    others = [id for id in sorted(known) if id not in chosen]
    chosen.update(dict.fromkeys(draw.sample(others, min(len(others), max(0, sample - len(chosen))))))
    texts = [known[id] for id in chosen]
    sets = [shingles(text) for text in texts]
    exact = {pair for pair, share in _similar(sets).items() if share >= THRESHOLD}
    sketches, some = minhash(pa.array(texts, pa.large_string()))
    first = clusters(sketches, 8, THRESHOLD, 6)
    members: dict[int, list[int]] = defaultdict(list)
    for row in np.flatnonzero(some).tolist():
        members[int(first[row])].append(row)
    ours = {pair for rows in members.values() for pair in combinations(rows, 2)}
    least = least_equal(sketches, THRESHOLD)
    joining = [(a, b) for a, b in sorted(ours) if int((sketches[a] == sketches[b]).sum()) >= least]
    shares = np.array([len(sets[a] & sets[b]) / len(sets[a] | sets[b]) for a, b in joining])
    return {
        "sample": len(texts),
        "exact pairs": len(exact),
        "recall of exact pairs": round(len(exact & ours) / max(1, len(exact)), 5),
        "joining pairs": len(joining),
        "precision of joining pairs": round(float((shares >= THRESHOLD).mean()), 5),
        "joining pairs above threshold - 0.05": round(float((shares >= THRESHOLD - 0.05).mean()), 5),
    }


def _similar(sets: list[frozenset[tuple[str, ...]]]) -> dict[tuple[int, int], float]:
    """Exact Jaccard similarity of the pairs that reach the threshold: such pairs share a shingle among the
    first few of each in the order of rarity (prefix filtering, Chaudhuri et al. 2006)."""
    counts: dict[tuple[str, ...], int] = defaultdict(int)
    for grams in sets:
        for gram in grams:
            counts[gram] += 1
    holders: dict[tuple[str, ...], list[int]] = defaultdict(list)
    found: dict[tuple[int, int], float] = {}
    for row, grams in enumerate(sets):
        rare = sorted(grams, key=lambda gram: (counts[gram], gram))
        near: set[int] = set()
        for gram in rare[: len(rare) - int(np.ceil(THRESHOLD * len(rare))) + 1]:
            near.update(holders[gram])
            holders[gram].append(row)
        for other in near:
            both = len(grams & sets[other])
            share = both / (len(grams) + len(sets[other]) - both)
            if share >= THRESHOLD:
                found[other, row] = share
    return found
