"""Policies by gradients against cases worked by hand, and cadences that keep a budget."""

from __future__ import annotations

from math import exp

import numpy as np
import pytest

from tillage.core.errors import UserError
from tillage.train.conformance import check_policy
from tillage.train.policies import Alignment, Balance, Doge, Greats, Influence
from tillage.train.policy import Policy, Scored, Signals
from tillage.train.tokens import Groups

TWO = Groups(("a", "b"), (300, 100), (3, 1))


def candidates(dots: list[float], sketch: list[list[float]] | None = None) -> Scored:
    n = len(dots)
    nan = np.full(n, np.nan)
    rows = None if sketch is None else np.asarray(sketch)
    return Scored(0, np.zeros(n, dtype=np.int64), np.full(n, 3.0), nan, {}, np.asarray(dots), rows)


def step_of(step: int, gram: list[list[float]] | None, cost: float = 0.0) -> Signals:
    ones = np.ones(2)
    return Signals(
        step, ones, ones, ones * np.nan, 10, gram=None if gram is None else np.asarray(gram),
        spent={"gradients": cost},
    )  # fmt: skip


def test_greats_takes_less_of_what_it_has() -> None:
    # Two equal samples of 5 and 4.9, and another of 3 at right angles to them: after the first one the
    # second is worth 4.9 - 0.1 * 5 * 4.9 = 2.45, the third still 3.
    batch = candidates([5.0, 4.9, 3.0], [[5.0, 0.0], [4.9, 0.0], [0.0, 3.0]])
    assert np.argsort(-Greats(eta=0.1).start(TWO).score(batch)).tolist() == [0, 2, 1]
    assert np.argsort(-Greats(eta=0.0).start(TWO).score(batch)).tolist() == [0, 1, 2]


def test_alignment_weighs_by_the_positive_part() -> None:
    batch = candidates([2.0, -1.0, 4.0, 0.0], [[2.0, 0.0], [1.0, 0.0], [0.0, 8.0], [1.0, 1.0]])
    plain = Alignment(cosine=False, floor=0.2, cap=4).start(TWO).weigh(batch)
    assert plain == pytest.approx([0.2 + 0.8 * 4 / 3, 0.2, 0.2 + 0.8 * 8 / 3, 0.2])
    cosine = Alignment(floor=0.0).start(TWO).weigh(batch)  # 1 and 1/2 of what is positive
    assert cosine == pytest.approx([4 * 2 / 3, 0, 4 * 1 / 3, 0])
    assert Alignment().start(TWO).weigh(candidates([-1.0, -2.0])).tolist() == [1, 1]


def test_doge_by_hand() -> None:
    # Norms 1/2 and 2 (clipped to 1); products of a and b 0.8, of b clipped to half: 0.4.
    run = Doge(eta=0.5, uniform=0.0, every=1).start(TWO)
    nan = np.nan
    run.observe(step_of(0, [[0.25, 0.8, nan], [0.8, 4.0, nan], [nan, nan, nan]]))
    w = 0.4 / ((0.5 + 1.0) / 2 + 1e-6)  # the same for both: the mixture stays the prior
    assert w < 5 and run.mixture(1) == pytest.approx([0.75, 0.25])
    run = Doge(eta=0.5, uniform=0.0, every=1, target=True).start(TWO)
    run.observe(step_of(0, [[0.25, 0.0, 0.3], [0.0, 0.25, -0.1], [0.3, -0.1, 1.0]]))
    odds = [0.75 * exp(0.5 * 0.3 / (0.5 + 1e-6)), 0.25]  # what points away counts as 0
    assert run.mixture(1) == pytest.approx(np.asarray(odds) / sum(odds))
    assert run.weights() == pytest.approx(dict(zip("ab", run.mixture(1), strict=True)))


def test_balance_by_hand() -> None:
    run = Balance(strength=2.0, uniform=0.0, every=1).start(TWO)
    run.observe(step_of(0, [[1.0, 0.5, 0.2], [0.5, 3.0, 0.1], [0.2, 0.1, 1.0]]))
    odds = np.asarray([0.75 * exp(2 * 0.75 / 2), 0.25 * exp(2 * 1.75 / 2)])
    assert run.mixture(1) == pytest.approx(odds / odds.sum())


def test_a_domain_not_seen_yet_changes_nothing_and_a_missing_target_is_named() -> None:
    nan = np.nan
    gram = [[1.0, nan, nan], [nan, nan, nan], [nan, nan, nan]]
    for spec in (Doge(), Balance()):
        run = spec.start(TWO)
        run.observe(step_of(0, gram))
        assert run.mixture(1).tolist() == [0.75, 0.25]
    run = Balance(target=True).start(TWO)
    with pytest.raises(UserError, match="told to follow a target"):
        run.observe(step_of(0, [[1.0, 0.0, nan], [0.0, 1.0, nan], [nan, nan, nan]]))


@pytest.mark.parametrize("cost", [0.1, 0.9, 4.0])
def test_a_budget_is_kept_by_measuring_less_often(cost: float) -> None:
    assert [Greats(every=3).start(TWO).act(t).keep for t in range(4)] == [0.5, 1.0, 1.0, 0.5]
    run = Greats(budget=0.05).start(TWO)
    spent = 0.0
    for step in range(2000):
        due = run.act(step).gradients
        spent += cost * due
        run.observe(step_of(step, None, cost if due else 0.0))
        assert spent <= max(0.05 * (spent + step + 1), cost) + 1e-9  # one use may come before it is paid
    assert 0.04 < spent / (spent + 2000) <= 0.05


@pytest.mark.parametrize(
    "spec",
    [
        Greats(every=3),
        Greats(budget=0.1),
        Greats(keep=1.0),
        Doge(target=True),
        Balance(target=True, budget=0.01),
    ],
)
def test_variants_conform(spec: Policy) -> None:
    check_policy(spec)


def test_influence_learns_what_a_gradient_says() -> None:
    """Influence 1 - reference in one domain, 3 in the other: the regression orders candidates by it."""
    run = Influence(every=4, temperature=0.0, least=16, ridge=1e-6).start(TWO)
    assert run.act(0).keep == 1.0 and run.act(0).gradients and not run.act(1).gradients
    rng = np.random.default_rng(0)
    for step in range(3):
        groups, reference = rng.integers(0, 2, 40), rng.uniform(2, 4, 40)
        dots = np.where(groups == 0, 1.0, 3.0) - reference
        measured = Scored(step, groups, reference, reference, {}, dots)
        ones = np.ones(2)
        run.observe(Signals(step, ones, ones, ones, 10, measured=measured))
    assert run.act(5).keep == 0.5
    unknown = np.full(4, np.nan)
    batch = Scored(5, np.asarray([0, 0, 1, 1]), unknown, np.asarray([2.0, 4.0, 2.5, 5.5]))
    assert np.argsort(-run.score(batch)).tolist() == [2, 0, 3, 1]  # 0.5, -1, -2.5, -3
