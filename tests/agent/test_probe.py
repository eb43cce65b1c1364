"""Effects, their intervals, the choice between candidates, and what is remembered of them."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from tillage.agent.choose import Contender, choose
from tillage.agent.memory import Experience, Memory
from tillage.agent.probe import Effect, EffectMeter, Job, NgramProbe, agreement, draw
from tillage.core.errors import UserError, WorkFailed
from tillage.core.events import Chosen, EffectMeasured, Event, EventLog, ProbesAgree
from tillage.core.stats import paired_interval

WORDS = [
    "the",
    "data",
    "model",
    "trains",
    "on",
    "text",
    "that",
    "people",
    "wrote",
    "and",
    "read",
    "with",
    "care",
]


def english(n: int, seed: int) -> list[str]:
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=40)) for _ in range(n)]


def noise(n: int, seed: int) -> list[str]:
    rng = random.Random(seed)
    return ["".join(rng.choices("0123456789abcdef{}[]", k=200)) for _ in range(n)]


def test_clean_data_beats_dirty_data() -> None:
    events: list[Event] = []
    meter = EffectMeter(NgramProbe(), english(20, 9), [0, 1, 2], 20_000, EventLog(None, [events.append]))
    clean, raw = english(150, 1), english(150, 1) + noise(300, 2)
    effect = meter.effect("clean", clean, "raw", raw)
    assert effect.improves
    assert not effect.harms
    assert meter.effect("dirty", noise(300, 2), "raw", raw).harms
    assert meter.runs == 9  # the control was measured once
    measured = events[0]
    assert isinstance(measured, EffectMeasured)
    assert measured.mean == pytest.approx(
        sum(measured.candidate_bpb) / 3 - sum(measured.control_bpb) / 3, abs=1e-12
    )


def test_probe_does_not_depend_on_row_order() -> None:
    documents = english(100, 1) + noise(50, 2)
    target = english(10, 9)
    shuffled = documents[::-1]
    probe = NgramProbe()
    jobs = [Job(documents, 5), Job(shuffled, 5), Job(documents, 6)]
    first, same, other = probe.bpb(jobs, target, budget_bytes=10_000)
    assert first == same
    assert first != other
    assert NgramProbe(workers=1).bpb(jobs[::-1], target, budget_bytes=10_000) == [other, same, first]


def test_draw_keeps_to_the_budget() -> None:
    documents = ["ä" * 10, "bc" * 10, "d" * 7]
    chosen = draw(documents, seed=1, budget_bytes=31)
    assert sum(len(t.encode()) for t in chosen) in (30, 31)
    assert draw(documents, seed=1, budget_bytes=1000) != documents or set(documents) == set(
        draw(documents, seed=2, budget_bytes=1000)
    )
    # Copies do not enter a draw all together.
    crowd = ["copy"] * 50 + [f"text {i}" for i in range(50)]
    half = draw(crowd, seed=3, budget_bytes=300)
    assert 10 < half.count("copy") < 45
    assert draw(crowd[::-1], seed=3, budget_bytes=300) == half
    # Shared documents come in the same order from both corpora.
    both = draw([*documents, "more"], seed=1, budget_bytes=1000)
    assert [t for t in both if t != "more"] == draw(documents, seed=1, budget_bytes=1000)


def test_nothing_to_measure_is_an_error() -> None:
    with pytest.raises(UserError, match="without a target"):
        EffectMeter(NgramProbe(), [], [0, 1], 1000)
    with pytest.raises(UserError, match="no documents"):
        EffectMeter(NgramProbe(), ["x"], [0, 1], 1000).measure([[]])


def made(name: str, bpb: Sequence[float], control: Sequence[float] = (3.0, 3.1, 3.2)) -> Effect:
    seeds = list(range(len(bpb)))
    return Effect(name, "raw", "p", seeds, list(bpb), list(control), paired_interval(bpb, control), 0.1)


def test_lowest_effect_wins_and_ties_go_to_the_cheaper() -> None:
    events: list[Event] = []
    good = Contender("good", made("good", [2.0, 2.1, 2.2]), cost=(2, 9))
    poor = Contender("poor", made("poor", [2.5, 2.61, 2.7]), cost=(0, 1))
    same = Contender("same", made("same", [2.02, 2.08, 2.21]), cost=(1, 9))
    assert choose([poor, good]).winner is good
    choice = choose([poor, good, same], EventLog(None, [events.append]), round=2)
    assert choice.winner is same
    assert choice.tied == ["good"]
    assert "better than raw" in choice.why
    assert events == [Chosen("same", choice.why, 2)]


def test_a_winner_that_does_not_help_says_so() -> None:
    assert "not told apart" in choose([Contender("a", made("a", [3.05, 3.0, 3.25]), (0, 1))]).why
    assert "worse than" in choose([Contender("a", made("a", [3.5, 3.6, 3.71]), (0, 1))]).why
    with pytest.raises(WorkFailed, match="no candidate"):
        choose([])


def test_probes_agree() -> None:
    events: list[Event] = []
    a = [made(n, [v, v], [3.0, 3.0]) for n, v in (("x", 1.0), ("y", 2.0), ("z", 2.5))]
    b = [made(n, [v, v], [3.0, 3.0]) for n, v in (("y", 1.0), ("x", 2.0), ("z", 2.9), ("w", 0.0))]
    assert agreement(a, b, EventLog(None, [events.append])) == pytest.approx(1 / 3)
    assert events == [ProbesAgree(["p", "p"], pytest.approx(1 / 3), ["x", "y", "z"])]
    assert math.isnan(agreement(a[:1], b))


def test_memory_orders_strategies_by_what_similar_data_taught(tmp_path: Path) -> None:
    memory = Memory(tmp_path / "m" / "experience.jsonl")
    assert memory.scores({"near_duplicates": 0.3}) == {}

    def seen(strategy: str, effect: float, near: float) -> Experience:
        return Experience(
            goal="g", strategy=strategy, evidence={"near_duplicates": near}, steps=("a",), recipe={},
            effect=effect, low=effect - 0.1, high=effect + 0.1,
        )  # fmt: skip

    memory.add(seen("dedup", -0.2, 0.3))
    memory.add(seen("dedup", -0.2, 0.3))  # the same again is not counted twice
    memory.add(seen("web", 0.1, 0.3))
    memory.add(seen("dedup", 0.3, 0.0))
    assert len(memory.all()) == 3
    dirty, clean = memory.scores({"near_duplicates": 0.3}), memory.scores({"near_duplicates": 0.0})
    assert dirty["dedup"] < 0 < dirty["web"]
    assert clean["dedup"] > 0
    with memory.path.open("a") as out:
        out.write('{"goal": "cut')
    assert len(memory.all()) == 3
    with memory.path.open("a") as out:
        out.write("\n")
    with pytest.raises(UserError, match="damaged"):
        memory.all()
