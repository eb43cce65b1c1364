"""Shuffled words, random letters and word salad among running text in two languages."""

import itertools
import json
import random

import numpy as np
import pyarrow as pa
import pytest

from tillage.data.schema import BASE
from tillage.kernels.fluency import FluencyCounts, fluency
from tillage.ops.conformance import execute
from tillage.ops.fluency import Fluency

ENGLISH = [
    ["the old", "a young", "her", "every", "no", "that"],
    ["farmer", "miller", "teacher", "neighbour", "soldier", "clerk"],
    ["of the village", "from the north", "with a stick", "without any money", "in the rain"],
    ["went down to", "looked for", "spoke about", "had forgotten", "could not find", "was afraid of"],
    ["the river bank", "his own house", "the end of the year", "a field of wheat", "the king and his men"],
    ["because it was late", "and said nothing", "as people often do", "before the winter came", "once again"],
]
GERMAN = [
    ["der alte", "ein junger", "jeder", "kein", "unser"],
    ["Bauer", "Müller", "Lehrer", "Nachbar", "Soldat"],
    ["aus dem Dorf", "mit einem Stock", "ohne jedes Geld", "im Regen"],
    ["ging hinunter zu", "suchte nach", "sprach von", "hatte Angst vor"],
    ["dem Ufer des Flusses", "seinem eigenen Haus", "dem Ende des Jahres", "einem Feld voll Weizen"],
    ["weil es spät war", "und sagte nichts", "wie man es oft tut", "bevor der Winter kam"],
]


def prose(rng, parts, sentences=14):
    return " ".join(" ".join(rng.choice(part) for part in parts).capitalize() + "." for _ in range(sentences))


def shuffled(rng, text):
    words = text.split()
    rng.shuffle(words)
    return " ".join(words)


def letters(rng, text):
    word = lambda: "".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(3, 9)))  # noqa: E731
    return " ".join(word() for _ in text.split())


def rows(texts):
    count = len(texts)
    columns = [[f"{i:032x}" for i in range(count)], texts, ["d"] * count, ["f"] * count, list(range(count))]
    columns += [[None] * count] * 2
    return pa.table([pa.array(c, k) for c, k in zip(columns, BASE.types, strict=True)], schema=BASE)


@pytest.fixture(scope="module")
def mixed():
    rng = random.Random(5)
    good = [prose(rng, parts) for _ in range(120) for parts in (ENGLISH, GERMAN)]
    bad = [shuffled(rng, text) for text in good[:30]] + [letters(rng, text) for text in good[:30]]
    return [*good, *bad, None, "short"], len(good)


def test_what_is_not_language_is_dropped(mixed):
    texts, good = mixed
    drops = execute(Fluency(), rows(texts)).column("_drop").to_pylist()
    assert drops[:good] == [None] * good
    assert drops[good + 30 : good + 60] == ["fluency:gibberish"] * 30
    assert drops[good : good + 30].count("fluency:shuffled") >= 28
    assert drops[-2:] == [None, None]
    marked = execute(Fluency(mark=True), rows(texts))
    assert set(marked.column("_drop").to_pylist()) == {None}
    assert marked.column("not_language").to_pylist()[good + 30] == "gibberish"


def test_a_reference_is_held_against(mixed, tmp_path):
    texts, good = mixed
    path = tmp_path / "reference.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts[: good // 2]))
    some = [*texts[good // 2 : good // 2 + 20], *texts[good : good + 10], *texts[good + 30 : good + 40]]
    table = execute(Fluency(reference=path), rows(some))
    drops, scores = table.column("_drop").to_pylist(), table.column("fluency").to_pylist()
    assert drops[:20] == [None] * 20 and drops[30:] == ["fluency:gibberish"] * 10
    assert max(score for score in scores[20:30] if score is not None) < min(scores[:20])


def test_texts_put_together_from_sentences_of_others_have_familiar_phrases():
    rng = random.Random(8)
    word = lambda: "".join(rng.choices("abdefgiklmnoprstu", k=5))  # noqa: E731
    lines = [" ".join(word() for _ in range(9)) for _ in range(10)]
    free = [" ".join(word() for _ in range(60)) for _ in range(40)]
    made = [" ".join(rng.sample(lines, 6)) for _ in range(20)]
    out = (
        execute(Fluency(mark=True), rows([*free, *made, "one", None])).column("familiar_phrases").to_pylist()
    )
    assert max(out[:40]) < 0.05
    assert min(out[40:60]) > 0.7
    assert out[60:] == [None, None]


def slow(texts, at, apart=(4, 7)):
    """The measures of text `at` by plain sets, without hashing into buckets."""
    words = [text.lower().split() for text in texts]
    others = [w for i, w in enumerate(words) if i != at]
    grams = lambda w, n: set(zip(*(w[k:] for k in range(n)), strict=False))  # noqa: E731
    known = [set().union(*(grams(w, n) for w in others)) for n in (1, 2, 3)]
    mine = words[at]
    pairs = list(itertools.pairwise(mine))
    control = [
        pair
        for d in apart
        for i in range(len(mine) - d)
        for pair in ((mine[i], mine[i + d]), (mine[i + d], mine[i]))
    ]
    triples = zip(mine, mine[1:], mine[2:], strict=False)
    chains = [t for t in triples if t[:2] in known[1] and t[1:] in known[1]]
    familiar = [(w,) in known[0] or mine.count(w) > 1 for w in mine]
    return [
        len(pairs),
        np.mean([p in known[1] for p in pairs]),
        np.mean([p in known[1] for p in control]),
        np.mean(familiar),
        np.mean([t in known[2] for t in chains]) if chains else np.nan,
    ]


def test_measures_are_those_of_a_slow_reading():
    rng = random.Random(1)
    texts = [" ".join(rng.choices("a b c d e f g h i j k l m n o".split(), k=30)) for _ in range(8)]  # noqa: SIM905
    array = pa.array(texts, pa.large_string())
    counts = FluencyCounts()
    counts.add(array)
    found = fluency(array, np.ones(len(texts), np.uint8), counts.seen)
    for at in range(len(texts)):
        assert found[at] == pytest.approx(slow(texts, at), nan_ok=True)
