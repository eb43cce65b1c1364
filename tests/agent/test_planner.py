"""The embedded planner: recipes that differ, each step with its figure, none that eats the target."""

from __future__ import annotations

import re
from pathlib import Path

from agent_world import World

from tillage.agent.embedded import EmbeddedPlanner, refused_filters
from tillage.agent.goal import FrozenGoal
from tillage.agent.memory import Experience, Memory
from tillage.agent.planner import Outcome, build, catalogue
from tillage.agent.trial import try_filter
from tillage.core.events import Event, EventLog, Proposed
from tillage.data.chat_faults import ChatFaults
from tillage.data.rate import Rate
from tillage.flow.check import check
from tillage.flow.recipe import Recipe
from tillage.ops.gopher import GopherQuality


def test_three_recipes_that_differ_each_step_with_its_figure(world: World) -> None:
    found = EmbeddedPlanner().propose(world.frozen, world.profile, catalogue(world.frozen))
    assert len(found) >= 3
    operators = {frozenset(step.op.name for step in p.recipe.steps) for p in found}
    assert len(operators) >= 3
    for proposal in found:
        assert not check(proposal.recipe)
        assert Recipe.from_yaml(proposal.recipe.to_yaml()) == proposal.recipe
        for step, why in proposal.whys.items():
            assert re.search(r"\d", why), f"{proposal.name}: {step}: {why!r} cites no figure"
        assert "decontaminate" in [step.op.name for step in proposal.recipe.steps]


def test_planning_is_deterministic_and_logged(world: World) -> None:
    first = EmbeddedPlanner().propose(world.frozen, world.profile, catalogue(world.frozen))
    again = EmbeddedPlanner().propose(world.frozen, world.profile, catalogue(world.frozen))
    assert first == again
    events: list[Event] = []
    first[0].emit(EventLog(None, [events.append]))
    assert isinstance(events[0], Proposed)
    assert events[0].whys == first[0].whys


def test_filters_that_eat_the_target_are_left_out(world: World) -> None:
    short = ["Returns the value.", "Sets it."] * 20
    assert try_filter(GopherQuality(), short).rate == 1.0
    assert try_filter(GopherQuality(), short).worst() == "too_few_words"
    assert refused_filters(catalogue(world.frozen), short)["gopher_quality"].rate == 1.0
    long = ["The function returns the name of the file that was given to it, and raises an error. " * 5] * 3
    assert try_filter(GopherQuality(), long).rate == 0.0


def test_forbidden_operators_and_history_are_left_out(world: World) -> None:
    frozen = world.allowing(forbidden=("minhash_dedup", "target_likeness"))
    found = EmbeddedPlanner().propose(frozen, world.profile, catalogue(frozen))
    names = {step.op.name for p in found for step in p.recipe.steps}
    assert not names & {"minhash_dedup", "target_likeness"}
    before = Outcome("clean", "clean", found[0].recipe, accepted=False)
    assert "clean" not in {
        p.strategy for p in EmbeddedPlanner().propose(frozen, world.profile, catalogue(frozen), [before])
    }


def test_strong_language_is_left_out_where_the_data_has_it_and_the_target_not(world: World) -> None:
    toxic = world.profile.model_copy(update={"toxic": Rate.of(20, 100)})
    for profile, expected in ((world.profile, False), (toxic, True)):
        found = EmbeddedPlanner().propose(world.frozen, profile, catalogue(world.frozen))
        sound = next(p for p in found if p.strategy == "sound")
        assert ("toxic_words" in sound.whys) is expected
        assert "toxic_words" not in next(p for p in found if p.strategy == "clean").whys
        if expected:
            assert "20.0 % of 100 documents" in sound.whys["toxic_words"]


def test_chats_get_the_steps_that_their_faults_ask_for(world: World) -> None:
    none, some = Rate.of(0, 200), Rate.of(30, 200)
    messages = world.profile.fields[0].model_copy(update={"name": "messages", "role": "messages"})
    for broken, refused, repeated, expected in (
        (none, none, none, set[str]()),
        (some, none, none, {"chat_structure"}),
        (none, some, none, {"chat_answers"}),
        (none, none, some, {"prompt_dedup"}),
    ):
        chats = ChatFaults(
            structure={"role_order": broken}, any_structure=broken, refused=refused, truncated=none,
            mismatched=none, repeated_prompts=repeated,
        )  # fmt: skip
        profile = world.profile.model_copy(update={"fields": (messages,), "chats": chats})
        found = EmbeddedPlanner().propose(world.frozen, profile, catalogue(world.frozen))
        whys = next(p for p in found if p.strategy == "clean").whys
        assert {n for n in whys if n.startswith(("chat_", "prompt_"))} == expected
        assert all("15.0 %" in whys[name] for name in expected)


def test_memory_puts_first_what_helped(world: World, tmp_path: Path) -> None:
    memory = Memory(tmp_path / "experience.jsonl")
    plain = [
        p.strategy
        for p in EmbeddedPlanner(memory).propose(world.frozen, world.profile, catalogue(world.frozen))
    ]
    best = plain[-1]
    memory.add(
        Experience(
            goal="other", strategy=best, evidence=world.profile.evidence(), steps=(), recipe={},
            effect=-0.3, low=-0.4, high=-0.2,
        )
    )  # fmt: skip
    again = [
        p.strategy
        for p in EmbeddedPlanner(memory).propose(world.frozen, world.profile, catalogue(world.frozen))
    ]
    assert again == [best, *plain[:-1]]


def test_the_goal_says_how_much_may_be_unreadable(world: World) -> None:
    goal = world.frozen.goal
    constraints = goal.constraints.model_copy(update={"max_quarantine": 0.2})
    loose = goal.model_copy(update={"constraints": constraints})
    assert build(FrozenGoal(loose, world.frozen.folder), "any", []).max_quarantine == 0.2
    assert build(world.frozen, "any", []).max_quarantine == 0.01
