"""The n-gram model against a slow reference that follows the formula with dictionaries."""

import math
from collections import Counter, defaultdict

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tillage.kernels import ngram_lm
from tillage.kernels.ngram_lm import NgramModel


class Slow:
    def __init__(self, order: int) -> None:
        self.order = order
        self.after: dict[bytes, Counter[int]] = defaultdict(Counter)

    def train(self, texts: list[str]) -> None:
        for text in texts:
            data = text.encode()
            for at, byte in enumerate(data):
                for length in range(min(self.order, at + 1)):
                    self.after[data[at - length : at]][byte] += 1

    def p(self, context: bytes, byte: int) -> float:
        p = 1 / 256
        for length in range(min(self.order, len(context) + 1)):
            follow = self.after.get(context[len(context) - length :])
            if follow:
                p = (follow[byte] + len(follow) * p) / (sum(follow.values()) + len(follow))
        return p

    def bits(self, text: str) -> float:
        data = text.encode()
        return -sum(math.log2(self.p(data[:at], byte)) for at, byte in enumerate(data))


texts = st.lists(st.text(alphabet="abü中🙂 \n", max_size=40), max_size=6)


@given(texts, texts, st.integers(1, 7))
@settings(max_examples=60, deadline=None)
def test_equals_reference(train: list[str], target: list[str], order: int) -> None:
    slow = Slow(order)
    slow.train(train)
    got = NgramModel(order).train(train).bits(target)
    assert list(got) == pytest.approx([slow.bits(text) for text in target], rel=1e-12)


@given(texts, st.text(alphabet="abü ", max_size=10))
@settings(max_examples=20, deadline=None)
def test_probabilities_sum_to_one(train: list[str], context: str) -> None:
    model = NgramModel(4).train(train)
    # 128 one-byte characters, and the rest of the 256 bytes by what is left of the reference
    before = model.bits([context])[0]
    after = model.bits([context + chr(byte) for byte in range(128)])
    slow = Slow(4)
    slow.train(train)
    high = sum(slow.p(context.encode(), byte) for byte in range(128, 256))
    assert sum(2 ** -(bits - before) for bits in after) + high == pytest.approx(1.0, abs=1e-9)


def test_growth_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    train = [f"{i * 7919 % 10007:x} {i * 104729 % 65537:x}\n" * 3 for i in range(9000)]
    model = NgramModel(6).train(train)
    assert model._table.shape[0] > 1 << 16
    slow = Slow(6)
    slow.train(train)
    assert model.bits_per_byte(train[:5]) * sum(map(len, train[:5])) == pytest.approx(
        sum(slow.bits(text) for text in train[:5])
    )


def test_long_documents_are_cut_not_lost() -> None:
    long = "abcd" * 50_000
    model = NgramModel(3).train([long])
    assert model.bytes == 200_000
    assert model.bits_per_byte([long]) < 0.01


def test_nulls_slices_and_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    array = pa.array(["x", None, "ab", "", "abc"], pa.large_string())
    model = NgramModel(3).train(array.slice(1))
    assert model.bytes == 5
    assert list(model.bits(array.slice(1)) > 0) == [False, True, False, True]
    with pytest.raises(ValueError, match="no bytes"):
        model.bits_per_byte([""])
    with pytest.raises(ValueError, match="order"):
        NgramModel(8)
    monkeypatch.setattr(ngram_lm, "MAX_BYTES", 6)
    with pytest.raises(ValueError, match="counters"):
        model.train(["abcd"])


def test_in_domain_text_is_cheaper() -> None:
    english = ["the cat sat on the mat and the dog ran to the cat. "] * 30
    digits = ["01 1001 11 0101 110 1001 0110 1011 00 11 0101 "] * 30
    target = ["the dog sat on the mat."]
    assert NgramModel().train(english).bits_per_byte(target) < NgramModel().train(digits).bits_per_byte(
        target
    )
