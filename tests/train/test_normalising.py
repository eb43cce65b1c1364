"""One denominator for a whole step, and how often a sample may be trained on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from test_feed import BATCH, SEQ, make, table
from torch import Tensor, nn

from tillage.core.errors import UserError, WorkFailed
from tillage.train.draw import uniform
from tillage.train.feed import Feed
from tillage.train.losses import IGNORE
from tillage.train.policies import ColumnSelect, ColumnWeight, Fixed, Proportional, Rho1, Uniform
from tillage.train.policy import Chain, Policy
from tillage.train.stream import UsedUp
from tillage.train.tokens import Ints, TokenStore

WEIGHTED = ColumnWeight(column="score", low=0.05, high=1.0)


def step_gradient(feed: Feed, store: TokenStore) -> tuple[list[int], Tensor]:
    """Samples and gradient of one step."""
    model = table(store)
    samples: list[int] = []
    for _ in range(feed.accumulate):
        batch = feed.next()
        samples += batch.samples.tolist()
        feed.loss(model(batch.input_ids), batch).backward()
    feed.normalise(model.parameters())
    assert model.weight.grad is not None
    return samples, model.weight.grad


def by_hand(store: TokenStore, samples: list[int]) -> Tensor:
    """Gradient of sum(w * l) / sum(w) over all samples of the step."""
    cut, model = store.samples(SEQ), table(store)
    inputs, targets = (torch.from_numpy(x) for x in cut.pairs(np.asarray(samples)))
    each = nn.functional.cross_entropy(model(inputs).flatten(0, 1), targets.flatten(), reduction="none")
    values = np.clip(cut.column("score")[samples], 0.05, 1.0)
    w = torch.from_numpy(np.where(np.isfinite(values), values, 1.0))
    ((w * each.view(len(samples), SEQ).mean(1)).sum() / w.sum()).backward()
    assert model.weight.grad is not None
    return model.weight.grad


@pytest.mark.parametrize("accumulate", [1, 2, 8])
def test_weights_are_normalised_over_the_whole_step(store: TokenStore, accumulate: int) -> None:
    """Micro-batches with unlike weights: normalised one by one, or twice, the gradient is another."""
    samples, gradient = step_gradient(make(store, WEIGHTED, accumulate=accumulate), store)
    assert samples == make(store, WEIGHTED).next().samples.tolist()
    assert torch.allclose(gradient, by_hand(store, samples), rtol=1e-5, atol=1e-8)
    if accumulate > 1:
        halves = np.split(np.asarray(samples), accumulate)
        wrong = torch.stack([by_hand(store, half.tolist()) for half in halves]).mean(0)
        assert not torch.allclose(wrong, gradient, rtol=1e-2, atol=1e-6)  # the case tells the two apart


def test_recorded_weights_have_mean_one_over_the_step(store: TokenStore) -> None:
    feed = make(store, WEIGHTED, accumulate=4)
    step_gradient(feed, store)
    assert feed.trained is not None
    assert feed.trained.weights.mean() == pytest.approx(1.0)
    assert feed.trained.weights.reshape(4, -1).mean(1).std() > 0.05


def test_a_loop_that_forgets_to_normalise_is_told(store: TokenStore) -> None:
    feed, model = make(store, WEIGHTED, accumulate=2), table(store)
    for _ in range(2):
        batch = feed.next()
        feed.loss(model(batch.input_ids), batch)
    with pytest.raises(WorkFailed, match="not normalised"):
        feed.next()
    feed.normalise(model.parameters())
    feed.next()


def test_normalising_leaves_plain_training_bit_for_bit(store: TokenStore) -> None:
    feed, model = make(store, Uniform(), accumulate=4), table(store)
    for _ in range(4):
        batch = feed.next()
        feed.loss(model(batch.input_ids), batch).backward()
    assert model.weight.grad is not None
    before = model.weight.grad.clone()
    feed.normalise(model.parameters())
    feed.normalise(model.parameters())
    assert torch.equal(before, model.weight.grad)


def test_what_is_not_learned_has_no_part_in_the_denominator(store: TokenStore) -> None:
    """Loss masks and token weights: the mean is over the tokens that are learned."""
    feed = make(
        store, Rho1(keep=1.0), token_reference=lambda s: uniform(1, s[:, None] * SEQ + np.arange(SEQ))
    )
    batch = feed.next()
    batch.targets[:, : SEQ // 2] = IGNORE
    logits = table(store)(batch.input_ids)
    expected = nn.functional.cross_entropy(logits.flatten(0, 1), batch.targets.flatten(), ignore_index=IGNORE)
    assert feed.loss(logits, batch).item() == pytest.approx(expected.item(), rel=1e-6)


def served(feed: Feed, store: TokenStore, steps: int) -> Ints:
    model, found = table(store), []
    for _ in range(steps):
        batch = feed.select(model, feed.next())
        feed.loss(model(batch.input_ids), batch)
        found.append(batch.samples)
    return np.concatenate(found)


@pytest.mark.parametrize("policy", [Proportional(), ColumnSelect(column="score", keep=0.25)])
def test_every_sample_is_trained_on_up_to_its_visits_and_then_no_more(
    store: TokenStore, policy: Policy
) -> None:
    """With selection the cap counts what was trained on: the best come back, then the rest has its turn."""
    feed = make(store, policy, max_visits=2)
    total = 2 * len(feed.cut)
    first = served(feed, store, total * 2 // 3 // BATCH)
    assert np.bincount(first).max() <= 2
    # Near the end a step's candidates may be too few that are free; a domain is left when its sum is reached.
    rest: list[Ints] = []
    with pytest.raises(UsedUp, match="as often as it may be"):
        while True:
            rest.append(served(feed, store, 1))
    visits = np.bincount(np.concatenate([first, *rest]), minlength=len(feed.cut))
    assert 1.9 < visits.mean() < 2.3 and (visits == 0).mean() < 0.02


def test_the_best_are_used_up_before_the_rest(store: TokenStore) -> None:
    feed = make(store, ColumnSelect(column="score", keep=0.5), max_visits=1)
    score = feed.cut.column("score")
    order = served(feed, store, len(feed.cut) * 3 // 4 // BATCH)
    early, late = score[order[: len(order) // 3]], score[order[-len(order) // 3 :]]
    assert np.nanmean(early) > np.nanmean(late) + 0.1
    assert np.bincount(order).max() <= 2


def test_visits_survive_a_resume(store: TokenStore) -> None:
    policy = Chain(Fixed(weights={"docs": 1, "code": 1}), ColumnSelect(column="score", keep=0.5))
    whole = served(make(store, policy, max_visits=1), store, 16)
    feed = make(store, policy, max_visits=1)
    parts = [served(feed, store, 7)]
    state = json.loads(json.dumps(feed.state_dict()))
    again = make(store, policy, max_visits=1)
    again.load_state_dict(state)
    parts.append(served(again, store, 9))
    assert np.concatenate(parts).tolist() == whole.tolist()


def test_too_many_visits_to_count_are_refused(store: TokenStore, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="up to 199"):
        make(store, ColumnSelect(column="score"), max_visits=300)
