"""An index that is extended decides as a fit over all rows does; keep rules and marks."""

import random

import daft
import numpy as np
import pyarrow as pa
import pytest

from tillage.core.errors import UserError
from tillage.data.schema import BASE
from tillage.ops import base
from tillage.ops.base import Decisions
from tillage.ops.conformance import digest, execute
from tillage.ops.dedup import ExactDedup, MinHashDedup, SimHashDedup, UrlDedup


def corpus(seed):
    """Copies, near-copies and others; files sort otherwise than rows come."""
    draw = random.Random(seed)
    texts = [" ".join(f"w{draw.randrange(4000)}" for _ in range(60)) for _ in range(25)]
    for _ in range(35):
        words = draw.choice(texts).split()
        for _ in range(draw.randrange(3)):
            words[draw.randrange(len(words))] = "other"
        texts.append(" ".join(words))
    count = len(texts)
    draw.shuffle(texts)
    columns = [
        [f"{i:032x}" for i in range(count)],
        texts,
        [None] * count,
        [draw.choice(["b", "a", "c"]) for _ in range(count)],
        list(range(count)),
        [None] * count,
        [None] * count,
    ]
    return pa.table([pa.array(c, t) for c, t in zip(columns, BASE.types, strict=True)], schema=BASE)


def keyed(op, table):
    return daft.from_arrow(table).with_columns(op.keys()).collect()


OPS = [
    ExactDedup(keep="best", best_by="line"),
    UrlDedup(column="source", mark=True),
    MinHashDedup(mark=True),
    MinHashDedup(keep="longest", bands=20, rows=4, second_rows=0),
    SimHashDedup(min_words=1, distance=4),
]


@pytest.mark.parametrize("op", OPS, ids=lambda op: f"{op.name}-{op.keep}")
def test_an_extended_index_decides_as_a_fit_over_all_does(op, tmp_path):
    table = corpus(7)
    folders = [tmp_path / name for name in ("all", "0", "1", "2", "3")]
    for folder in folders:
        folder.mkdir()
    op.fit(keyed(op, table), folders[0])
    # From no rows at all, in three steps, with the later files among the first rows.
    cuts = [0, 0, 20, 21, table.num_rows]
    op.fit(keyed(op, table.slice(0, 0)), folders[1])
    for step in (1, 2, 3):
        part = table.slice(cuts[step], cuts[step + 1] - cuts[step])
        op.extend(keyed(op, part), folders[step], folders[step + 1])
    whole, extended = (Decisions.read(f) for f in (folders[0], folders[-1]))
    assert whole.num_rows > 10
    assert digest(whole) == digest(extended)


def test_the_best_by_a_column_stays_and_marks_name_the_cluster():
    table = corpus(3).slice(0, 2)
    table = table.set_column(1, BASE.field(1), pa.array(["same text"] * 2, pa.large_string()))
    ids = table.column("id").to_pylist()
    marked = execute(ExactDedup(keep="best", best_by="line", mark=True), table)
    assert marked.column("duplicate_of").to_pylist() == [ids[1], None]
    assert marked.column("duplicate_cluster").to_pylist() == [ids[1]] * 2
    assert marked.column("duplicates").to_pylist() == [2, 2]
    alone = execute(ExactDedup(mark=True), table.slice(0, 1))
    assert alone.column("duplicate_cluster").to_pylist() == ids[:1]
    measured = MinHashDedup(keep="best", best_by="words")
    assert [type(need).__name__ for need in measured.requires()] == ["TextStats"]
    for wrong in ({"keep": "best"}, {"best_by": "line"}):
        with pytest.raises(UserError, match="go together"):
            ExactDedup(**wrong)


def test_decisions_find_their_rows_also_where_hashes_collide(tmp_path, monkeypatch):
    def coarse(ids):
        return np.array([len(id) for id in ids.to_pylist()], np.uint64)

    monkeypatch.setattr(base, "hash_strings", coarse)
    known = pa.table(
        {"id": ["aa", "b", "cc", "dd"], "n": [1, 2, None, 4], "l": [["x"], [], None, ["y", "z"]]}
    )
    Decisions.write(tmp_path, known)
    rows = daft.from_pydict({"id": ["dd", "zz", "cc", "b", "aa", "", "yyy"]})
    found = Decisions.join(rows, tmp_path).to_pydict()
    assert found["n"] == [4, None, None, 2, 1, None, None]
    assert found["l"] == [["y", "z"], None, None, [], ["x"], None, None]
    assert Decisions.read(tmp_path).sort_by("id").equals(known.sort_by("id"))
