"""Each policy against a case worked by hand, and all of them against the conformance rules."""

from __future__ import annotations

from math import exp, log, sqrt
from typing import ClassVar

import numpy as np
import pytest

from tillage.core.errors import UserError, WorkFailed
from tillage.train.conformance import GROUPS, check_policy, signals
from tillage.train.policies import (
    Ado,
    ColumnSelect,
    ColumnWeight,
    Curriculum,
    Fixed,
    LinUpper,
    LossQuantile,
    Odm,
    Proportional,
    RhoSelect,
    TargetMix,
    Temperature,
    Uniform,
)
from tillage.train.policies.mix import Mix, Stage
from tillage.train.policies.scaling import clip_minimum, fit_power_law
from tillage.train.policy import (
    Actions,
    Array,
    Chain,
    Factor,
    Policy,
    Scored,
    Signals,
    SignalSpec,
    dump_policy,
    parse_policy,
    policies,
)
from tillage.train.tokens import Groups

TWO = Groups(("a", "b"), (300, 100), (3, 1))
EXAMPLES: dict[str, Policy] = {
    "fixed": Fixed(weights={"a": 3, "b": 1}),
    "column_select": ColumnSelect(column="quality"),
    "column_weight": ColumnWeight(column="quality"),
    "curriculum": Curriculum(stages=(Stage(until=9, weights={"a": 1}), Stage(until=30, weights={"b": 1}))),
}


def step_of(
    step: int, counts: list[float], losses: list[float], reference: list[float] | None = None
) -> Signals:
    nan = [np.nan] * len(counts)
    return Signals(step, np.asarray(counts), np.asarray(losses), np.asarray(reference or nan), 10)


@pytest.mark.parametrize("name", policies.names())
def test_every_policy_conforms(name: str) -> None:
    check_policy(EXAMPLES.get(name) or policies.get(name)())


@pytest.mark.parametrize("spec", [RhoSelect(keep=1.0), LossQuantile(low=0.0, high=1.0)])
def test_selecting_all_conforms_and_costs_no_scoring(spec: Policy) -> None:
    check_policy(spec)
    assert "candidate_scoring" not in spec.requires().costs()


def test_a_chain_resumes_and_adds_up_its_costs() -> None:
    chain = Chain(Ado(), RhoSelect(), LinUpper()).start(GROUPS)
    for step in range(30):
        chain.observe(signals(step))
    fresh = Chain(Ado(), RhoSelect(), LinUpper()).start(GROUPS)
    fresh.load_state_dict(chain.state_dict())
    assert np.array_equal(fresh.act(30).mixture, chain.act(30).mixture)  # type: ignore[arg-type]
    assert chain.requires().costs() == {"reference_training", "reference_scoring", "candidate_scoring"}


def test_static_mixtures() -> None:
    assert Uniform().start(TWO).mixture(0).tolist() == [0.5, 0.5]
    assert Proportional().start(TWO).mixture(0).tolist() == [0.75, 0.25]
    hot = Temperature(temperature=2).start(TWO).mixture(0)
    assert hot == pytest.approx([sqrt(3) / (sqrt(3) + 1), 1 / (sqrt(3) + 1)])
    assert Fixed(weights={"b": 2, "a": 6}).start(TWO).mixture(0).tolist() == [0.75, 0.25]
    with pytest.raises(UserError, match="names no domain") as raised:
        Fixed(weights={"aa": 1}).start(TWO).mixture(0)
    assert "did you mean" in str(raised.value)


def test_odm_by_hand() -> None:
    odm = Odm().start(TWO)
    assert odm.mixture(0).tolist() == [0.75, 0.25]
    odm.observe(step_of(0, [2, 2], [1.0, 2.0]))
    odm.observe(step_of(1, [4, 0], [1.5, np.nan]))
    odm.observe(step_of(2, [1, 3], [0.5, 1.0]))
    a = 0.9 * (0.9 * 0.1 * exp(1.0) + 0.1 * exp(1.5)) + 0.1 * exp(0.5)
    b = 0.9 * 0.1 * exp(2.0) + 0.1 * exp(1.0)
    e = min(0.5, sqrt(log(2) / (2 * 3)))
    assert odm.mixture(3) == pytest.approx([(1 - 2 * e) * a / (a + b) + e, (1 - 2 * e) * b / (a + b) + e])


def test_credit_goes_to_each_domain_of_a_mixed_batch() -> None:
    """A framework once gave the whole batch's loss to the domain of its first sample."""
    odm = Odm().start(GROUPS)
    odm.observe(step_of(0, [8, 7, 1], [2.0, 3.0, 4.0]))
    assert odm.state["reward"] == pytest.approx([0.1 * exp(2.0), 0.1 * exp(3.0), 0.1 * exp(4.0)])


def test_power_law_is_recovered() -> None:
    n = np.arange(1, 60) * 1000.0
    losses = 2.0 + 30.0 * n**-0.35
    e, b, a = fit_power_law(n, losses, np.ones(59))
    assert (e, b, a) == pytest.approx((2.0, 30.0, 0.35), rel=1e-6)
    e, b, a = fit_power_law(n, np.full(59, 3.0), np.ones(59))
    assert e + b * 1000.0**-a == pytest.approx(3.0)
    e, b, a = fit_power_law(n, 2.0 + n / 1e4, np.ones(59))  # rising: no learning is to be had
    assert b == 0.0


def test_ado_by_hand() -> None:
    """Losses that follow a power law exactly: after the first fit the mixture is the formula's."""
    ado = Ado(start_step=6, ignore=0, every=4, floor=0.01).start(TWO)
    curves = [(2.0, 8.0, 0.3), (3.0, 2.0, 0.5)]
    for step in range(6):
        n = 40.0 * (step + 1)
        ado.observe(step_of(step, [3, 1], [e + b * n**-a for e, b, a in curves]))
    n = 240.0
    slope = np.asarray([a * b * n**-a / n for _, b, a in curves])
    rho = np.asarray([0.75, 0.25]) * np.sqrt([0.75, 0.25]) * slope  # the share drawn was the prior
    rho = rho / rho.sum()
    assert rho.min() > 0.01
    assert ado.mixture(6) == pytest.approx(0.9 * np.asarray([0.75, 0.25]) + 0.1 * rho, rel=1e-6)
    assert ado.state["mean"] == pytest.approx((np.asarray([0.75, 0.25]) + (rho - [0.75, 0.25]) / 2).tolist())


def test_ado_history_stays_small_and_keeps_the_fit() -> None:
    ado = Ado(points=8, ignore=0, start_step=400, every=1).start(TWO)
    for step in range(400):
        n = 40.0 * (step + 1)
        ado.observe(step_of(step, [3, 1], [2 + 8 * n**-0.3, 3 + 2 * n**-0.5]))
    assert len(ado.state["history"]) <= 9
    assert sum(p[0] for p in ado.state["history"]) == 400


def test_clip_minimum() -> None:
    clipped = clip_minimum(np.asarray([0.999, 0.001, 0.0]), 0.01)
    assert clipped.sum() == pytest.approx(1.0)
    assert clipped[1] == clipped[2] == pytest.approx(0.01 / 1.019)


def test_rho_select_by_hand() -> None:
    rho = RhoSelect(keep=0.5).start(TWO)
    batch = Scored(
        0, np.zeros(4, dtype=np.int64), np.asarray([5.0, 2.0, 9.0, 3.0]), np.asarray([3.0, 1.9, 8.9, 4.0])
    )
    assert rho.score(batch) == pytest.approx([2.0, 0.1, 0.1, -1.0])  # noise (9 - 8.9) is not worth much
    assert rho.act(0) == Actions(keep=0.5)


def test_lin_upper_by_hand() -> None:
    weigh = LinUpper(r=0.5, burn_in=2).start(TWO)
    losses = np.asarray([1.0, 2.0, 3.0, 5.0])
    before = Scored(1, np.zeros(4, dtype=np.int64), losses, losses)
    assert weigh.weigh(before).tolist() == [1, 1, 1, 1]
    h = [-1.0, -0.5, 0.0, 1.0]
    f = [min(x + 1, 1) for x in h]
    raw = np.exp(np.asarray(f) / 0.5)
    got = weigh.weigh(Scored(2, np.zeros(4, dtype=np.int64), losses, losses))
    assert got / got.sum() == pytest.approx(raw / raw.sum())  # softmax, and the feed divides by the sum
    assert got.max() == 1.0  # on one scale, so that micro-batches add up
    falling = LinUpper(burn_in=0, schedule=((3, 0.5), (9, 0.25)))
    assert [falling.strength(step) for step in (0, 2, 3, 8, 9)] == [1.0, 1.0, 0.5, 0.5, 0.25]
    with pytest.raises(UserError, match="do not rise"):
        LinUpper.load({"schedule": [[9, 1.0], [3, 0.5]]}, "policy")
    assert got[2] == got[3]  # the cap: from the middle of the range on, more loss is not more weight


def test_target_mix_by_hand() -> None:
    mix = TargetMix(warmup=0, explore=0.1, temperature=0.5).start(TWO)
    mix.observe(step_of(0, [1, 1], [4.0, 4.0], [4.5, 3.0]))
    odds = np.asarray([0.75 * exp(-0.5 / 0.5), 0.25 * exp(1.0 / 0.5)])
    assert mix.mixture(1) == pytest.approx(0.9 * odds / odds.sum() + 0.05)


def test_chain_refuses_two_owners_of_a_factor() -> None:
    with pytest.raises(UserError, match="two policies set the factor 'mix'") as raised:
        Chain(Odm(), RhoSelect(), Uniform())
    assert "odm, uniform" in str(raised.value)


def test_yaml_forms() -> None:
    chain = parse_policy([{"ado": {"every": 3}}, {"rho_select": {"keep": 0.7}}, "lin_upper"])
    assert isinstance(chain, Chain)
    assert parse_policy(dump_policy(chain)).fingerprint() == chain.fingerprint()
    assert parse_policy("odm") == Odm()
    with pytest.raises(UserError) as raised:
        parse_policy("rho_selct")
    assert "did you mean 'rho_select'" in str(raised.value)
    with pytest.raises(UserError) as raised:
        parse_policy({"odm": {"smooting": 1}})
    assert "did you mean 'smoothing'" in str(raised.value)
    with pytest.raises(UserError, match="no policy"):
        parse_policy(3)


def test_state_of_another_policy_is_refused() -> None:
    with pytest.raises(UserError, match="another policy"):
        Odm().start(TWO).load_state_dict(Odm(smoothing=0.5).start(TWO).state_dict())


class Forgetful(Mix):
    """Broken on purpose: its decisions depend on something outside its state."""

    factors: ClassVar[frozenset[Factor]] = frozenset({"mix"})
    name: ClassVar[str] = "forgetful"
    calls: ClassVar[list[int]] = []

    def observe(self, signals: Signals) -> None:
        self.calls.append(signals.step)

    def mixture(self, step: int) -> Array:
        p = np.arange(1.0, len(self.groups) + 1) ** (len(self.calls) % 5)
        return p / p.sum()

    def act(self, step: int) -> Actions:
        self.calls.append(step)
        return super().act(step)


class Wild(LinUpper):
    """Broken on purpose: one sample takes all the weight."""

    name: ClassVar[str] = "wild"

    def weigh(self, batch: Scored) -> Array:
        return np.where(batch.losses == batch.losses.max(), 1e9, 1e-9)


class Sneaky(RhoSelect):
    """Broken on purpose: it scores by reference losses and does not say that these cost something."""

    name: ClassVar[str] = "sneaky"

    def requires(self) -> SignalSpec:
        return SignalSpec(candidates=True)


class Free(RhoSelect):
    """Broken on purpose: it has candidates scored and does not say so."""

    name: ClassVar[str] = "free"

    def requires(self) -> SignalSpec:
        return SignalSpec(reference=True)


BROKEN = [
    (Forgetful(), "equal signals"),
    (Wild(), "bounded"),
    (Sneaky(), "finite"),
    (Free(), "declared as a cost"),
]


@pytest.mark.parametrize(("broken", "rule"), BROKEN, ids=lambda value: getattr(value, "name", ""))
def test_conformance_catches_broken_policies(
    broken: Policy, rule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for cls in (Forgetful, Wild, Sneaky, Free):
        monkeypatch.setitem(policies._classes, cls.name, cls)
    with pytest.raises(WorkFailed) as raised:
        check_policy(broken)
    assert rule in str(raised.value)
