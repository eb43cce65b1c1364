"""Skills that build on one another: chains of assignments (LEGO, Zhang et al. 2022, arXiv 2206.04301), sums
of several digits, and operations on strings. Every example is `question>answer` on a line of its own."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from tillage.train.tokens import Tokenizer, TokenStore

LETTERS = "abcdefgh"
Rng = np.random.Generator


def _add(rng: Rng, digits: int) -> str:
    a, b = (int(rng.integers(10 ** (digits - 1), 10**digits)) for _ in range(2))
    return f"{a}+{b}>{a + b}"


def _lego(rng: Rng, length: int) -> str:
    """`c=-;b=-c;a=+b`, in order, and the signs of all letters: -, +, +."""
    names = [LETTERS[i] for i in rng.permutation(len(LETTERS))[:length]]
    signs = [int(rng.integers(2))]
    parts = [f"{names[0]}={'+-'[signs[0]]}"]
    for one, two in itertools.pairwise(names):
        flip = int(rng.integers(2))
        signs.append(signs[-1] ^ flip)
        parts.append(f"{two}={'+-'[flip]}{one}")
    return f"{';'.join(parts)}>{''.join('+-'[sign] for sign in signs)}"


def _string(rng: Rng, kind: str, length: int) -> str:
    word = "".join(LETTERS[i] for i in rng.integers(0, len(LETTERS), length))
    made = {"copy": word, "reverse": word[::-1], "mirror": word + word[::-1]}[kind]
    return f"{kind[0]}{word}>{made}"


SKILLS: dict[str, Callable[[Rng], str]] = {
    "add1": lambda rng: _add(rng, 1),
    "add2": lambda rng: _add(rng, 2),
    "lego1": lambda rng: _lego(rng, 1),
    "lego2": lambda rng: _lego(rng, 2),
    "lego3": lambda rng: _lego(rng, 3),
    "copy": lambda rng: _string(rng, "copy", 4),
    "reverse": lambda rng: _string(rng, "reverse", 4),
    "mirror": lambda rng: _string(rng, "mirror", 4),
}
TARGETS = ("add2", "lego3", "mirror")
GRAPH = {
    "add1": {"add2": 0.5},
    "lego1": {"lego2": 0.5, "lego3": 0.5},
    "lego2": {"lego3": 0.5},
    "copy": {"mirror": 0.5},
    "reverse": {"mirror": 0.5},
}
"""Which skill helps which, for Skill-It; 0.5 as in its code."""
STAGES = (("add1", "lego1", "copy"), ("lego2", "reverse"), TARGETS)
"""The hand-made curriculum: easy, middle, target."""


def skill_store(folder: Path, tokens: int, seed: int = 0) -> TokenStore:
    """About `tokens` tokens (bytes), the same amount of each skill; found again when it is there."""
    name = folder / f"skills-{tokens}-{seed}"
    if (name / "manifest.json").exists():
        return TokenStore.open(name)
    rows: list[dict[str, Any]] = []
    for k, (skill, make) in enumerate(SKILLS.items()):
        rng = np.random.default_rng([seed, k])
        size = 0
        while size < tokens // len(SKILLS):
            text = "\n".join(make(rng) for _ in range(200)) + "\n"
            size += len(text)
            identity = sha256(f"{skill}/{len(rows)}".encode()).hexdigest()[:32]
            rows.append({"id": identity, "text": text, "domain": skill})
    tokenizer = Tokenizer.train([row["text"] for row in rows[:: max(len(rows) // 100, 1)]], 257)
    return TokenStore.write(name, [pa.RecordBatch.from_pylist(rows)], tokenizer)


def questions(skill: str, tokens: int, tokenizer: Tokenizer, seed: int = 10_000) -> np.ndarray[Any, Any]:
    """A stream of unseen examples of a skill, `int64[n]`."""
    rng = np.random.default_rng([seed, list(SKILLS).index(skill)])
    text = ""
    while len(text) < tokens:
        text += "".join(SKILLS[skill](rng) + "\n" for _ in range(100))
    return tokenizer.encode([text[:tokens]])[0].astype(np.int64)


@dataclass(frozen=True)
class Accuracy:
    """Share of answers that are right in every token."""

    right: int
    asked: int

    @property
    def share(self) -> float:
        return self.right / max(self.asked, 1)


def accuracy(
    model: Callable[[Tensor], Tensor],
    stream: np.ndarray[Any, Any],
    tokenizer: Tokenizer,
    seq_len: int,
    device: str,
) -> Accuracy:
    """Greedy answers, given the true question and the answer's true beginning, of the examples in each
    block."""
    ask, end = (int(tokenizer.encode([c])[0][0]) for c in (">", "\n"))
    blocks = (len(stream) - 1) // seq_len
    right = asked = 0
    for low in range(0, blocks, 64):
        rows = np.stack(
            [stream[i * seq_len : (i + 1) * seq_len + 1] for i in range(low, min(low + 64, blocks))]
        )
        tokens = torch.from_numpy(rows).to(device)
        with torch.no_grad():
            guess = model(tokens[:, :-1]).argmax(-1).cpu().numpy()
        for row, said in zip(rows, guess, strict=True):
            ends = np.flatnonzero(row == end)
            # Of the first example in a block the question may be cut off; it is left out.
            for begin, stop in itertools.pairwise(ends):
                at = int(begin) + int(np.flatnonzero(row[begin:stop] == ask)[0])
                asked += 1
                right += bool((said[at:stop] == row[at + 1 : stop + 1]).all())
    return Accuracy(right, asked)
