"""What the data has more of than the target: bounds that drop a planted population and spare the rest."""

from __future__ import annotations

import random

import numpy as np
import pyarrow as pa
import pytest
from agent_world import World, documentation

from tillage.agent.choose import Contender, choose_sound
from tillage.agent.embedded import EmbeddedPlanner
from tillage.agent.evidence import CARE, Soundness
from tillage.agent.goal import FrozenGoal
from tillage.agent.planner import catalogue
from tillage.agent.probe import Effect
from tillage.core.stats import paired_interval
from tillage.core.text import percent
from tillage.data.excess import Tail, bound, bounds, keeps
from tillage.flow.check import check

RNG = np.random.default_rng(4)


@pytest.fixture(autouse=True)
def _same_numbers() -> None:
    """Whatever ran before, a test draws the same numbers."""
    RNG.bit_generator.state = np.random.default_rng(4).bit_generator.state


def test_a_population_of_its_own_is_cut_off_at_the_valley() -> None:
    target = RNG.normal(10, 1, 100)
    data = np.r_[RNG.normal(10, 1, 800), RNG.normal(4, 0.7, 150)]
    found = bound("m", data, target, strictness=0.1)
    assert found is not None
    assert (found.measure, found.side) == ("m", "low")
    assert 5.5 < found.value < 8.0
    kept = keeps(found, data)
    assert kept[:800].mean() > 0.98
    assert kept[800:].mean() < 0.05
    assert found.rows == int((~kept).sum())
    assert f"m >= {found.value:.6g}" == found.condition


def test_the_high_side_is_the_low_side_turned() -> None:
    target = RNG.normal(0, 1, 100)
    data = np.r_[RNG.normal(0, 1, 500), RNG.normal(9, 1, 60)]
    high = bound("m", data, target, strictness=0.1)
    low = bound("m", -data, -target, strictness=0.1)
    assert high is not None
    assert low is not None
    assert (high.side, low.side, high.value) == ("high", "low", pytest.approx(-low.value))


@pytest.mark.parametrize("seed", range(6))
def test_the_same_distribution_gives_no_bound(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for draw in (rng.normal, rng.lognormal):
        assert bound("m", draw(0, 1, 700), draw(0, 1, 100), strictness=0.1) is None


def test_a_heavier_shoulder_is_not_a_population() -> None:
    """More of the same tail, without a valley, is no fault: sound documents differ from the target too."""
    assert bound("m", RNG.normal(0, 1.6, 900), RNG.normal(0, 1, 100), strictness=0.1) is None


def test_rows_without_the_measurement_stay_and_yes_or_no_works() -> None:
    target = np.zeros(100)
    data = np.r_[np.zeros(300), np.ones(60), [np.nan] * 5]
    found = bound("open", data, target, strictness=0.4)
    assert found is not None
    assert keeps(found, data).tolist() == [True] * 300 + [False] * 60 + [True] * 5


def test_the_tail_beyond_the_target_falls_but_never_to_nothing() -> None:
    tail = Tail.of(RNG.normal(0, 1, 200))
    shares = tail.share(np.array([-1.0, -2.0, -3.0, -4.0, -6.0]))
    assert (np.diff(shares) < 0).all()
    assert shares[-1] > 0


def test_bounds_come_one_after_the_other_on_what_is_left() -> None:
    target = {"a": RNG.normal(0, 1, 100), "b": RNG.normal(0, 1, 100)}
    sound = RNG.normal(0, 1, (500, 2))
    odd = np.c_[RNG.normal(9, 1, 100), RNG.normal(0, 1, 100)]
    other = np.c_[RNG.normal(0, 1, 50), RNG.normal(-9, 1, 50)]
    rows = np.r_[sound, odd, other]
    found = bounds({"a": rows[:, 0], "b": rows[:, 1]}, target, strictness=0.1)
    assert [(e.measure, e.side) for e in found] == [("a", "high"), ("b", "low")]


def test_shuffled_documents_are_found_in_real_measurements() -> None:
    rng = random.Random(7)
    good = [documentation(rng) for _ in range(150)]
    bad = [" ".join(rng.sample(words := documentation(rng).split(), len(words))) for _ in range(50)]
    soundness = Soundness(pa.array(good + bad, pa.large_string()), [documentation(rng) for _ in range(60)])
    found = soundness.bounds("usual")
    dropped = np.zeros(200, np.bool_)
    for one in found:
        dropped |= ~keeps(one, soundness.data[one.measure])
    assert dropped[150:].mean() > 0.9
    assert dropped[:150].mean() < 0.05
    assert set(CARE) == {"careful", "usual", "greedy"}


def test_proposals_hold_a_step_for_each_bound_with_its_figure(world: World) -> None:
    target = {"m": RNG.normal(10, 1, 100)}
    found = bounds({"m": np.r_[RNG.normal(10, 1, 300), RNG.normal(1, 1, 60)]}, target, strictness=0.1)
    (one,) = found
    order = one.model_copy(update={"measure": "fluency"})
    ends = one.model_copy(update={"measure": "ends_open", "side": "high"})
    profile = world.profile.model_copy(update={"excess": {"usual": (order, ends)}})
    proposals = EmbeddedPlanner().propose(world.frozen, profile, catalogue(world.frozen))
    recipe = next(p for p in proposals if p.strategy == "sound").recipe
    assert not check(recipe)
    assert [step.op.name for step in recipe.steps][-3:] == ["fluency", "where", "where"]
    assert percent(one.dropped) in recipe.steps[-2].why
    assert percent(one.sound) in recipe.steps[-2].why
    goal = world.frozen.goal.model_copy(update={"aim": "clean"})
    frozen = FrozenGoal(goal, world.frozen.folder)
    clean = EmbeddedPlanner().propose(frozen, profile, catalogue(frozen))
    assert {p.strategy for p in clean} <= {"clean", "sound", "careful", "greedy"}


def labels(margins: np.ndarray) -> Soundness:
    made = Soundness.__new__(Soundness)
    made.margins = margins
    return made


def test_labels_are_judged_where_sound_and_mislabelled_margins_mix() -> None:
    good, bad = RNG.normal(0.4, 0.28, 600), RNG.normal(-0.8, 0.3, 120)
    (one,) = labels(np.r_[good, bad]).bounds_of_labels("usual")
    assert (bad < one.value).mean() > 0.8
    assert (good < one.value).mean() < 0.02
    assert labels(good).bounds_of_labels("greedy") == []
    assert labels(-np.abs(good)).bounds_of_labels("usual") == []
    # One domain of which the documents speak very much for it: only the valley tells.
    wide = np.r_[RNG.normal(0.6, 0.15, 400), RNG.normal(3.0, 0.3, 200), RNG.normal(-0.9, 0.2, 100)]
    (one,) = labels(wide).bounds_of_labels("usual")
    assert -0.5 < one.value < 0.3


def effect(name: str, gaps: list[float]) -> Effect:
    control = [3.0] * len(gaps)
    after = [3.0 + gap for gap in gaps]
    return Effect(
        name, "raw", "p", list(range(len(gaps))), after, control, paired_interval(after, control), 0.1
    )


def test_effect_has_a_veto_over_care_and_greed_must_earn_its_place() -> None:
    even = [Contender(n, effect(n, [-0.01, -0.011, -0.009]), (0, 1)) for n in ("clean", "sound", "greedy")]
    assert choose_sound(even).winner.name == "sound"
    harmful = [even[0], Contender("sound", effect("sound", [0.05, 0.051, 0.049]), (0, 2))]
    assert choose_sound(harmful).winner.name == "clean"
    unsure = [even[0], Contender("sound", effect("sound", [0.02, 0.0, 0.01, 0.005]), (0, 2))]
    assert choose_sound(unsure).winner.name == "sound"  # worse by 0.02, but no veto without being sure of it
    worth = [even[1], Contender("greedy", effect("greedy", [-0.05, -0.051, -0.049]), (0, 3))]
    assert choose_sound(worth).winner.name == "greedy"
