"""Embeddings of texts, topics of a corpus, likeness to a reference; choosing rows by topic."""

import json
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tillage.core.errors import UserError
from tillage.data.schema import BASE
from tillage.kernels import embedding
from tillage.kernels.embedding import dot, embed, some
from tillage.kernels.topics import telling_words
from tillage.ops.conformance import digest, execute
from tillage.ops.embedding import Similarity, Topics
from tillage.ops.select import DomainQuota, TemperatureSample, TopK

FARM = ["wheat", "harvest", "farmer", "barn", "tractor", "soil", "crop", "field", "cattle", "seeds", "plough"]
CODE = ["function", "compiler", "variable", "pointer", "software", "syntax", "thread", "library", "server"]
SEA = [
    "ocean",
    "sailor",
    "ship",
    "harbour",
    "waves",
    "captain",
    "anchor",
    "storm",
    "island",
    "fishing",
    "tide",
]
THEMES = {"farm": FARM, "code": CODE, "sea": SEA}
COMMON = ["the", "and", "with", "from", "this", "that", "have", "for", "their", "about"]


def text(draw, theme, words=40):
    return " ".join(draw.choice(COMMON if draw.random() < 0.5 else THEMES[theme]) for _ in range(words))


def rows(texts):
    count = len(texts)
    columns = [[f"{i * 7919 % 99991:032x}" for i in range(count)], texts, ["d"] * count, ["f"] * count]
    columns += [list(range(count)), [None] * count, [None] * count]
    return pa.table([pa.array(c, k) for c, k in zip(columns, BASE.types, strict=True)], schema=BASE)


@pytest.fixture(scope="module")
def themed():
    draw = random.Random(3)
    names = ["farm"] * 30 + ["code"] * 20 + ["sea"] * 10
    draw.shuffle(names)
    return names, rows([text(draw, name) for name in names])


def test_a_sketch_is_the_mean_of_the_token_vectors():
    # The slow reference: numpy over the same files.
    texts = [
        "The farmer sows wheat.",
        "def total(values):\n    return sum(values)",
        None,
        "",
        "  ",
        "12 34",
        "Der Müller geht nach Hause",
    ]
    model = embedding._load(embedding._folder())
    sketches = embed(pa.array(texts, pa.large_string()))
    assert some(sketches).tolist() == [True, True, False, False, False, False, True]
    for row in (0, 1, 6):
        ids = model.tokenizer.encode(texts[row], add_special_tokens=False).ids
        mean = model.weights[ids].astype(np.float64).mean(axis=0)
        own = sketches[row].astype(np.float64)
        cosine = mean @ own / np.linalg.norm(mean) / np.linalg.norm(own)
        assert cosine > 1 - 5e-5
        assert dot(sketches, row, sketches, row) == int(own @ own)
    assert (embed(pa.array(["The farmer sows wheat. " + "x" * 50]), limit=22)[0] == sketches[0]).all()


@pytest.mark.parametrize(
    "unknown",
    [
        "他种小麦，收获很好！今天下雨。" * 3,
        "กสิกรปลูกข้าวในนา ฝนตกทุกวัน",
        "يزرع الفلاح القمح في الحقل",
        "ᏣᎳᎩ ᎦᏬᏂᎯᏍᏗ",
        "👩‍🌾🌾",
    ],
)
def test_languages_that_the_model_does_not_know_have_no_embedding(unknown):
    assert not some(embed(pa.array([unknown]))).any()


def test_topics_find_the_themes(themed):
    names, table = themed
    result = execute(Topics(topics=3), table)
    by_id = dict(zip(table.column("id").to_pylist(), names, strict=True))
    themes = [by_id[i] for i in result.column("id").to_pylist()]
    topics = result.column("topic").to_pylist()
    assert Counter(zip(themes, topics, strict=True)) == {("farm", 0): 30, ("code", 1): 20, ("sea", 2): 10}
    for theme, label in set(zip(themes, result.column("topic_label").to_pylist(), strict=True)):
        number, words = label.split(" ", 1)
        assert int(number) == ["farm", "code", "sea"].index(theme)
        assert set(words.split(", ")) <= set(THEMES[theme])
    assert min(result.column("topic_similarity").to_pylist()) > 0.4
    assert digest(execute(Topics(topics=3, sample=40), table)) == digest(
        execute(Topics(topics=3, sample=40), table, 5)
    )


def test_choosing_by_topic(themed):
    _, table = themed
    marked = execute(Topics(topics=3), table)
    best = execute(TopK(k=4, column="topic_similarity", by="topic"), marked)
    stay = [drop is None for drop in best.column("_drop").to_pylist()]
    assert Counter(best.column("topic").filter(pa.array(stay)).to_pylist()) == {0: 4, 1: 4, 2: 4}
    quota = execute(DomainQuota(by="topic", rows_each=12, max_rows={"1": 5}), marked)
    stay = [drop is None for drop in quota.column("_drop").to_pylist()]
    assert Counter(quota.column("topic").filter(pa.array(stay)).to_pylist()) == {0: 12, 1: 5, 2: 10}
    flat = execute(TemperatureSample(temperature=1e6, by="rows", group="topic"), marked)
    stay = [drop is None for drop in flat.column("_drop").to_pylist()]
    assert Counter(flat.column("topic").filter(pa.array(stay)).to_pylist()) == {0: 10, 1: 10, 2: 10}
    shares = execute(DomainQuota(by="topic_label", share_each=0.4), marked)
    sizes = Counter()
    for label, drop, words in zip(
        *(shares.column(n).to_pylist() for n in ("topic", "_drop", "text")), strict=True
    ):
        sizes[label] += len(words) if drop is None else 0
    assert max(sizes.values()) <= 0.4 * sum(sizes.values()) + 1
    assert min(sizes.values()) > 0


def test_similarity_to_a_reference(themed, tmp_path):
    names, table = themed
    path = tmp_path / "reference.jsonl"
    draw = random.Random(9)
    path.write_text("".join(json.dumps({"text": text(draw, t)}) + "\n" for t in ("sea", "farm") * 8))
    op = Similarity(reference=path, centroids=2, min=0.6)
    result = execute(op, table)
    by_id = dict(zip(table.column("id").to_pylist(), names, strict=True))
    dropped = {
        by_id[i] for i, d in zip(*(result.column(n).to_pylist() for n in ("id", "_drop")), strict=True) if d
    }
    kept = {
        by_id[i]
        for i, d in zip(*(result.column(n).to_pylist() for n in ("id", "_drop")), strict=True)
        if not d
    }
    assert dropped == {"code"}
    assert kept == {"farm", "sea"}
    unknown = execute(op, rows(["他在田里工作。他种小麦。", None]))
    assert unknown.column("similarity").to_pylist() == [None, None]
    assert unknown.column("_drop").to_pylist()[0] is None
    foreign = tmp_path / "foreign.jsonl"
    foreign.write_text(json.dumps({"text": "他在田里工作。他种小麦。"}) + "\n")
    with pytest.raises(UserError, match="does not know the language"):
        execute(Similarity(reference=foreign), table)


def test_telling_words_are_those_of_one_cluster():
    texts = ["the red fox", "the red hen", "the blue sea", "the blue ant"]
    assert telling_words(texts, np.array([0, 0, 1, 1]), 3, 1) == ["red", "blue", ""]


def test_without_the_extra_the_error_names_it(monkeypatch):
    monkeypatch.setattr(embedding, "find_spec", lambda name: None)
    for op in (Topics(), Similarity(reference=Path(__file__))):
        with pytest.raises(UserError, match="not installed") as caught:
            execute(op, rows(["one"]))
        assert "pip install 'tillage[embed]'" in str(caught.value)
