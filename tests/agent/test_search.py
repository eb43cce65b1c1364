"""Halving, credits, budgets and memory, on the small world."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from agent_world import World

from tillage.agent.credit import credits, without_idle
from tillage.agent.embedded import EmbeddedPlanner
from tillage.agent.memory import Experience, Memory
from tillage.agent.planner import catalogue
from tillage.agent.probe import EffectMeter, Job
from tillage.agent.search import Variant, halve
from tillage.core.events import Note


@dataclass
class Counting:
    """A probe whose score is how many characters are not 'a': no training, and it counts its jobs."""

    name: str = "counting"
    budgets: list[int] = field(default_factory=list[int])

    def bpb(self, jobs: Sequence[Job], target: Sequence[str], *, budget_bytes: int) -> list[float]:
        self.budgets += [budget_bytes] * len(jobs)
        return [sum(c != "a" for d in j.documents for c in d) / 1000 + 0.001 * j.seed for j in jobs]


def texts(good: int) -> list[str]:
    return ["a" * good + "b" * (100 - good)] * 1_000


def test_halving_finds_the_best_and_spends_least_on_the_rest() -> None:
    variants = [Variant(f"care{i}", None) for i in range(9)]
    known = {variant: texts(10 * (i + 1)) for i, variant in enumerate(variants)}
    probe = Counting()
    meter = EffectMeter(probe, ["a"], [0, 1, 2, 3, 4], 100_000)
    found = halve(variants, known.__getitem__, texts(0), meter, 200, lambda: True)
    assert found is not None
    assert found.variant.care == "care8"
    assert found.high < 0
    assert (found.tried, found.runs) == (9, meter.runs)
    # Nine variants and raw, three and raw, with three seeds each; then the best and raw with all five.
    assert probe.budgets == [10_000] * 30 + [80_000 // 3] * 12 + [80_000] * 10
    assert meter.runs == 52


def test_halving_keeps_to_its_budgets() -> None:
    variants = [Variant(f"care{i}", None) for i in range(9)]
    probe = Counting()
    meter = EffectMeter(probe, ["a"], [0, 1, 2], 100_000)
    assert halve(variants, lambda v: texts(1), texts(0), meter, 2, lambda: True) is None
    assert halve(variants, lambda v: texts(1), texts(0), meter, 99, lambda: False) is None
    found = halve(variants, lambda v: texts(int(v.care[-1])), texts(0), meter, 12, lambda: True)
    assert found is not None
    assert meter.runs <= 12


def keep(condition: str, id: str) -> dict[str, object]:
    return {"where": {"keep": condition}, "id": id, "why": "test"}


def test_a_step_that_earns_nothing_is_removed_and_said(world: World) -> None:
    gate = {"decontaminate": {"against": str(world.frozen.protected_path)}, "why": "test"}
    ladder = world.ladder()
    useful, idle = (
        keep("domain <> 'noise'", "useful"),
        keep("domain <> 'docs' OR words < 104", "harms_a_little"),
    )
    verdict = ladder.verify(world.proposal("both", gate, {"exact_dedup": {}, "why": "t"}, useful, idle))
    assert verdict.passed
    earned = {credit.step: credit for credit in credits(ladder, verdict)}
    assert earned["useful"].kept == "for its effect"
    assert earned["exact_dedup"].kept == "for its own purpose"
    assert "decontaminate" not in earned
    assert earned["harms_a_little"].kept == ""
    shorter, _ = without_idle(ladder, verdict, world.log)
    assert "harms_a_little" not in [step.id for step in shorter.recipe.steps]
    assert "useful" in [step.id for step in shorter.recipe.steps]
    notes = [event.text for event in world.events if isinstance(event, Note)]
    assert any("harms_a_little" in text and "earns nothing" in text for text in notes)


def test_minutes_are_enforced_after_the_first_effect(world: World) -> None:
    ladder = world.ladder()
    gate = {"decontaminate": {"against": str(world.frozen.protected_path)}, "why": "test"}
    ladder.until = time.monotonic() - 1
    first = ladder.verify(world.proposal("first", gate, {"exact_dedup": {}, "why": "test"}))
    assert first.effect is not None
    second = ladder.verify(world.proposal("second", gate, keep("domain <> 'noise'", "w")))
    (mended,) = second.repairs
    assert mended.finding.code == "budget_spent"
    assert "minutes" in mended.finding.message
    assert [step.op.name for step in second.recipe.steps] == ["decontaminate"]
    assert second.passed
    assert second.effect is None
    assert second.rungs[-1].evidence["measured"] is False
    assert ladder.credits(first) == {}


def experience(strategy: str, effect: float, **evidence: float) -> Experience:
    return Experience(
        goal=f"other-{strategy}", strategy=strategy, evidence=evidence, steps=("exact_dedup",), recipe={},
        effect=effect, low=effect - 0.01, high=effect + 0.01,
    )  # fmt: skip


def test_a_second_plan_on_similar_data_needs_fewer_probe_runs_for_the_same_winner(
    world: World, tmp_path: Path
) -> None:
    memory = Memory(tmp_path / "experience.jsonl")
    runs: list[int] = []
    winners: list[str] = []
    for _ in range(2):
        ladder = world.ladder()
        assert ladder.meter is not None
        planner = EmbeddedPlanner(memory)
        proposals = planner.propose(world.frozen, world.profile, catalogue(world.frozen))
        verdicts = [v for v in map(ladder.verify, proposals) if v.passed and v.effect is not None]
        best = min(verdicts, key=lambda v: v.effect.interval.mean if v.effect else 0.0)
        winners.append(best.proposal.strategy)
        runs.append(ladder.meter.runs)
        for verdict in verdicts:
            assert verdict.effect is not None
            interval = verdict.effect.interval
            memory.add(
                Experience(
                    goal=verdict.recipe.name, strategy=verdict.proposal.strategy,
                    evidence=world.profile.evidence(), steps=(), recipe={},
                    effect=interval.mean, low=interval.low, high=interval.high,
                )
            )  # fmt: skip
    assert winners[0] == winners[1]
    assert runs[1] < runs[0]


def test_unlike_data_spares_nobody_and_memory_can_be_exported_and_cleared(tmp_path: Path) -> None:
    memory = Memory(tmp_path / "experience.jsonl")
    memory.add(experience("good", -0.3, markup=0.1))
    memory.add(experience("bad", -0.1, markup=0.1))
    assert set(memory.losers({"markup": 0.12})) == {"bad"}
    assert "good" in memory.losers({"markup": 0.12})["bad"]
    assert memory.losers({"markup": 0.9}) == {}
    assert memory.export(tmp_path / "out.jsonl") == 2
    assert Memory(tmp_path / "out.jsonl").all() == memory.all()
    assert memory.clear("other-bad") == 1
    assert [known.strategy for known in memory.all()] == ["good"]
    assert memory.clear() == 1
    assert memory.all() == []
