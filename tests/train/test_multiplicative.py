"""DoReMi, dynamic loading and Skill-It against cases worked by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tillage.core.errors import UserError
from tillage.train.conformance import check_policy
from tillage.train.policies import Doremi, DynamicLoading, RhoSelect, SkillIt
from tillage.train.policy import Chain, Signals
from tillage.train.tokens import Groups

TWO = Groups(("a", "b"), (300, 100), (3, 1))
NAN = float("nan")


def step_of(step: int, counts: list[float], losses: list[float], reference: list[float]) -> Signals:
    return Signals(step, np.asarray(counts), np.asarray(losses), np.asarray(reference), 10)


def test_doremi_by_hand() -> None:
    doremi = Doremi(eta=1.0, smoothing=0.1).start(TWO)
    assert doremi.mixture(0).tolist() == [0.5, 0.5]  # from uniform, not from the prior
    one = step_of(0, [3, 1], [4.0, 3.0], [3.5, 2.0])
    # Clipping is by token: the mean excess of a may be larger than the difference of the means.
    doremi.observe(replace(one, excess=np.asarray([0.6, 1.1])))
    odds = np.asarray([0.5 * np.exp(0.6), 0.5 * np.exp(1.1)])
    first = 0.9 * odds / odds.sum() + 0.05
    assert doremi.mixture(1) == pytest.approx(first)
    # b has no sample in this step: its last excess stands.
    two = step_of(1, [4, 0], [3.0, NAN], [3.5, NAN])
    doremi.observe(replace(two, excess=np.asarray([0.2, NAN])))
    odds = first * np.exp([0.2, 1.1])
    second = 0.9 * odds / odds.sum() + 0.05
    assert doremi.mixture(2) == pytest.approx(second)
    assert list(doremi.weights().values()) == pytest.approx((first + second) / 2)
    with pytest.raises(UserError, match="no excess losses"):
        doremi.observe(one)


def test_dynamic_loading_by_hand() -> None:
    loading = DynamicLoading(references={"a": 2.0, "b": 3.0}, every=2, smoothing=0.1).start(TWO)
    assert not loading.requires().costs()
    loading.observe(step_of(0, [3, 1], [2.5, 2.5], [NAN, NAN]))
    assert loading.mixture(1).tolist() == [0.75, 0.25]  # the prior until the round is over
    loading.observe(step_of(1, [1, 3], [3.5, 2.0], [NAN, NAN]))
    gap_a = (3 * 0.5 + 1 * 1.5) / 4  # b is below its reference: clipped to 0
    odds = np.asarray([0.75 * np.exp(gap_a), 0.25])
    assert loading.mixture(2) == pytest.approx(0.9 * odds / odds.sum() + 0.05)
    assert loading.state["gap"] == [0.0, 0.0]


def test_dynamic_loading_by_a_reference_model_and_a_domain_without_samples() -> None:
    loading = DynamicLoading(every=1, smoothing=1e-4).start(TWO)
    assert loading.requires().costs() == {"reference_training", "reference_scoring"}
    loading.observe(step_of(0, [4, 0], [3.0, NAN], [2.0, NAN]))
    assert loading.mixture(1) == pytest.approx([0.75, 0.25], abs=1e-4)  # one gap known: nothing to compare
    with pytest.raises(UserError, match="no reference loss for the domain 'b'"):
        DynamicLoading(references={"a": 2.0}).start(TWO)


def test_skill_it_by_hand() -> None:
    skill = SkillIt(edges={"a": {"b": 0.5}}, eta=0.4, window=2, every=1).start(TWO)
    assert skill.mixture(0).tolist() == [0.5, 0.5]
    skill.observe(step_of(0, [1, 1], [9.0, 9.0], [NAN, NAN]))
    skill.observe(step_of(1, [3, 1], [1.0, 4.0], [NAN, NAN]))
    skill.observe(step_of(2, [4, 0], [0.5, NAN], [NAN, NAN]))
    # The window holds two rounds; the last loss of b stands where it had no sample.
    a, b = 1.0 + 0.5, 4.0 + 4.0
    odds = np.exp([0.4 * (a + 0.5 * b), 0.4 * b])
    assert skill.mixture(3) == pytest.approx(odds / odds.sum())


def test_an_edge_moves_weight_to_the_prerequisite() -> None:
    plain, linked = SkillIt(every=1), SkillIt(every=1, edges={"a": {"b": 0.5}})
    mixtures = []
    for spec in (plain, linked):
        skill = spec.start(TWO)
        skill.observe(step_of(0, [2, 2], [1.0, 3.0], [NAN, NAN]))
        mixtures.append(skill.mixture(1))
    assert mixtures[1][0] > mixtures[0][0] + 0.05


def test_wrong_edges_are_told() -> None:
    with pytest.raises(UserError, match="names no domain of the store: 'bb'") as raised:
        SkillIt(edges={"a": {"bb": 1.0}}).start(TWO)
    assert "did you mean 'b'" in str(raised.value)
    with pytest.raises(UserError, match="negative"):
        SkillIt.load({"edges": {"a": {"b": -1.0}}}, "policy")


def test_variants_conform() -> None:
    check_policy(DynamicLoading(references={"a": 2.0, "b": 2.0, "c": 3.0}, every=7))
    check_policy(SkillIt(edges={"a": {"b": 0.5, "c": 0.5}}, every=5))


def test_two_kinds_of_reference_are_a_conflict() -> None:
    with pytest.raises(UserError, match="two different reference models"):
        Chain(Doremi(), RhoSelect())
    assert Chain(DynamicLoading(references={"a": 1.0, "b": 1.0}), RhoSelect()).requires().reference
