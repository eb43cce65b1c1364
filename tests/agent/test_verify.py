"""The ladder on a small real corpus: what passes, what is found, how it is repaired, who wins."""

from __future__ import annotations

import pytest
from agent_world import World

from tillage.agent.compete import compete
from tillage.agent.embedded import EmbeddedPlanner
from tillage.agent.findings import Finding
from tillage.agent.planner import catalogue
from tillage.agent.probe import EffectMeter, NgramProbe
from tillage.agent.repair import repair
from tillage.agent.rungs import Sampled, sample
from tillage.agent.verify import default_meter
from tillage.core.events import Chosen, EffectMeasured, ProbesAgree, Repaired, StepAccount, Verified

DEDUP = {"exact_dedup": {}, "why": "test"}


def gate(world: World) -> dict[str, object]:
    return {"decontaminate": {"against": str(world.frozen.protected_path)}, "why": "test"}


def likeness(world: World) -> dict[str, object]:
    return {"target_likeness": {"target": str(world.frozen.search_path)}, "why": "test"}


def keep(condition: str, id: str = "where") -> dict[str, object]:
    return {"where": {"keep": condition}, "id": id, "why": "test"}


def codes(world: World) -> list[str]:
    return [e.finding.split(":")[0] for e in world.events if isinstance(e, Verified) and not e.passed]


def test_planned_candidates_are_verified_and_the_best_wins(world: World) -> None:
    ladder = world.ladder()
    proposals = EmbeddedPlanner().propose(world.frozen, world.profile, catalogue(world.frozen))
    verdicts = [ladder.verify(proposal) for proposal in proposals]
    passed = [v for v in verdicts if v.passed]
    assert len(passed) >= 3
    by_name = {v.name: v for v in passed}
    targeted = by_name["targeted"]
    assert targeted.effect is not None
    assert targeted.effect.improves
    assert set(targeted.sampled.kept["domain"].to_pylist()) == {"docs"}  # type: ignore[union-attr]
    rungs = [e.rung for e in world.events if isinstance(e, Verified) and e.candidate == "targeted"]
    assert rungs[-4:] == ["contract", "sample", "distribution", "effect"]
    second = EffectMeter(
        NgramProbe(order=3, name="short"), world.frozen.search(), [0, 1, 2], 20_000, world.log
    )
    choice = compete(ladder, verdicts, second, world.log)
    assert choice.winner.name in {"targeted", "focused"}
    assert isinstance(world.events[-1], Chosen)
    agreed = [e for e in world.events if isinstance(e, ProbesAgree)]
    assert agreed[0].probes == ["ngram", "short"]
    measured = [e for e in world.events if isinstance(e, EffectMeasured)]
    assert all(len(e.seeds) >= 3 and e.low <= e.mean <= e.high for e in measured)


def test_control_is_raw_less_the_leak(world: World) -> None:
    ladder = world.ladder()
    leaked = set(world.frozen.search()) & set(ladder.raw["text"].to_pylist())
    assert leaked
    assert not leaked & set(ladder.control)
    assert len(ladder.control) > 400


def test_a_step_that_changes_nothing_is_left_out(world: World) -> None:
    proposal = world.proposal("idle", DEDUP, gate(world), keep("words > 0", "idle"))
    verdict = world.ladder().verify(proposal, top="sample")
    assert verdict.passed
    assert codes(world) == ["changes_nothing"]
    assert [s.id for s in verdict.recipe.steps] == ["exact_dedup", "decontaminate"]
    repaired = [e for e in world.events if isinstance(e, Repaired)]
    assert "-- where" in repaired[0].diff
    assert "left out idle" in repaired[0].why


def test_a_bound_that_drops_too_much_is_loosened(world: World) -> None:
    frozen = world.allowing(min_retention=0.2)
    proposal = world.proposal("strict", DEDUP, gate(world), likeness(world), keep("target_score >= 0.9"))
    verdict = world.ladder(frozen).verify(proposal, top="sample")
    assert "drops_everything" in codes(world)
    assert verdict.repairs
    assert "target_score moved from 0.9 to" in verdict.repairs[0].why
    assert verdict.passed
    assert verdict.sampled is not None
    assert verdict.sampled.kept.num_rows > 0


def test_steps_in_the_wrong_order_are_moved(world: World) -> None:
    proposal = world.proposal("order", keep("target_score >= 0.3"), likeness(world), gate(world))
    verdict = world.ladder().verify(proposal, top="contract")
    assert codes(world) == ["order"]
    assert [s.id for s in verdict.recipe.steps] == ["target_likeness", "where", "decontaminate"]
    assert verdict.passed


def test_an_unknown_column_costs_its_step(world: World) -> None:
    proposal = world.proposal("typo", DEDUP, keep("wrods > 5"))
    verdict = world.ladder().verify(proposal, top="contract")
    assert verdict.passed
    assert [s.id for s in verdict.recipe.steps] == ["exact_dedup"]
    assert verdict.repairs[0].finding.code == "missing_column"


def test_removing_a_step_takes_those_that_read_it(world: World) -> None:
    recipe = world.proposal("chain", DEDUP, likeness(world), keep("target_score > 0.1")).recipe
    finding = Finding("contract", "forbidden_operator", "target_likeness", "forbidden")
    mended = repair(recipe, finding, world.frozen)
    assert mended is not None
    assert [s.id for s in mended.recipe.steps] == ["exact_dedup"]


def test_forbidden_operators_are_found(world: World) -> None:
    ladder = world.ladder(world.allowing(forbidden=("exact_dedup",)))
    verdict = ladder.verify(world.proposal("forbidden", DEDUP, gate(world)), top="contract")
    assert codes(world) == ["forbidden_operator"]
    assert [s.id for s in verdict.recipe.steps] == ["decontaminate"]


def test_a_leak_gets_a_gate(world: World) -> None:
    verdict = world.ladder().verify(world.proposal("leaky", DEDUP), top="distribution")
    assert codes(world) == ["contaminated"]
    assert [s.id for s in verdict.recipe.steps] == ["decontaminate", "exact_dedup"]
    assert verdict.passed
    assert verdict.rungs[-1].evidence["overlapping"] == 0


def test_a_filter_that_leads_away_is_found_and_refused_when_repair_ends(world: World) -> None:
    away = keep("domain <> 'docs'", "away")
    verdict = world.ladder().verify(world.proposal("away", gate(world), DEDUP, away), top="distribution")
    assert codes(world)[0] == "away_from_target"
    assert "away" in verdict.repairs[0].why
    assert "away" not in [s.id for s in verdict.recipe.steps]
    alone = world.ladder(world.allowing(repairs=0)).verify(
        world.proposal("away", gate(world), DEDUP, away), top="distribution"
    )
    assert not alone.passed
    assert alone.findings[0].step == "away"


def test_harm_is_found_by_effect(world: World) -> None:
    ladder = world.ladder(world.allowing(repairs=0))
    verdict = ladder.verify(world.proposal("harm", gate(world), DEDUP, keep("domain = 'noise'", "harm")))
    assert verdict.rungs[-1].rung == "distribution"  # caught before a probe is trained
    ladder.climb(verdict, "sample")
    findings, evidence = ladder._effect(verdict)
    assert [f.code for f in findings] == ["harmful"]
    assert findings[0].step == "harm"
    assert evidence["mean"] > 0


def test_the_budget_for_probe_runs_is_kept(world: World) -> None:
    ladder = world.ladder(world.allowing(probe_runs=2))
    judging = {"where": {"keep": "domain <> 'noise'"}, "why": "t"}
    nothing_left = repair(
        world.proposal("dear", judging).recipe, Finding("effect", "budget_spent", "", "2 left"), world.frozen
    )
    assert nothing_left is None
    mended = ladder.verify(world.proposal("less", gate(world), DEDUP, judging))
    assert [step.op.name for step in mended.recipe.steps] == ["decontaminate", "exact_dedup"]
    assert mended.passed
    assert ladder.meter is not None
    assert ladder.meter.runs == 0


def test_an_operator_that_fails_on_rows_is_a_finding(world: World) -> None:
    pytest.importorskip("pydantic_monty")
    from tillage.agent.synthesis import SandboxedFilter

    step = {
        "sandboxed_filter": SandboxedFilter(code="def keep(text): return 1 / 0 > 0").model_dump(),
        "why": "t",
    }
    verdict = world.ladder().verify(world.proposal("fails", DEDUP, gate(world), step), top="sample")
    assert codes(world)[0] == "run_failed"
    assert "ZeroDivisionError" in verdict.repairs[0].finding.message


def test_accounts_that_do_not_balance_are_found(world: World) -> None:
    ladder = world.ladder()
    real = ladder.run(world.proposal("x", DEDUP).recipe)
    lost = StepAccount("r", "exact_dedup", "exact_dedup", 10, 100, 7, 70, {"duplicate": 2})
    findings, _ = sample(
        world.frozen, world.proposal("x", DEDUP).recipe, Sampled([lost], real.kept, real.dropped, 0.0)
    )
    assert [f.code for f in findings] == ["accounts_unbalanced"]


def test_each_step_gets_its_credit(world: World) -> None:
    ladder = world.ladder()
    filters = keep("domain = 'docs'", "docs")
    verdict = ladder.verify(world.proposal("credit", DEDUP, gate(world), filters))
    assert verdict.passed
    credit = ladder.credits(verdict)
    assert set(credit) == {"exact_dedup", "docs"}
    assert credit["docs"].improves


def test_without_a_target_the_ladder_ends_below_effect(world: World) -> None:
    from tillage.agent.goal import FrozenGoal

    frozen = FrozenGoal(world.frozen.goal.model_copy(update={"target": None}), world.frozen.folder)
    assert default_meter(frozen) is None
    verdict = world.ladder(frozen).verify(world.proposal("blind", DEDUP))
    assert verdict.passed
    assert [r.rung for r in verdict.rungs] == ["contract", "sample", "distribution"]
