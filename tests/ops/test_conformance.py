"""Every operator conforms, and the suite sees each defect it is there for."""

import json
import random
import threading
from pathlib import Path
from typing import Any

import daft
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from daft import col, lit
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field, PrivateAttr
from user_models import model_for

from tillage.core.errors import UserError
from tillage.ops import operators
from tillage.ops.base import Annotate, Corpus, Decisions, Filter, Map, Operator, mark_drops, settled
from tillage.ops.conformance import conform, digest, example_rows, execute, with_inputs
from tillage.ops.udf import measure, with_measures

OURS = [name for name, cls in operators if cls.__module__.startswith("tillage.ops.")]


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    path = tmp_path_factory.mktemp("target") / "target.jsonl"
    text = "They sow it in spring, and with the first rain the seeds begin to grow. That is what people say."
    path.write_text(json.dumps({"text": text}) + "\n")
    return path


def example(name, target):
    op = operators.get(name).example()
    paths = {f: target for f, info in type(op).model_fields.items() if info.annotation is Path}
    if "model" in paths:
        paths["model"] = model_for(name, target.parent)
    return op.model_copy(update=paths)


def test_the_operators_of_the_plan_are_there():
    expected = """c4_lines c4_quality decontaminate domain_quota exact_dedup fineweb_quality fix_mojibake
        gopher_quality gopher_repetition html_to_text language language_filter licence line_dedup
        minhash_dedup paragraph_dedup pii_mask refinedweb_lines sample simhash_dedup target_likeness
        temperature_sample text_stats top_k truncate unicode_normalise url_dedup where"""
    assert set(expected.split()) <= set(OURS)


@pytest.mark.parametrize("name", OURS)
def test_conforms(name, target):
    assert conform(example(name, target)) == []


@pytest.mark.parametrize("name", OURS)
def test_source_is_cited(name):
    assert operators.get(name).source


ALPHABET = st.sampled_from([*"aé #.\n中ไ\u0301🌾<>{@1", "word ", "<p>x</p>", "a@b.org ", "\r\n"])
TEXTS = st.lists(st.none() | st.lists(ALPHABET, max_size=30).map("".join), max_size=8)


@settings(max_examples=8, deadline=None)
@given(TEXTS, st.integers(0, 2**16))
@pytest.mark.parametrize("name", OURS)
def test_any_texts_in_any_order_and_split(name, target, texts, seed):
    rows = [(f"{i:032x}", t, "a" if i % 2 else None, "f", i, None, None) for i, t in enumerate(texts)]
    schema = example_rows().schema
    table = pa.table(
        [pa.array([row[i] for row in rows], kind) for i, kind in enumerate(schema.types)], schema=schema
    )
    op = example(name, target)
    table = with_inputs(op, table)
    whole = execute(op, table)
    given = set(table.column("id").to_pylist())
    kept = [id for id in whole.column("id").to_pylist() if op.kind != "generate" or id in given]
    assert kept == table.column("id").to_pylist()
    order = list(range(len(rows)))
    random.Random(seed).shuffle(order)
    assert digest(execute(op, table.take(pa.array(order, pa.int64())), 1 + seed % 3)) == digest(whole)


def rules(op):
    return {violation.rule for violation in conform(op)}


class Sound(Annotate):
    """Count characters."""

    name = "sound"

    def writes(self):
        return {"count": pa.int64()}

    def apply(self, frame, artifact=None):
        return with_measures(
            frame, lambda texts: {"count": pc.utf8_length(texts).cast(pa.int64())}, self.writes()
        )


def test_a_sound_operator_of_a_user_passes():
    assert conform(Sound()) == []


class Locked(Sound):
    """Hold what cannot be shipped."""

    _lock: Any = PrivateAttr(default_factory=threading.Lock)


class Forgetful(Sound):
    """Change when rebuilt."""

    limit: int = Field(default=1, exclude=True)


class WrongType(Sound):
    """Declare another type."""

    def apply(self, frame, artifact=None):
        return super().apply(frame).with_column("count", col("count").cast("string"))


class Undeclared(Sound):
    """Write a column too many, change the domain."""

    def apply(self, frame, artifact=None):
        return super().apply(frame).with_columns({"extra": lit(1), "domain": lit("x")})


class Removes(Sound):
    """Remove rows."""

    def apply(self, frame, artifact=None):
        return super().apply(frame).where(col("text") != lit(""))


class Batchwise(Sound):
    """Depend on the batch."""

    def apply(self, frame, artifact=None):
        kernel = lambda texts: {"count": pa.array([len(texts)] * len(texts), pa.int64())}  # noqa: E731
        return with_measures(frame, kernel, self.writes())


class Fails(Sound):
    """Fail on null."""

    def apply(self, frame, artifact=None):
        kernel = lambda texts: {"count": pa.array([len(t) for t in texts.to_pylist()], pa.int64())}  # noqa: E731
        return with_measures(frame, kernel, self.writes())


class Hidden(Sound):
    """Read the domain without saying so."""

    def apply(self, frame, artifact=None):
        return super().apply(frame).with_column("count", col("count") + col("domain").is_null().cast("int64"))


class Shouts(Map):
    """Rewrite rows that were dropped."""

    name = "shouts"

    def rewrite(self):
        return measure(lambda texts: pc.utf8_upper(texts), pa.large_string())

    def apply(self, frame, artifact=None):
        return settled(frame.with_column("text", self.rewrite()))


class Forgets(Map):
    """Turn text into null."""

    name = "forgets"

    def rewrite(self):
        return measure(lambda texts: pa.nulls(len(texts), pa.large_string()), pa.large_string())


class Nameless(Filter):
    """Have a reason that is no condition, with a name that is none."""

    name = "nameless"

    def requires(self):
        return (Sound(),)

    def reasons(self):
        return {"Too Long": col("count")}


class Ordered(Corpus):
    """Decide by the order of rows."""

    name = "ordered"

    def writes(self):
        return {"rank": pa.int64()}

    def fit(self, frame, artifact):
        ids = frame.select("id").to_arrow().column("id").combine_chunks()
        Decisions.write(artifact, pa.table({"id": ids, "rank": pa.array(range(len(ids)), pa.int64())}))

    def apply(self, frame, artifact=None):
        return Decisions.join(frame, artifact)


@pytest.mark.parametrize(
    ("op", "rule"),
    [
        (Locked(), "rebuilds"),
        (Forgetful(limit=2), "rebuilds"),
        (WrongType(), "contract"),
        (Undeclared(), "contract"),
        (Removes(), "dropped rows"),
        (Batchwise(), "rows alone"),
        (Batchwise(), "splits and order"),
        (Fails(), "splits and order"),
        (Hidden(), "reads"),
        (Shouts(), "dropped rows"),
        (Forgets(), "texts"),
        (Nameless(), "reasons"),
        (Ordered(), "splits and order"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_each_defect_is_seen(op, rule):
    assert rule in rules(op)


def test_an_operator_of_a_notebook_is_shipped_by_value():
    class Local(Sound):
        """Not importable."""

    assert conform(Local()) == []


def test_unregistered_and_undocumented_operators_are_named():
    class Bare(Operator):
        kind = "annotate"

    Bare.__doc__ = None
    details = [v.detail for v in conform(Bare()) if v.rule == "contract"]
    assert any("not registered" in d for d in details)
    assert any("docstring" in d for d in details)


def numbers(offset):
    return measure(lambda values: pc.add(values, offset), pa.int64(), "x")


def test_two_measured_columns_in_one_expression_keep_apart():
    # What `settled` is for: without it the sum is of the first column with itself.
    frame = daft.from_pydict({"x": [1, 2]})
    for name, offset in (("a", 10), ("b", 1000)):
        frame = settled(frame.with_column(name, numbers(offset)))
    total = (col("a") + col("b")).alias("total")
    assert frame.select(total).to_pydict() == {"total": [1012, 1014]}


def test_the_first_true_reason_is_kept_and_null_is_not_true():
    frame = daft.from_pydict({"n": [1, 5, 9, None], "_drop": [None, None, "old:why", None]})
    marked = mark_drops(frame, "s", {"big": col("n") > 4, "odd": (col("n") % 2) == 1})
    assert marked.to_pydict()["_drop"] == ["s:odd", "s:big", "old:why", None]
    frame = daft.from_pydict({"n": [None, 1], "m": [9, 9], "_drop": ["", ""]})
    frame = frame.with_columns({"_drop": lit(None).cast("string")})
    marked = mark_drops(frame, "s", {"big": col("n") > 4, "large": col("m") > 4})
    assert marked.to_pydict()["_drop"] == ["s:large", "s:large"], "a null reason hides those after it"


def test_applying_a_corpus_operator_without_its_artifact_is_refused():
    for name in OURS:
        op = operators.get(name).example()
        if isinstance(op, Corpus):
            with pytest.raises(UserError, match="without being fitted"):
                op.apply(daft.from_arrow(example_rows()))
