"""Toxic words against a slow reference, the user's own list, and the classifier."""

import importlib
import unicodedata

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tillage.core.errors import UserError
from tillage.data.schema import BASE
from tillage.kernels.wordlist import count_listed, word_list
from tillage.ops.conformance import execute
from tillage.ops.toxicity import Profanity, ToxicWords, read_words

LIST = {"bad": 1, "bad dog": 2, "very bad dog": 3, "他妈": 3, "ÜBEL": 2, "dog": 1}


def rows(*texts):
    count = len(texts)
    columns = [[f"{i:032x}" for i in range(count)], texts, ["d"] * count, ["f"] * count, list(range(count))]
    columns += [[None] * count] * 2
    return pa.table([pa.array(c, k) for c, k in zip(columns, BASE.types, strict=True)], schema=BASE)


def slow_words(text):
    """Runs of letters, digits and marks in lower case; a Han character is a word."""
    out, word = [], ""
    for c in text:
        kind = unicodedata.category(c)[0]
        if kind in "LNM" and not "\u4e00" <= c <= "\u9fff":
            word += c.lower()
            continue
        out += [word] if word else []
        word = ""
        out += [c] if kind == "L" else []
    return out + ([word] if word else [])


PHRASES = [slow_words(phrase) for phrase in LIST]


def slow_counts(text):
    words, counts, at = slow_words(text), [0] * 4, 0
    counts[0] = len(words)
    while at < len(words):
        sizes = [n for n in range(1, min(4, len(words) - at + 1)) if words[at : at + n] in PHRASES]
        size = max(sizes, default=0)
        if size:
            level = next(v for p, v in LIST.items() if slow_words(p) == words[at : at + size])
            counts[level] += size
        at += max(size, 1)
    return counts


PIECES = [
    "bad",
    "Bad",
    "dog",
    "DOG",
    "very",
    "übel",
    "Übel",
    "他",
    "妈",
    "的",
    " ",
    "-",
    ", ",
    "\n",
    "x",
    "baddog",
]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(st.sampled_from(PIECES), max_size=12).map("".join), max_size=4))
def test_listed_words_against_a_slow_count(texts):
    found = count_listed(pa.array(texts, pa.large_string()), word_list(LIST), 3)
    assert found.tolist() == [slow_counts(text) for text in texts]


def test_ratios_levels_and_slurs():
    texts = (
        "A calm day on the river, with nothing to shout about at all.",
        "What the fuck, this SHIT is fucking bad",
        "well damn it, the crap is crap",
        "他妈的",
        "Scunthorpe, a classic assessment",
        "",
        None,
        "he called them faggots " + "and then the report goes on " * 30,
    )
    result = execute(ToxicWords(max_slurs=0), rows(*texts))
    assert result.column("toxic_words").to_pylist() == [0, 3, 4, 3, 0, 0, 0, 1]
    assert result.column("toxic_ratio").to_pylist() == pytest.approx([0, 3 / 8, 0, 1, 0, 0, 0, 1 / 184])
    assert result.column("toxic_slurs").to_pylist() == [0] * 7 + [1]
    toxic, slurs = "toxic_words:toxic", "toxic_words:slurs"
    assert result.column("_drop").to_pylist() == [None, toxic, None, toxic, None, None, None, slurs]
    mild = execute(ToxicWords(level=1, max_ratio=0.5), rows(*texts))
    assert mild.column("_drop").to_pylist()[:4] == [None, None, "toxic_words:toxic", "toxic_words:toxic"]


def test_own_lists(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("# ours\nBöse Hexe\t3\nfie\n\n")
    assert read_words(path) == {"Böse Hexe": 3, "fie": 2}
    only = ToxicWords(words=path, built_in=False, max_ratio=0.2)
    result = execute(only, rows("die böse, HEXE", "fuck fuck", "fie and more and more"))
    assert result.column("toxic_slurs").to_pylist() == [2, 0, 0]
    assert result.column("toxic_words").to_pylist() == [2, 0, 1]
    assert execute(ToxicWords(words=path), rows("fuck fie")).column("toxic_words").to_pylist() == [2]
    before = only.fingerprint()
    path.write_text("Böse Hexe\t4\n")
    assert only.fingerprint() != before
    for content, message in (
        ("a\t4\n", "not a level"),
        ("...\n", "cannot look for this"),
        ("# none\n", "no words"),
    ):
        path.write_text(content)
        with pytest.raises(UserError, match=message):
            execute(only, rows("x"))
    with pytest.raises(UserError, match="cannot read the list"):
        read_words(tmp_path / "none.txt")
    with pytest.raises(UserError, match="there is no list"):
        ToxicWords(built_in=False)


def test_the_classifier_judges_pieces():
    pytest.importorskip("profanity_check")
    calm = "The farmer and the miller have a field of wheat to the north of the river. " * 8
    texts = ("You are a stupid idiot, shut up.", calm, calm + "You fucking idiot. " * 30, "", None)
    result = execute(Profanity(), rows(*texts))
    worst, share = (result.column(name).to_pylist() for name in ("profanity", "profane_share"))
    assert worst[0] > 0.9 > 0.2 > worst[1]
    assert worst[2] > 0.9
    assert share[:2] == [1.0, 0.0]
    assert share[2] == 0.6  # the first two of five pieces are calm
    assert worst[3:] == share[3:] == [None, None]
    assert [drop is None for drop in result.column("_drop").to_pylist()] == [False, True, False, True, True]
    head = execute(Profanity(max_pieces=1), rows(*texts)).column("profanity").to_pylist()
    assert head[2] == head[1] <= worst[1]


def test_without_the_extra_the_error_names_it(monkeypatch):
    def absent(name):
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(UserError, match="not installed") as caught:
        execute(Profanity(), rows("x"))
    assert "pip install 'tillage[toxicity]'" in str(caught.value)
