"""Learning operators from examples: what is learned holds on rows that were not seen, and runs as a step."""

from __future__ import annotations

import random

import pyarrow as pa
import pytest

from tillage.agent.learn import learn
from tillage.agent.learn_edit import learn_edit
from tillage.core.errors import UserError, WorkFailed
from tillage.data.schema import BASE
from tillage.ops.conformance import conform, execute
from tillage.ops.edit import Cut, Edit, apply
from tillage.ops.where import Where

FOODS = ["bread", "soup", "rice", "cake", "beans", "salad", "pasta", "stew"]


def table(texts: list[str], **more: list[str | None]) -> pa.Table:
    count = len(texts)
    base = {
        "id": [f"{i:032x}" for i in range(count)],
        "text": texts,
        "domain": ["d"] * count,
        "source": ["s"] * count,
        "line": list(range(count)),
        "_drop": [None] * count,
        "_detail": [None] * count,
    }
    rows = pa.table(base, schema=BASE)
    for name, values in more.items():
        rows = rows.append_column(name, pa.array(values, pa.large_string()))
    return rows


def kept(keep: str, rows: pa.Table) -> list[bool]:
    return [mark is None for mark in execute(Where(keep=keep), rows)["_drop"].to_pylist()]


def recipe(rng: random.Random, timed: bool) -> str:
    time = f"Cook for {rng.randrange(5, 90)} minutes. " if timed else ""
    food = rng.choice(FOODS)
    return f"Take {rng.randrange(2, 9)} cups of {food}. {time}Serve with {rng.choice(FOODS)} to friends."


def test_recipes_without_a_cooking_time() -> None:
    rng = random.Random(3)
    good = [{"text": recipe(rng, True)} for _ in range(40)]
    bad = [{"text": recipe(rng, False)} for _ in range(40)]
    found = learn(good, bad)
    assert found.precision >= 0.95
    assert found.recall >= 0.95
    fresh = [recipe(rng, i % 2 == 0) for i in range(40)]
    assert kept(found.keep, table(fresh)) == [i % 2 == 0 for i in range(40)]
    assert found.step()["where"]["keep"] == found.keep
    assert "40 good and 40 bad" in found.step()["why"]


def test_fields_and_two_kinds_of_fault() -> None:
    rng = random.Random(4)
    words = [
        "the",
        "field",
        "of",
        "wheat",
        "lies",
        "to",
        "the",
        "north",
        "and",
        "rain",
        "falls",
        "on",
        "it",
        "in",
        "spring",
    ]
    plain = [" ".join(rng.choices(words, k=40)) for _ in range(120)]
    good = [{"text": text, "author": "jo"} for text in plain[:60]]
    bad = [{"text": text, "author": None} for text in plain[60:90]]
    bad += [{"text": text[:20].upper(), "author": "jo"} for text in plain[90:]]
    found = learn(good, bad)
    assert found.precision >= 0.95
    assert found.recall >= 0.95
    assert len(found.rules) == 2
    assert any("author" in rule for rule in found.rules)
    authors: list[str | None] = ["jo", None, "", "jo"]
    texts = [plain[0], plain[1], plain[2], plain[3][:20].upper()]
    assert kept(found.keep, table(texts, author=authors)) == [True, False, False, False]


def test_what_cannot_be_told_apart_is_not_learned() -> None:
    rng = random.Random(5)
    same = [{"text": " ".join(rng.choices(FOODS, k=12))} for _ in range(60)]
    try:
        found = learn(same[:30], same[30:])
    except WorkFailed:
        return
    # A rule may fit noise; cross-validation must say so.
    assert found.recall < 0.5


def test_too_few_rows_or_no_text() -> None:
    with pytest.raises(UserError, match="too few bad rows"):
        learn([{"text": "a"}] * 5, [{"text": "b"}])
    with pytest.raises(UserError, match="no text"):
        learn([{"text": "a"}] * 5, [{"txt": "b"}] * 5)


@pytest.mark.parametrize(
    ("pairs", "unseen"),
    [
        (  # numbered lines
            [(f"{i}. {food} is good", f"{food} is good") for i, food in enumerate(FOODS, 7)],
            ("123. fish", "fish"),
        ),
        (  # log lines to their messages
            [(f"2024-01-{i:02d} ERROR disk {f} full", f"disk {f} full") for i, f in enumerate(FOODS, 1)],
            ("2023-11-30 INFO all is well", "all is well"),
        ),
        (  # a column
            [(f"{i}\t{food}\t{i * 3}", food) for i, food in enumerate(FOODS)],
            ("9\tfish\t1", "fish"),
        ),
        (  # a footer, and some texts that have none
            [(f"{f} soup\nRead more...", f"{f} soup") for f in FOODS] + [(f"a {f}", f"a {f}") for f in FOODS],
            ("fish\nRead more...", "fish"),
        ),
    ],
    ids=["numbered", "log", "column", "footer"],
)
def test_rewrites(pairs: list[tuple[str, str]], unseen: tuple[str, str]) -> None:
    found = learn_edit(pairs)
    assert (found.precision, found.recall, found.fit) == (1.0, 1.0, 1.0)
    assert apply(found.program, unseen[0]) == unseen[1]
    op = Edit.load(found.step()["edit"], "test")
    assert execute(op, table([unseen[0]]))["text"].to_pylist() == [unseen[1]]


def test_rewrites_that_no_program_explains() -> None:
    with pytest.raises(WorkFailed, match="no small program"):
        learn_edit([("abc", "cab"), ("xyz", "zxy"), ("one", "eon")])
    with pytest.raises(UserError, match="too few pairs"):
        learn_edit([("a", "a")] * 5)


def test_edit_conforms_and_leaves_what_does_not_fit() -> None:
    assert conform(Edit.example()) == []
    cuts = [Cut(do="prefix", what="<d>. "), Cut(do="field", what="|", index=3), Cut(do="before", what="#")]
    assert apply(cuts, "no such thing") == "no such thing"
    assert apply([Cut(do="prefix", what="<a>")], "all") == "all"  # nothing would be left
    assert apply([Cut(do="tidy")], " a  b ") == "a b"
    assert apply([Cut(do="lines", what="<d>")], "a\n12\nb") == "a\nb"
    assert apply([Cut(do="suffix", what=" <w>.")], "one two three.") == "one two"
