"""Where stages are cut and what is measured when."""

from __future__ import annotations

from pathlib import Path

from flow_rows import Chars, First, Short, Strip, recipe

from tillage.flow.compile import Stage, compile_stages
from tillage.flow.recipe import Step
from tillage.ops.base import Operator
from tillage.ops.where import Where


def stages(*ops: Operator) -> list[Stage]:
    return compile_stages(recipe(Path("none"), *ops))


def shape(found: list[Stage]) -> list[list[str]]:
    """The actions of each stage: step ids, and measurements in brackets."""
    return [
        [a.id or f"[{','.join(a.op.names)}]" for a in stage.actions]  # type: ignore[attr-defined]
        for stage in found
    ]


def test_row_operators_are_one_stage() -> None:
    found = stages(Strip(), Short(), Where(keep="n > 3"))
    assert shape(found) == [["strip", "[chars]", "short", "where"]]
    assert found[0].final


def test_a_recipe_without_steps_is_one_stage() -> None:
    assert shape(stages()) == [[]]


def test_a_measurement_is_taken_once_and_merged_until_the_text_changes() -> None:
    found = stages(Short(), Short(column="b"), Short(least=2), Strip(), Short())
    assert shape(found) == [
        ["[chars,b]", "short", "short_2", "short_3", "strip", "[chars]", "short_4", "[chars,b]"]
    ]


def test_a_step_that_is_measured_already_measures_nothing() -> None:
    found = stages(Short(), Chars())
    assert [action.id for action in found[0].actions] == ["", "short", "chars"]
    assert found[0].actions[2].op.writes() == {}


def test_stale_measurements_are_taken_again_at_the_end() -> None:
    assert shape(stages(Chars(), Strip())) == [["chars", "strip", "[chars]"]]


def test_adjacent_corpus_operators_share_the_writing_before_them() -> None:
    found = stages(Short(), First(key="_a"), First(key="_b"), Where(keep="n > 3"), First(key="_c"))
    assert shape(found) == [["[chars]", "short"], ["first", "first_2", "where", "first_3"]]
    assert [key.id for key in found[0].keys] == ["first", "first_2", "first_3"]
    assert found[1].fits() == [0, 1, 3]


def test_a_changed_text_or_a_taken_key_needs_a_writing_of_its_own() -> None:
    assert shape(stages(First(key="_a"), First(key="_a"))) == [[], ["first"], ["first_2"]]
    found = stages(First(key="_a"), Strip(), First(key="_b"))
    assert shape(found) == [[], ["first", "strip"], ["first_2"]]


def test_a_checkpoint_cuts_after_its_step() -> None:
    what = recipe(Path("none"))
    steps = (Step(op=Short(), checkpoint=True), Step(op=Strip()), Step(op=Short(), checkpoint=True))
    found = compile_stages(
        what.model_copy(update={"steps": type(what)(**{**dict(what), "steps": steps}).steps})
    )
    assert shape(found) == [["[chars]", "short"], ["strip", "[chars]", "short_2"]]


def test_fingerprints_follow_what_changes_results() -> None:
    one, other = stages(Short(), First()), stages(Short(), First(key="_b"))
    marks = [found[0].fingerprint("input") for found in (one, other)]
    assert marks[0] != marks[1]
    assert one[0].fingerprint("input") == stages(Short(), First())[0].fingerprint("input")
    assert one[0].fingerprint("input") != one[0].fingerprint("other input")
    assert one[0].fingerprint("input") != stages(Short(least=6), First())[0].fingerprint("input")
