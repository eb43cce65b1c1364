"""Supervised fastText models of the user (Joulin et al. 2016, arXiv 1607.01759), by their own predictor."""

from __future__ import annotations

import struct
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

import fasttext
import pyarrow as pa

from tillage.core.errors import UserError
from tillage.kernels.arrow import string_array

_PREFIX = "__label__"
_MAGIC, _SUPERVISED = 793712314, 3
# Magic, version; dim, ws, epoch, minCount, neg, wordNgrams, loss, model, bucket, minn, maxn, lrUpdateRate, t;
# of the dictionary: size, words, labels, tokens, pruned.
_HEAD = struct.Struct("<2i12id3i2q")
_ENTRY = struct.Struct("<qb")
_lock = Lock()


def fasttext_labels(path: Path) -> list[str]:
    """The labels of a supervised model without their prefix, in the order of the file.

    Raises:
        UserError: the file cannot be read, or is no such model.
    """
    try:
        return _labels(path, path.stat().st_mtime_ns)
    except OSError as error:
        raise UserError("cannot read the model", where=path, got=error.strerror) from error


def fasttext_scores(texts: pa.Array | pa.ChunkedArray, path: str, label: str, limit: int) -> pa.Array:
    """The probability of `label` for each text, float64, 0 to 1; null for texts without a known word.

    Args:
        limit: characters of each text that are looked at.
    """
    with _lock:
        model = _load(path, Path(path).stat().st_mtime_ns)
    scores: list[float | None] = []
    for text in string_array(texts).to_pylist():
        line = None if text is None else " ".join(text[:limit].split())
        if not line:
            scores.append(None)
            continue
        said = model.predict(line + "\n", -1, 0.0, "strict")
        if not said:
            scores.append(None)
            continue
        found = {name.removeprefix(_PREFIX): score for score, name in said}
        # A hierarchical softmax leaves out labels whose probability is nil; sums of float32 may pass 1.
        scores.append(min(float(found.get(label, 0.0)), 1.0))
    return pa.array(scores, pa.float64())


@lru_cache(maxsize=8)
def _load(path: str, modified: int) -> Any:
    del modified  # only there so that a file written anew is read anew
    return fasttext.load_model(path).f


@lru_cache(maxsize=8)
def _labels(path: Path, modified: int) -> list[str]:
    del modified
    data = path.read_bytes()
    if len(data) < _HEAD.size or _HEAD.unpack_from(data)[0] != _MAGIC:
        raise UserError(
            "not a fastText model", where=path, expected="a .bin or .ftz file that fastText wrote"
        )
    head = _HEAD.unpack_from(data)
    if head[9] != _SUPERVISED:
        raise UserError(
            "the model classifies nothing: it holds word vectors", where=path, expected="a supervised model"
        )
    labels: list[str] = []
    at = _HEAD.size
    for _ in range(head[15]):
        end = data.find(b"\0", at)
        after = end + 1 + _ENTRY.size
        if end < 0 or after > len(data):
            raise UserError("the file of the model is cut off", where=path)
        if _ENTRY.unpack_from(data, end + 1)[1]:
            labels.append(data[at:end].decode().removeprefix(_PREFIX))
        at = after
    return labels
