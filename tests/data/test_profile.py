"""A profile finds what was planted, says on how much it rests, and does not depend on the order of rows."""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tillage.core.errors import UserError
from tillage.core.events import Event, EventLog, Profiled
from tillage.data.profile import Profile, profile
from tillage.data.traits import code_like, licence_like, markup_like

WORDS = [
    f"{a}{b}" for a in ("mo", "del", "tra", "in", "da", "ta") for b in ("ner", "set", "ing", "ly", "ous")
]
LICENCE = (
    "Copyright (c) 2020 A. Permission is hereby granted, free of charge. THE SOFTWARE IS PROVIDED 'AS IS', "
    "without warranty of any kind. In no event shall the authors be liable."
)
CODE = "import os\n\ndef f(x):\n    y = x + 1\n    return y\n\nclass A:\n    pass\n"


def prose(rng: random.Random, words: int = 60) -> str:
    return " ".join(rng.choices(WORDS, k=words)).capitalize() + "."


def table(texts: list[str | None], domains: list[str]) -> pa.Table:
    return pa.table(
        {
            "id": [hashlib.md5(f"{i}".encode()).hexdigest() for i in range(len(texts))],
            "text": pa.array(texts, pa.large_string()),
            "domain": domains,
            "source": ["a.jsonl"] * len(texts),
            "line": list(range(1, len(texts) + 1)),
            "package": [f"p{i % 4}" for i in range(len(texts))],
            "score": np.arange(len(texts), dtype=np.float64),
        }
    )


@pytest.fixture(scope="module")
def raw() -> pa.Table:
    rng = random.Random(1)
    base = [prose(rng) for _ in range(100)]
    texts: list[str | None] = list(base)
    texts += base[:20]  # exact copies
    texts += [t.replace(t.split()[5], "changed", 1) for t in base[20:30]]  # near-copies
    domains = ["prose"] * len(texts)
    texts += [LICENCE + f" number {i}" for i in range(10)]
    domains += ["licence"] * 10
    texts += [CODE + f"x{i} = {i}\n" for i in range(20)]
    domains += ["code"] * 20
    texts += [f"<html><body><p>para {i}</p><p class='a'>more</p></body></html>" for i in range(15)]
    domains += ["markup"] * 15
    texts += [f"write to jane{i}@example.com about {prose(rng, 10)}" for i in range(5)] + [None, None, ""]
    domains += ["prose"] * 8
    return table(texts, domains)


def test_finds_what_was_planted(raw: pa.Table) -> None:
    found = profile(raw)
    assert found.documents == 180  # neither unreadable nor empty
    assert found.quarantined.rate == pytest.approx(2 / 183, abs=1e-6)
    assert found.exact_duplicates.rate == pytest.approx(20 / 180, abs=1e-6)
    assert found.exact_duplicates.low < 20 / 180 < found.exact_duplicates.high
    assert found.domains["prose"].near_duplicates.rate >= 25 / 135
    assert found.near_duplicates.rate >= found.exact_duplicates.rate
    assert found.licence.rate == pytest.approx(10 / 180, abs=1e-6)
    assert found.domains["code"].code.rate == 1.0
    assert found.domains["prose"].code.rate == 0.0
    assert found.markup.rate == pytest.approx(15 / 180, abs=1e-6)
    assert found.pii.rate == pytest.approx(5 / 180, abs=1e-6)
    assert found.pii_kinds["email"] == 5
    assert sum(d.bytes for d in found.domains.values()) == found.bytes
    assert sum(d.share for d in found.domains.values()) == pytest.approx(1.0)
    assert found.target is None
    roles = {field.name: field.role for field in found.fields}
    assert roles == {
        "id": "id", "text": "text", "domain": "domain", "source": "source", "line": "line",
        "package": "category", "score": "number",
    }  # fmt: skip


def test_relation_to_a_target(raw: pa.Table) -> None:
    rng = random.Random(1)
    leaked = prose(rng)  # the first document of the sample
    other = random.Random(7)
    target = [prose(other) for _ in range(40)] + [leaked]
    found = profile(raw, target)
    assert found.target is not None
    assert found.target.documents == 41
    assert found.target.overlap.rate > 0
    assert found.target.overlap.n == 180
    prose_like, code_likeness = found.domains["prose"].likeness, found.domains["code"].likeness
    assert prose_like is not None
    assert code_likeness is not None
    assert prose_like.at(0.5) > code_likeness.at(0.5)
    assert 0.5 < found.target.separation <= 1.0
    assert set(found.evidence()) >= {"near_duplicates", "overlap", "separation"}


def test_row_order_changes_nothing_and_json_is_lossless(raw: pa.Table, tmp_path: Path) -> None:
    events: list[Event] = []
    found = profile(raw, ["some target text", "another one"], EventLog(None, [events.append]))
    order = np.random.default_rng(0).permutation(raw.num_rows)
    pq.write_table(raw.take(order[:100]), tmp_path / "a.parquet")
    pq.write_table(raw.take(order[100:]), tmp_path / "b.parquet")
    again = profile([tmp_path / "a.parquet", tmp_path / "b.parquet"], ["some target text", "another one"])
    assert again == found
    assert events == [Profiled(found.model_dump(mode="json"))]
    assert Profile.model_validate(json.loads(json.dumps(found.model_dump(mode="json")))) == found


def test_quantiles_interpolate(raw: pa.Table) -> None:
    words = profile(raw).quality["words"]
    assert words.at(0.5) == words.quantiles["p50"]
    assert words.quantiles["p25"] <= words.at(0.4) <= words.quantiles["p50"]
    assert words.at(0.0) == words.quantiles["p01"]


def test_wrong_samples(raw: pa.Table, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not of raw rows"):
        profile(raw.drop_columns(["domain"]))
    with pytest.raises(UserError, match="no text"):
        profile(table([None, ""], ["a", "b"]))
    with pytest.raises(UserError, match="cannot read"):
        profile(tmp_path / "none.parquet")


def test_traits() -> None:
    texts = pa.array([CODE, "A sentence about import and return.\nAnother line.", None, "", LICENCE])
    assert code_like(texts).tolist() == [True, False, False, False, False]
    assert licence_like(texts).tolist() == [False, False, False, False, True]


def test_a_page_in_few_tags_is_markup() -> None:
    texts = pa.array(["<!doctype html><p>rain</p>", "rain <p>", None], pa.large_string())
    numbers = {"html_tags": np.array([3.0, 3.0, 0.0]), "html_share": np.array([0.01, 0.01, 0.0])}
    assert markup_like(texts, numbers).tolist() == [True, False, False]
