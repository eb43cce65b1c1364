"""Toxic words: the built-in list and a user's own, and how many of them texts have."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tillage.core.errors import UserError
from tillage.kernels.wordlist import WordList, count_listed, word_list

LEVELS = 3
"""Mild, strong, slurs against groups of people."""

Phrases = tuple[tuple[str, int], ...]
"""Phrase and level."""


def read_words(path: Path) -> dict[str, int]:
    """Phrase -> level, of a text file: one a line, a tab and the level after it; without one, 2. # comments.

    Raises:
        UserError: the file cannot be read or holds no words, or a line has no such level.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError("cannot read the list of words", where=path, got=error) from error
    return _parse(text, str(path))


@cache
def built_in() -> dict[str, int]:
    """Phrase -> level of the list that comes with Tillage: short, mostly English."""
    return _parse((files("tillage.data") / "toxic.txt").read_text(encoding="utf-8"), "toxic.txt")


def _parse(text: str, where: str) -> dict[str, int]:
    levels: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        phrase, _, level = line.partition("\t")
        if not phrase.strip() or phrase.startswith("#"):
            continue
        if level.strip() not in ("", "1", "2", "3"):
            raise UserError("not a level", where=f"{where}:{number}", got=level, expected="1, 2 or 3")
        try:
            word_list({phrase: 1})
        except ValueError as error:
            raise UserError("cannot look for this", where=f"{where}:{number}", got=error) from error
        levels[phrase.strip()] = int(level.strip() or 2)
    if not levels:
        raise UserError("no words in the list", where=where)
    return levels


def toxic_counts(texts: pa.Array, phrases: Phrases) -> NDArray[np.int64]:
    """Words of each text, then those of each level, shape (rows, 1 + LEVELS)."""
    return count_listed(texts, _listed(phrases), LEVELS)


def toxic_ratio(counts: NDArray[np.int64], level: int) -> NDArray[np.float64]:
    """The share of each text's words that are of this level or above, shape (rows,)."""
    return counts[:, level:].sum(axis=1) / np.maximum(counts[:, 0], 1)


@cache
def _listed(phrases: Phrases) -> WordList:
    return word_list(dict(phrases))
