"""Recipes and their YAML: lossless both ways, and errors that say where and what would be right."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tillage.core.errors import UserError
from tillage.data.sources import Csv, Jsonl, Source, Text
from tillage.flow.recipe import Recipe, Step
from tillage.ops.base import Operator
from tillage.ops.dedup import ExactDedup, MinHashDedup
from tillage.ops.gopher import GopherQuality
from tillage.ops.select import Sample
from tillage.ops.where import Where

FULL = """\
name: mine
seed: 7
sources:
- jsonl:
    path: raw/*.jsonl
    domain: prose
    fields:
      stars: int
- text:
    path:
    - notes
    - more/notes
steps:
- gopher_quality:
    min_words: 40
  why: 12 % of rows are short
  id: quality
- exact_dedup: {}
  checkpoint: true
- where:
    keep: words > 50
- where:
    keep: stars > 1
dataset: out/mine
max_quarantine: 0.05
"""


def test_yaml_becomes_typed_python_and_back(tmp_path: Path) -> None:
    recipe = Recipe.from_yaml(FULL, tmp_path)
    assert recipe.sources[0] == Jsonl(
        path=str(tmp_path / "raw/*.jsonl"), domain="prose", fields={"stars": "int"}
    )
    assert recipe.steps[0] == Step(op=GopherQuality(min_words=40), id="quality", why="12 % of rows are short")
    assert [step.id for step in recipe.steps] == ["quality", "exact_dedup", "where", "where_2"]
    assert recipe.steps[1].checkpoint
    assert recipe.dataset == str(tmp_path / "out/mine")
    again = Recipe.from_yaml(recipe.to_yaml())
    assert again == recipe
    assert again.to_yaml() == recipe.to_yaml()


def test_a_file_gives_paths_their_base(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(FULL)
    assert Recipe.from_yaml(tmp_path / "recipe.yaml") == Recipe.from_yaml(FULL, tmp_path)


def test_short_forms_are_understood() -> None:
    recipe = Recipe.from_yaml(
        "{name: a, sources: [{jsonl: {path: x}}], steps: [exact_dedup, minhash_dedup: ]}"
    )
    assert [step.op for step in recipe.steps] == [ExactDedup(), MinHashDedup()]


operators = st.one_of(
    st.builds(GopherQuality, min_words=st.integers(1, 60)),
    st.builds(Sample, fraction=st.floats(0, 1), seed=st.integers(0, 3)),
    st.builds(Where, keep=st.sampled_from(["words > 3", "domain <> 'ä: #'"])),
    st.just(ExactDedup()),
    st.builds(MinHashDedup, ngram=st.integers(1, 9)),
)
sources: st.SearchStrategy[Source] = st.one_of(
    st.builds(Jsonl, path=st.just("/x/*.jsonl"), domain=st.none() | st.text(max_size=5)),
    st.builds(Csv, path=st.just(("/a", "/b")), delimiter=st.sampled_from(",;")),
    st.builds(Text, path=st.just("/t"), max_row_bytes=st.integers(1, 9)),
)


def build(name: str, ops: list[Operator], found: list[Source], why: str, seed: int) -> Recipe:
    steps = tuple(Step(op=op, why=why, checkpoint=len(why) == 1) for op in ops)
    return Recipe(name=name, sources=tuple(found), steps=steps, seed=seed)


recipes = st.builds(
    build,
    st.sampled_from(["a", "b-1", "c.d"]),
    st.lists(operators, max_size=4),
    st.lists(sources, min_size=1, max_size=2),
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=4),
    st.integers(0, 5),
)


@settings(max_examples=60, deadline=None)
@given(recipes)
def test_yaml_loses_nothing(recipe: Recipe) -> None:
    again = Recipe.from_yaml(recipe.to_yaml())
    assert again == recipe
    assert again.fingerprint() == recipe.fingerprint()
    assert [again.operator(s) for s in again.steps] == [recipe.operator(s) for s in recipe.steps]


@pytest.mark.parametrize(
    ("old", "new", "where", "said"),
    [
        (
            "gopher_quality:",
            "gopher_qualty:",
            ":14: steps[0].gopher_qualty",
            "did you mean 'gopher_quality'?",
        ),
        (
            "min_words: 40",
            "min_word: 40",
            ":15: steps[0].gopher_quality.min_word",
            "did you mean 'min_words'?",
        ),
        ("min_words: 40", "min_words: many", ":15: steps[0].gopher_quality.min_words", "valid integer"),
        ("- jsonl:", "- jsnl:", ":4: sources[0].jsnl", "did you mean 'jsonl'?"),
        ("    path: raw/*.jsonl\n", "", "sources[0].jsonl", "missing field 'path'"),
        ("  why: 12", "  wy: 12", ":16: steps[0].wy", "did you mean 'why'?"),
        ("max_quarantine: 0.05", "max_quarantine: 5", ":25: max_quarantine", "less than or equal to 1"),
        ("max_quarantine:", "max_quarantin:", "max_quarantin", "did you mean 'max_quarantine'?"),
        ("seed: 7", "seed: 7\nseed: 8", ":3", "key 'seed' is given twice"),
        ("seed: 7", "seed: [7", "recipe.yaml:", "not valid YAML"),
        ("  id: quality", "  id: exact_dedup", "steps", "two steps have the id 'exact_dedup'"),
        ("  id: quality", "  id: 'a:b'", "steps", "cannot be the id of a step"),
        ("  id: quality", "  id: read", "steps", "cannot be the id of a step"),
        ("name: mine", "name: ../mine", "name", "a name is made of letters"),
        (
            "- exact_dedup: {}",
            "- minhash_dedup: {bands: 256, rows: 64}",
            ":18: steps[1].minhash_dedup",
            "the signature is too long",
        ),
    ],
)
def test_errors_say_where_and_what(tmp_path: Path, old: str, new: str, where: str, said: str) -> None:
    assert old in FULL
    path = tmp_path / "recipe.yaml"
    path.write_text(FULL.replace(old, new, 1))
    with pytest.raises(UserError) as caught:
        Recipe.from_yaml(path)
    assert said in str(caught.value)
    assert "recipe.yaml" in str(caught.value)
    assert where in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- a\n", "a mapping is needed"),
        ("", "a mapping is needed"),
        ("name: a\n", "no sources"),
        ("name: a\nsources: {jsonl: {path: x}}\n", "sources should be a list"),
        ("name: a\nsources: [{jsonl: {path: x}, csv: {path: y}}]\n", "an item names one source"),
        ("name: a\nsources: [3]\n", "not a source"),
        ("sources: [{jsonl: {path: x}}]\n", "missing field 'name'"),
    ],
)
def test_what_is_no_recipe_is_refused(text: str, said: str) -> None:
    with pytest.raises(UserError, match=re.escape(said)):
        Recipe.from_yaml(text)


def test_a_missing_or_binary_file_is_the_users_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read the file"):
        Recipe.from_yaml(tmp_path / "none.yaml")
    (tmp_path / "bin.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="not UTF-8"):
        Recipe.from_yaml(tmp_path / "bin.yaml")


def test_what_changes_no_result_is_outside_the_fingerprint() -> None:
    recipe = Recipe.from_yaml(FULL, Path("/a"))
    quiet = Recipe.from_yaml(
        FULL.replace("12 % of rows", "nearly all").replace("name: mine", "name: yours"), Path("/b")
    )
    assert recipe.fingerprint() == quiet.fingerprint()
    for old, new in [("40", "41"), ("seed: 7", "seed: 8"), ("id: quality", "id: other"), ("prose", "code")]:
        assert Recipe.from_yaml(FULL.replace(old, new)).fingerprint() != recipe.fingerprint()


def test_operators_with_a_seed_left_unset_get_the_recipes() -> None:
    source = Jsonl(path="x")
    recipe = Recipe(
        name="a",
        seed=9,
        sources=(source,),
        steps=(Step(op=Sample(fraction=0.5)), Step(op=Sample(fraction=0.5, seed=0))),
    )
    assert [recipe.operator(step).model_dump()["seed"] for step in recipe.steps] == [9, 0]
