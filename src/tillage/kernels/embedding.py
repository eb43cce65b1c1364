"""Static embeddings: the mean of a trained vector for each token, small enough for a laptop and any corpus.

The model is WordLlama's `l2_supercat_256` (Miller 2024, github.com/dleemiller/WordLlama, MIT; the mean as in
Reimers and Gurevych 2019, arXiv 1908.10084): 32,000 tokens of Llama 2 in 256 dimensions, trained so that the
mean of a text says what it is about. It ships in the wheel of `wordllama` (extra `embed`), whose files are
read here: its own code pads batches, so that a row's last digits depend on its neighbours. The order of words
does not count.

An embedding is kept as a *sketch*: 256 integers from -127 to 127, the direction of the mean to 3e-5 of its
cosine. What is computed from sketches in integers is the same on every machine.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numba import njit
from numpy.typing import NDArray

from tillage.core.errors import UserError
from tillage.kernels.arrow import Int, string_array

DIMENSIONS = 256
LIMIT = 2000
"""How many characters of a text are looked at, unless said otherwise."""

LEAST_LETTERS = 2.5
"""Letters a token that the model must know a text by. English, German, French and code have 2.6 and more;
languages whose words it cuts into scraps have 2.4 and less: there all texts of a language look the same."""

_FILES = ("weights/l2_supercat_256.safetensors", "tokenizers/l2_supercat_tokenizer_config.json")
_lock = Lock()


class _Model(NamedTuple):
    tokenizer: Any
    weights: NDArray[np.float32]
    letters: NDArray[np.int32]
    """Letters of each token; -1 for a byte of a character that is not in the vocabulary."""


def require_model() -> None:
    """Raises:
    UserError: the extra `embed` is not installed.
    """
    _folder()


def embed(texts: pa.Array | pa.ChunkedArray, limit: int = LIMIT) -> NDArray[np.int8]:
    """The sketch of each text, shape (rows, 256), int8; zeros for null, empty and unknown texts.

    Unknown are texts of which the model knows too little: see `LEAST_LETTERS`.

    Args:
        limit: characters of each text that are looked at.

    Raises:
        UserError: the extra `embed` is not installed.
    """
    with _lock:
        model = _load(_folder())
    heads = [(text or "")[:limit] for text in string_array(texts).to_pylist()]
    encoded = model.tokenizer.encode_batch_fast(heads, add_special_tokens=False)
    lengths = np.fromiter((len(one) for one in encoded), np.int64, len(encoded))
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    tokens = np.empty(int(offsets[-1]), np.int32)
    for row, one in enumerate(encoded):
        tokens[offsets[row] : offsets[row + 1]] = one.ids
    out = np.zeros((len(heads), DIMENSIONS), np.int8)
    _pool(tokens, offsets, model.weights, model.letters, LEAST_LETTERS, out)
    return out


def some(sketches: NDArray[np.int8]) -> NDArray[np.bool_]:
    """Which rows have an embedding, shape (rows,)."""
    return np.asarray(sketches.any(axis=1))


@njit(nogil=True, cache=True)
def _pool(
    tokens: NDArray[np.int32],
    offsets: NDArray[np.int64],
    weights: NDArray[np.float32],
    letters: NDArray[np.int32],
    least: float,
    out: NDArray[np.int8],
) -> None:
    total = np.empty(weights.shape[1], np.float32)
    for row in range(len(offsets) - 1):
        known = words = 0
        total[:] = 0
        for i in range(offsets[row], offsets[row + 1]):
            token = tokens[i]
            if letters[token] != 0:
                words += 1
                known += max(letters[token], 0)
            if letters[token] >= 0:
                for d in range(len(total)):
                    total[d] += weights[token, d]
        if words == 0 or known < least * words:
            continue
        most = np.float32(0)
        for value in total:
            most = max(most, abs(value))
        if most > 0:
            for d in range(len(total)):
                out[row, d] = np.int8(np.rint(total[d] * (np.float32(127) / most)))


@njit(nogil=True, cache=True)
def dot(a: NDArray[np.int8], i: Int, b: NDArray[np.int8], j: Int) -> Int:
    """The product of sketch i of `a` and sketch j of `b`, exactly."""
    total = np.int32(0)
    for d in range(a.shape[1]):
        total += np.int32(a[i, d]) * np.int32(b[j, d])
    return np.int64(total)


def _folder() -> Path:
    spec = find_spec("wordllama")
    if spec is None or not spec.submodule_search_locations:
        raise UserError("embeddings need a model that is not installed", hint="pip install 'tillage[embed]'")
    return Path(spec.submodule_search_locations[0])


@cache
def _load(folder: Path) -> _Model:
    # Optional extras: the rest of Tillage works without them.
    from safetensors.numpy import load_file
    from tokenizers import Tokenizer

    weights, tokenizer = (folder / name for name in _FILES)
    tokens = Tokenizer.from_file(str(tokenizer))
    tokens.no_padding()
    tokens.no_truncation()
    table = load_file(weights)["embedding.weight"].astype(np.float32)
    names = [tokens.id_to_token(i) or "" for i in range(len(table))]
    letters = [
        -1 if name.startswith("<0x") and int(name[3:5], 16) > 127 else sum(map(str.isalpha, _shown(name)))
        for name in names
    ]
    return _Model(tokens, table, np.array(letters, np.int32))


def _shown(name: str) -> str:
    return "" if name.startswith("<") and name.endswith(">") and len(name) > 2 else name
