"""How varied the words of a text are."""

from __future__ import annotations

import re
from collections.abc import Sequence

# A letter of a script written without spaces is a word of its own: Han, kana, Thai, Lao, Khmer, Burmese.
_WORD = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]"
    "|[^\\W_\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]+"
)
_FACTOR = 0.72


def words(text: str) -> list[str]:
    """Runs of letters and digits in lower case."""
    return _WORD.findall(text.lower())


def distinct(found: Sequence[str], n: int) -> float | None:
    """Distinct n-grams over n-grams (Li et al. 2016, arXiv 1510.03055); None where there are none."""
    count = len(found) - n + 1
    return len({tuple(found[i : i + n]) for i in range(count)}) / count if count > 0 else None


def mtld(found: Sequence[str]) -> float | None:
    """Mean length in words of stretches that keep a type-token ratio of 0.72, forward and backward.

    McCarthy and Jarvis 2010, doi 10.3758/BRM.42.2.381: unlike the ratio itself it does not fall with length.
    None for no words.
    """
    if not found:
        return None
    return (_stretch(found) + _stretch(found[::-1])) / 2


def _stretch(found: Sequence[str]) -> float:
    factors, count = 0.0, 0
    types: set[str] = set()
    for word in found:
        types.add(word)
        count += 1
        if len(types) / count <= _FACTOR:
            factors += 1
            types, count = set(), 0
    if count:
        factors += (1 - len(types) / count) / (1 - _FACTOR)
    return len(found) / factors if factors else float(len(found))
