"""Strata, weights and quantiles: how many rows stay, which, and that only ids and values decide."""

import json
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tillage.core.errors import UserError
from tillage.data.schema import BASE
from tillage.ops.conformance import conform, execute
from tillage.ops.perplexity import Perplexity
from tillage.ops.sampling import Quantile, ScoreSample, StratifiedSample, allotted


def rows(texts, domains=None, **columns):
    count = len(texts)
    domains = ["d"] * count if domains is None else domains
    base = [[f"{i:032x}" for i in range(count)], texts, domains, ["f"] * count, list(range(count))]
    base += [[None] * count] * 2
    table = pa.table([pa.array(c, k) for c, k in zip(base, BASE.types, strict=True)], schema=BASE)
    for name, values in columns.items():
        table = table.append_column(name, pa.array(values))
    return table


def kept(op, table):
    return [i for i, drop in enumerate(execute(op, table).column("_drop").to_pylist()) if drop is None]


@settings(max_examples=100)
@given(st.lists(st.integers(0, 50), min_size=1, max_size=8), st.integers(0, 200))
def test_allotted_rows_add_up_and_lie_within_one_of_their_share(sizes, total):
    given_out = allotted(np.array(sizes, np.int64), total)
    whole = sum(sizes)
    assert given_out.sum() == min(total, whole)
    for size, out in zip(sizes, given_out, strict=True):
        assert 0 <= out <= size
        assert abs(out - size * min(total, whole) / max(whole, 1)) < 1


def test_strata_keep_their_shares():
    domains = ["web"] * 60 + ["book"] * 20 + [None] * 3 + ["rare"]
    flags = [i % 2 == 0 for i in range(84)]
    table = rows(["x"] * 84, domains, flag=flags)
    half = Counter(
        (domains[i], flags[i]) for i in kept(StratifiedSample(by=("domain", "flag"), fraction=0.5), table)
    )
    assert half == {
        ("web", True): 15,
        ("web", False): 15,
        ("book", True): 5,
        ("book", False): 5,
        (None, True): 1,
        (None, False): 1,
        ("rare", False): 1,
    }
    each = Counter(domains[i] for i in kept(StratifiedSample(rows_each=4), table))
    assert each == {"web": 4, "book": 4, None: 3, "rare": 1}
    all_in_all = Counter(domains[i] for i in kept(StratifiedSample(rows=21, min_rows=1), table))
    assert all_in_all == {"web": 15, "book": 5, None: 1, "rare": 1}
    assert kept(StratifiedSample(fraction=0.5), table) != kept(StratifiedSample(fraction=0.5, seed=1), table)


def test_numbers_are_cut_into_bins_of_as_many_rows():
    values = [float(i * i) for i in range(40)] + [None] * 4
    table = rows(["x"] * 44, score=values)
    chosen = kept(StratifiedSample(by=("score",), rows_each=2, bins=5), table)
    assert Counter(min(i, 40) // 8 for i in chosen) == dict.fromkeys(range(6), 2)
    with pytest.raises(UserError, match="one of fraction, rows and rows_each"):
        StratifiedSample(rows=3, fraction=0.5)


def test_draws_follow_the_weights():
    weights = [8.0] * 200 + [1.0] * 200 + [0.0, -1.0, None]
    table = rows(["x"] * 403, weight=weights)
    drawn = kept(ScoreSample(column="weight", rows=100), table)
    heavy = sum(i < 200 for i in drawn)
    assert len(drawn) == 100
    assert 75 <= heavy <= 97  # 8 : 1 at the first draw, 86 expected without replacement
    assert all(i < 400 for i in drawn)
    flat = sum(i < 200 for i in kept(ScoreSample(column="weight", rows=100, temperature=100.0), table))
    assert 35 <= flat <= 65
    logs = rows(["x"] * 400, weight=[float(np.log(w)) for w in weights[:400]])
    assert kept(ScoreSample(column="weight", rows=100, weight="exp"), logs) == drawn
    everything = kept(ScoreSample(column="weight", fraction=1.0), table)
    assert len(everything) == 403
    with pytest.raises(UserError, match="one of fraction and rows"):
        ScoreSample(column="weight")
    with pytest.raises(UserError, match="not of numbers"):
        execute(ScoreSample(column="source", rows=1), table)


def test_quantiles_of_each_group():
    values = [float(i) for i in range(10)] + [float(i) for i in range(100, 140)] + [None]
    table = rows(["x"] * 51, ["a"] * 10 + ["b"] * 41, score=values)
    assert kept(Quantile(column="score", highest=0.5, by="domain"), table) == [*range(5), *range(10, 30)]
    assert kept(Quantile(column="score", lowest=0.5, highest=0.9), table) == list(range(25, 45))
    assert kept(Quantile(column="score", missing="keep"), table) == list(range(51))
    equal = rows(["x"] * 50, score=[1.0] * 50)
    half = kept(Quantile(column="score", highest=0.5), equal)
    assert len(half) == 25 != half[-1] + 1
    with pytest.raises(UserError, match="no row lies between"):
        Quantile(column="score", lowest=0.5, highest=0.5)


@pytest.mark.parametrize(
    "op",
    [
        StratifiedSample(by=("domain", "line"), rows=9, min_rows=1),
        ScoreSample(column="line", rows=5, temperature=0.3),
        Quantile(column="mean_line_length", lowest=0.2, highest=0.8, by="domain", missing="keep"),
    ],
    ids=lambda op: op.name,
)
def test_other_parameters_conform(op):
    assert conform(op) == []


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    path = tmp_path_factory.mktemp("reference") / "reference.jsonl"
    texts = [
        f"The farmer sows field {i} in spring, and the seeds grow with the first rain." for i in range(200)
    ]
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


def test_perplexity_ranks_likeness_to_the_reference(reference):
    like, copy = (
        "The seeds grow in spring, and the farmer sows with the rain.",
        "The farmer sows field 7 in spring",
    )
    table = rows([like, copy, "xq9 ##zz 0w-- vvjk", "", None, like + "\x00" * 9000])
    values = execute(Perplexity(reference=reference), table).column("perplexity").to_pylist()
    assert 1 < values[1] < values[0] < 6 < 256 < values[2]
    assert values[3:5] == [None, None]
    assert values[5] > 50
    head = execute(Perplexity(reference=reference, limit=len(like)), table).column("perplexity").to_pylist()
    assert head[5] == head[0] == values[0]
    op = Perplexity(reference=reference, max=10, min=values[1] + 0.01)
    drops = execute(op, table).column("_drop").to_pylist()
    assert drops[:4] == [None, "perplexity:too_predictable", "perplexity:unlike_reference", None]


def test_a_large_reference_is_cut_whatever_its_order(reference, tmp_path):
    turned = tmp_path / "turned.jsonl"
    turned.write_text("".join(reversed(reference.read_text().splitlines(keepends=True))))
    table = rows(["The farmer sows field 7 in spring", "another"])
    few, again, all_of_it = (
        execute(Perplexity(reference=path, reference_bytes=size), table).column("perplexity").to_pylist()
        for path, size in ((reference, 2000), (turned, 2000), (reference, 1 << 20))
    )
    assert few == again != all_of_it
    with pytest.raises(UserError, match="no text of the reference fits"):
        execute(Perplexity(reference=reference, reference_bytes=10), table)
    with pytest.raises(UserError, match="no perplexity lies within"):
        Perplexity(reference=reference, min=5, max=3)
