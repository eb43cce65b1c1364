"""What training measured becomes edits with figures; an edit stays only if it measurably helps."""

from __future__ import annotations

import pytest
from agent_world import World

from tillage.agent.goal import FrozenGoal
from tillage.agent.planner import Outcome, Proposal
from tillage.agent.revise import revise, verify_revision
from tillage.core.errors import UserError
from tillage.core.events import Chosen, StepAccount, Utility


def base(world: World, *more: dict[str, object]) -> Proposal:
    return world.proposal(
        "base",
        {"decontaminate": {"against": str(world.frozen.protected_path)}, "why": "1"},
        {"exact_dedup": {}, "why": "1"},
        *more,
    )


def worth(kind: str, key: str, value: float, half: float = 0.05, n: int = 40) -> Utility:
    return Utility(kind, key, value, value - half, value + half, n)


def test_poor_domains_get_a_quota(world: World) -> None:
    told = [worth("domain", "noise", -0.4), worth("domain", "stories", -0.02), worth("domain", "docs", 0.3)]
    (found,) = revise(base(world).recipe, world.profile, told, frozen=world.frozen)
    step = found.recipe.steps[-1]
    assert step.op.name == "domain_quota"
    caps = step.op.max_share  # type: ignore[attr-defined]
    assert set(caps) == {"noise"}  # the interval of stories crosses zero
    assert caps["noise"] == pytest.approx(world.profile.domains["noise"].share / 2, abs=1e-3)
    assert "-0.400 nats" in found.summary
    assert found.round == 2
    tighter = revise(
        found.recipe, world.profile, told, frozen=world.frozen, shares={"noise": 0.06, "docs": 0.9}
    )
    assert tighter[0].recipe.steps[-1].op.max_share["noise"] == pytest.approx(0.03)  # type: ignore[attr-defined]
    assert len(tighter[0].recipe.steps) == len(found.recipe.steps)


def test_a_poor_outer_bucket_is_cut_off(world: World) -> None:
    told = [
        worth("bucket", "digit_share[0,0.1)", 0.1),
        worth("bucket", "digit_share[0.1,0.2)", -0.1),
        worth("bucket", "digit_share[0.2,0.9]", -0.5),
        worth("bucket", "words[1,50)", -0.01),
        worth("bucket", "words[50,90]", 0.01),
        worth("bucket", "nothing_here[1,50)", -9.0),
        worth("bucket", "nothing_here[50,90]", -9.0),
    ]
    (found,) = revise(base(world).recipe, world.profile, told, frozen=world.frozen)
    step = found.recipe.steps[-1]
    assert step.op.keep == "digit_share < 0.2"  # type: ignore[attr-defined]
    assert "digit_share[0.2,0.9]" in step.why


def test_what_was_useful_is_let_in_again(world: World) -> None:
    recipe = base(
        world, {"where": {"keep": "words > 30", "reason": "short"}, "id": "short", "why": "1"}
    ).recipe
    told = [
        worth("dropped", "short:short", 0.5),
        worth("dropped", "exact_dedup:duplicate", 0.9),  # copies of good documents are still copies
        worth("dropped", "decontaminate:overlap", 2.0),  # and what overlaps with the target stays out
    ]
    accounts = [StepAccount("r", "short", "where", 100, 1000, 90, 900, {"short": 10})]
    (found,) = revise(recipe, world.profile, told, accounts, frozen=world.frozen)
    assert [s.id for s in found.recipe.steps] == ["decontaminate", "exact_dedup"]
    assert "(10 rows)" in found.summary
    assert "+0.500 nats" in found.summary


def test_a_bound_on_likeness_moves_to_the_next_point(world: World) -> None:
    assert world.profile.target is not None
    points = sorted({p.score for p in world.profile.target.points})
    likeness = {"target_likeness": {"target": str(world.frozen.search_path)}, "why": "1"}
    bound = {"where": {"keep": f"target_score >= {points[-1]:.6g}"}, "id": "like", "why": "1"}
    recipe = base(world, likeness, bound).recipe
    (found,) = revise(recipe, world.profile, [worth("dropped", "like:where", 0.3)], frozen=world.frozen)
    assert found.recipe.step("like").op.keep == f"target_score >= {points[-2]:.6g}"  # type: ignore[attr-defined]


def test_nothing_told_nothing_changed_and_history_is_heeded(world: World) -> None:
    recipe = base(world).recipe
    assert revise(recipe, world.profile, [], frozen=world.frozen) == []
    assert revise(recipe, world.profile, [worth("domain", "noise", -0.01)], frozen=world.frozen) == []
    told = [worth("domain", "noise", -0.4)]
    (found,) = revise(recipe, world.profile, told, frozen=world.frozen)
    before = [Outcome("x", "x", found.recipe, accepted=False)]
    assert revise(recipe, world.profile, told, history=before, frozen=world.frozen) == []


def test_revisions_are_measured_and_the_best_is_accepted(world: World) -> None:
    ladder = world.ladder()
    previous = ladder.verify(base(world))
    assert previous.passed
    told = [
        worth("domain", "noise", -0.4),
        worth("domain", "stories", -0.4),
        worth("bucket", "stop_words[0,2)", -0.5),
        worth("bucket", "stop_words[2,8]", 0.2),
    ]
    proposals = revise(previous.recipe, world.profile, told, frozen=world.frozen)
    assert [p.name for p in proposals] == ["round-2-quota", "round-2-bound", "round-2-all"]
    result = verify_revision(ladder, previous, proposals, log=world.log)
    assert result.accepted is not None
    assert result.accepted.effect is not None
    assert result.accepted.effect.control == "base"
    assert result.accepted.effect.improves
    assert "+- domain_quota" in result.diffs["round-2-all"]
    assert world.events[-1] == Chosen(result.accepted.name, result.why, 2)


def test_a_revision_that_does_not_help_is_reverted(world: World) -> None:
    ladder = world.ladder()
    previous = ladder.verify(base(world, {"where": {"keep": "domain <> 'noise'"}, "id": "clean", "why": "1"}))
    told = [worth("dropped", "clean:where", 0.5)]
    proposals = revise(previous.recipe, world.profile, told, frozen=world.frozen)
    result = verify_revision(ladder, previous, proposals, log=world.log)
    assert result.accepted is None
    assert "reverted" in result.why or "none passed" in result.why
    assert world.events[-1] == Chosen("base", result.why, 2)


def test_a_revision_needs_something_to_be_measured_against(world: World) -> None:
    frozen = FrozenGoal(world.frozen.goal.model_copy(update={"target": None}), world.frozen.folder)
    ladder = world.ladder(frozen)
    previous = ladder.verify(base(world), top="sample")
    with pytest.raises(UserError, match="measured against"):
        verify_revision(ladder, previous, [])
