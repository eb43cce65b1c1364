"""What every data policy must hold to; run it on your own: `check_policy(MyPolicy())`."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np

from tillage.core.errors import WorkFailed
from tillage.train.policy import (
    Array,
    Policy,
    Scored,
    ScoredTokens,
    Signals,
    SignalSpec,
    dump_policy,
    parse_policy,
)
from tillage.train.tokens import Groups

GROUPS = Groups(("a", "b", "c"), (50_000, 30_000, 1_000), (100, 60, 2))
_MANY = 512  # samples: enough for one of them to hold far more than its part


def signals(step: int, seed: int = 0) -> Signals:
    """One plausible step: falling losses, sometimes a group without samples."""
    rng = np.random.default_rng([seed, step])
    counts = rng.multinomial(16, [0.6, 0.38, 0.02]).astype(np.float64)
    losses = 2.0 + 5.0 * (step + 2.0) ** -0.3 + rng.normal(0, 0.05, 3)
    reference = np.asarray([3.0, 2.5, 4.0]) + rng.normal(0, 0.05, 3)
    seen = counts > 0
    return Signals(
        step,
        counts,
        np.where(seen, losses, np.nan),
        np.where(seen, reference, np.nan),
        256,
        np.where(seen, np.maximum(losses - reference, 0.0) + 0.1, np.nan),
        losses + 0.1,
        *_gradients(seed, step),
        {"candidate_scoring": 0.5, "gradients": 1.0, "probes": 0.1},
        samples(step, 48),
    )


def _gradients(seed: int, step: int) -> tuple[Array, Array]:
    """Products of the groups' mean gradients with a target's last, and spreads; at times a group has none."""
    rows = np.random.default_rng([2, seed, step]).normal(0.3, 1, (4, 8))
    if step % 3 == 2:
        rows[2] = np.nan
    return rows @ rows.T, np.where(np.isfinite(rows[:3, 0]), 1.0, np.nan)


def samples(step: int, count: int, names: tuple[str, ...] = ()) -> Scored:
    """Plausible samples with all that can be known of them."""
    rng = np.random.default_rng([1, step])
    groups = rng.integers(0, 3, count)
    batch = Scored(step, groups, rng.gamma(4, 1, count), rng.gamma(4, 1, count))
    columns = {name: rng.lognormal(0, 2, count) for name in names}
    sketch = rng.normal(0, 1, (count, 8))
    return replace(batch, columns=columns, dots=sketch @ np.ones(8) / 8, sketch=sketch)


def check_policy(policy: Policy, groups: Groups = GROUPS, steps: int = 60, most: float = 20.0) -> None:
    """Raise `WorkFailed` naming the first rule that `policy` breaks.

    Rules: YAML and fingerprint survive a round trip; every mixture is a probability; keep is in (0, 1];
    scores are finite; weights are finite, not negative and at most `most` times their mean; `act`, `score`,
    `weigh` and `weigh_tokens` change no state; the same signals give the same decisions (so ranks agree);
    state is JSON and, loaded into a fresh policy in mid-run, gives the same decisions; reference losses and
    candidates are used only if `requires` declares their cost.
    """
    _rule(parse_policy(dump_policy(policy)).fingerprint() == policy.fingerprint(), policy, "YAML round trip")
    one, two = policy.start(groups), policy.start(groups)
    _rule(not policy.state, policy, "start leaves the spec without state")
    needs = policy.requires()
    for step in range(steps):
        before = json.dumps(one.state_dict(), sort_keys=True)
        _factors(one, groups, step, most)
        _rule(json.dumps(one.state_dict(), sort_keys=True) == before, policy, "act, score, weigh are pure")
        _rule(_same(one.act(step).mixture, two.act(step).mixture), policy, "equal signals, equal mixtures")
        _rule(one.act(step).keep == two.act(step).keep, policy, "equal signals, equal keep")
        one.observe(signals(step))
        # A policy that does not declare reference losses does not get any: it must not miss them.
        two.observe(_only(signals(step), needs))
        if step == steps // 2:
            saved = json.loads(json.dumps(two.state_dict()))
            two = policy.start(groups)
            two.load_state_dict(saved)
    _rule(one.state_dict() == two.state_dict(), policy, "a run through a saved state ends in the same state")


def _factors(policy: Policy, groups: Groups, step: int, most: float) -> None:
    actions = policy.act(step)
    mixture = actions.mixture
    if mixture is not None:
        fine = mixture.shape == (len(groups),) and (mixture >= 0).all() and abs(mixture.sum() - 1) < 1e-6
        _rule(bool(fine), policy, "the mixture is a probability", mixture)
    _rule(
        ("mix" in policy.factors) == (mixture is not None), policy, "mixture if and only if 'mix' is declared"
    )
    _rule(("select" in policy.factors) == (actions.keep is not None), policy, "keep if and only if 'select'")
    keep = actions.keep
    _rule(keep is None or 0 < keep <= 1, policy, "keep is in (0, 1]", keep)
    needs = policy.requires()
    nan, rng = np.full(_MANY, np.nan), np.random.default_rng([3, step])
    batch = samples(step, _MANY, tuple(sorted(needs.columns | needs.ahead)))
    columns = dict(batch.columns)
    for name in needs.columns:
        columns[name][:9] = np.nan  # some samples have no measurement; scores made ahead are of all
    if not needs.reference:
        batch = replace(batch, reference=nan)
    _rule(not actions.gradients or needs.gradients, policy, "measuring gradients is declared as a cost")
    _rule(not actions.probe or needs.heldout > 0, policy, "probing held-out losses is declared as a cost")
    batch = replace(
        batch,
        dots=batch.dots if needs.dots and actions.gradients else None,
        sketch=batch.sketch if needs.sketch and actions.gradients else None,
    )
    if "select" in policy.factors:
        seen = batch if needs.candidates or keep == 1 else replace(batch, losses=nan)
        score = policy.score(seen)
        scorable = needs.candidates or keep == 1 or bool(np.isfinite(score).all())
        _rule(scorable, policy, "scoring candidates is declared as a cost")
        _rule(score.shape == (_MANY,) and bool(np.isfinite(score).all()), policy, "scores are finite", score)
    if "weigh" in policy.factors:
        flat = replace(batch, losses=np.full(_MANY, 3.0), columns=dict.fromkeys(columns, nan))
        flat = replace(flat, reference=np.full(_MANY, 3.0)) if needs.reference else flat
        for view in (batch, flat):
            _weights(policy, policy.weigh(view), (_MANY,), most)
    if "token" in policy.factors:
        shape = (_MANY // 16, 16)
        losses, reference = rng.gamma(4, 1, shape), rng.gamma(4, 1, shape)
        absent = np.full(shape, np.nan)
        tokens = ScoredTokens(step, batch.groups[: shape[0]], losses, reference if needs.tokens else absent)
        level = replace(tokens, losses=np.full(shape, 3.0))
        for view in (tokens, level):
            _weights(policy, policy.weigh_tokens(view), shape, most)


def _weights(policy: Policy, w: Array, shape: tuple[int, ...], most: float) -> None:
    fine = w.shape == shape and np.isfinite(w).all() and (w >= 0).all() and w.sum() > 0
    _rule(bool(fine), policy, "weights are usable", w)
    _rule(float(w.max()) <= most * float(w.mean()), policy, "weights are bounded", w)


def _only(signals: Signals, needs: SignalSpec) -> Signals:
    """The signals without what was not declared."""
    if not needs.reference:
        signals = replace(signals, reference=np.full_like(signals.reference, np.nan))
    if not needs.heldout:
        signals = replace(signals, heldout=None)
    if not needs.gram:
        signals = replace(signals, gram=None, spread=None)
    if not needs.gradients:
        signals = replace(signals, measured=None)
    return signals if needs.tokens else replace(signals, excess=None)


def _same(one: Array | None, two: Array | None) -> bool:
    return one is two or (one is not None and two is not None and np.array_equal(one, two))


def _rule(holds: bool, policy: Policy, rule: str, got: object = None) -> None:
    if not holds:
        raise WorkFailed(f"policy {policy.name!r} breaks a rule", expected=rule, got=got)
