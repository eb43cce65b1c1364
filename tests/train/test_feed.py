"""The feed: what it serves, what it resumes, and that decisions reach the loss."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from train_data import batches, documents

from tillage.core.errors import UserError, WorkFailed
from tillage.train.draw import permute, uniform
from tillage.train.feed import Batch, Feed
from tillage.train.loader import StaticLoader
from tillage.train.losses import token_losses
from tillage.train.policies import Ado, Fixed, LinUpper, Odm, Proportional, RhoSelect, TargetMix, Uniform
from tillage.train.policy import Chain, Policy
from tillage.train.tokens import Ints, Tokenizer, TokenStore

SEQ, BATCH = 32, 8
TOKENS = SEQ * BATCH
FULL = Chain(Odm(), RhoSelect(keep=0.6), LinUpper(burn_in=2))


def reference(samples: Ints) -> np.ndarray:
    return 3.0 + uniform(9, samples)


def table(store: TokenStore, seed: int = 0) -> nn.Embedding:
    """The smallest model: a table of next-token logits. Each sample's loss is independent of the batch."""
    model = nn.Embedding(store.tokenizer.vocab, store.tokenizer.vocab)
    nn.init.normal_(model.weight, std=0.5, generator=torch.Generator().manual_seed(seed))
    return model


def train(feed: Feed, model: nn.Module, steps: int) -> Iterator[tuple[Batch, float]]:
    optimizer = torch.optim.SGD(model.parameters(), lr=20.0)
    for _ in range(steps):
        batch = feed.select(model, feed.next())
        loss = feed.loss(model(batch.input_ids), batch)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        yield batch, loss.item()


def make(store: TokenStore, policy: Policy | None = None, **kwargs: object) -> Feed:
    options = {"batch_tokens": TOKENS, "seq_len": SEQ, "seed": 3, "reference": reference, **kwargs}
    return Feed(store, policy, **options)  # type: ignore[arg-type]


def test_permutation_is_a_bijection() -> None:
    for size in (1, 2, 3, 7, 64, 65, 1000):
        for key in (0, 1):
            image = permute(np.arange(size), size, 5, key)
            assert sorted(image.tolist()) == list(range(size))
    assert permute(np.arange(100), 100, 1).tolist() != permute(np.arange(100), 100, 2).tolist()


def test_uniform_numbers_are_uniform_and_addressable() -> None:
    u = uniform(7, np.arange(20_000))
    assert u.min() >= 0 and u.max() < 1
    counts = np.histogram(u, 20, (0, 1))[0]
    assert ((counts - 1000.0) ** 2 / 1000).sum() < 45  # chi-squared, 19 degrees, p < 0.001
    assert abs(np.corrcoef(u[:-1], u[1:])[0, 1]) < 0.03
    assert uniform(7, 123)[0] == u[123]


@pytest.mark.parametrize(
    ("policy", "weights"),
    [(None, None), (Proportional(), None), (Uniform(), {"docs": 1, "code": 1, "noise": 1})],
    ids=["default", "proportional", "uniform"],
)
def test_static_policies_equal_a_static_loader_bit_for_bit(
    store: TokenStore, policy: Policy | None, weights: dict[str, float] | None
) -> None:
    feed = make(store, policy)
    plain = iter(StaticLoader(store, batch=BATCH, seq_len=SEQ, seed=3, weights=weights))
    model, same = table(store), table(store)
    optimizer = torch.optim.SGD(same.parameters(), lr=20.0)
    for (batch, loss), _ in zip(train(feed, model, 120), range(120), strict=True):
        inputs, targets, samples = next(plain)
        assert torch.equal(batch.input_ids, inputs) and torch.equal(batch.targets, targets)
        assert batch.samples.tolist() == samples.tolist()
        expected = token_losses(same(inputs), targets).mean(1).sum() * (1 / BATCH)
        assert loss == expected.item()
        expected.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert max(np.bincount(feed.cut.group(batch.samples))) <= BATCH
    assert feed._stream.position.cursors.min() > 130  # every group went through more than one epoch


def test_each_epoch_visits_every_sample_once(store: TokenStore) -> None:
    feed = make(store, Fixed(weights={"docs": 1}))
    group = store.groups.names.index("docs")
    size = int(feed.cut.counts[group])
    served = np.concatenate([feed.next().samples for _ in range(3 * size // BATCH)])
    first, second = served[:size], served[size : 2 * size]
    assert sorted(first) == sorted(second) == list(range(feed.cut.first[group], feed.cut.first[group + 1]))
    assert first.tolist() != second.tolist()


def test_a_batch_names_its_documents(store: TokenStore) -> None:
    batch = make(store).next()
    for sample, ids, names in zip(batch.samples, batch.input_ids, batch.documents, strict=True):
        touched = store.samples(SEQ).documents(int(sample))
        assert names == [store.id(d) for d in touched]
        assert int(ids[0]) in store.tokens[store.starts[touched[0]] : store.starts[touched[0] + 1]]


@pytest.mark.parametrize(
    "policy", [Proportional(), FULL, Chain(Ado(start_step=4, ignore=0, every=2), LinUpper())]
)
@pytest.mark.parametrize("cut", [1, 5, 11])
def test_resume_is_exact(store: TokenStore, policy: Policy, cut: int) -> None:
    whole_model, model = table(store), table(store)
    whole = [
        (b.samples.tolist(), b.weights.tolist(), x) for b, x in train(make(store, policy), whole_model, 20)
    ]
    feed = make(store, policy)
    parts = [(b.samples.tolist(), b.weights.tolist(), x) for b, x in train(feed, model, cut)]
    state = json.loads(json.dumps(feed.state_dict()))
    again = make(store, policy)
    again.load_state_dict(state)
    parts += [(b.samples.tolist(), b.weights.tolist(), x) for b, x in train(again, model, 20 - cut)]
    assert parts == whole
    assert len(json.dumps(state)) < 20_000


def test_saving_before_any_step_and_twice_is_exact(store: TokenStore) -> None:
    feed = make(store, Proportional())
    state = feed.state_dict()
    first = [feed.next().samples.tolist() for _ in range(5)]
    middle = feed.state_dict()
    assert middle == feed.state_dict()
    feed.load_state_dict(state)
    assert [feed.next().samples.tolist() for _ in range(5)] == first


def test_another_store_is_refused(store: TokenStore, tmp_path: Path, tokenizer: Tokenizer) -> None:
    other = TokenStore.write(tmp_path / "s", batches(documents(90, seed=5)), tokenizer)
    with pytest.raises(UserError, match="store fingerprint") as raised:
        make(other).load_state_dict(make(store).state_dict())
    assert store.fingerprint in str(raised.value) and other.fingerprint in str(raised.value)
    with pytest.raises(UserError, match="another seed"):
        make(store, seed=4).load_state_dict(make(store).state_dict())
    with pytest.raises(UserError, match="chain of policies"):
        make(store, Uniform()).load_state_dict(make(store).state_dict())


@pytest.mark.parametrize("prefetch", [0, 1, 3])
def test_a_decision_takes_effect_after_the_prefetch_depth(store: TokenStore, prefetch: int) -> None:
    feed = make(store, Odm(), prefetch=prefetch)
    prior = feed.policy.prior
    model = table(store)
    changed = [not np.array_equal(feed.trained.mixture, prior) for _ in train(feed, model, 8) if feed.trained]
    # The first decision rests on step 0, so it is in force at step 1 + prefetch.
    assert changed == [step >= 1 + prefetch for step in range(8)]


def test_selection_keeps_the_candidates_with_the_highest_score(store: TokenStore) -> None:
    feed, model = make(store, RhoSelect(keep=0.5)), table(store)
    candidates = feed.next()
    assert candidates.candidates and len(candidates.samples) == 2 * BATCH
    losses = np.linspace(1.0, 6.0, 2 * BATCH)
    kept = feed.keep(candidates, losses)
    value = losses - reference(candidates.samples)
    assert sorted(kept.samples) == sorted(candidates.samples[np.argsort(-value)[:BATCH]])
    feed.loss(model(kept.input_ids), kept)
    assert feed.trained is not None and feed.trained.keep == 0.5
    for _ in train(feed, model, 3):
        pass
    assert (
        set(feed.ledger)
        == {"candidate_scoring", "reference_scoring"}
        == feed.needs.costs() - {"reference_training"}
    )


def test_domain_losses_come_from_all_candidates_not_from_the_chosen(store: TokenStore) -> None:
    """Chosen samples are biased: a mixture that learnt from them would chase its own selection."""
    feed = make(store, Chain(Odm(), RhoSelect(keep=0.5)), prefetch=0)
    candidates = feed.next()
    losses = np.where(candidates.groups == 0, 1.0, 2.0) + np.arange(len(candidates.samples)) * 0.01
    kept = feed.keep(candidates, losses)
    feed.loss(table(store)(kept.input_ids), kept)
    odm = feed.policy.owner("mix")
    assert odm is not None
    for k in range(3):
        mean = losses[candidates.groups == k].mean()
        assert odm.state["reward"][k] == pytest.approx(0.1 * np.exp(mean))


def test_weights_reach_the_gradient(store: TokenStore) -> None:
    """A framework once computed weights that its loss never used."""
    feed, model = make(store, LinUpper(burn_in=0, r=0.2)), table(store)
    batch = feed.next()
    loss = feed.loss(model(batch.input_ids), batch)
    loss.backward()
    assert batch.weights.std() > 0.1 and batch.weights.mean() == pytest.approx(1.0)
    by_hand = table(store)
    each = nn.functional.cross_entropy(
        by_hand(batch.input_ids).flatten(0, 1), batch.targets.flatten(), reduction="none"
    )
    w = torch.as_tensor(batch.weights, dtype=torch.float32)
    value = (w * each.view(BATCH, SEQ).mean(1)).sum() / w.sum()
    value.backward()
    assert loss.item() == pytest.approx(value.item(), rel=1e-6)
    assert torch.allclose(model.weight.grad, by_hand.weight.grad, rtol=1e-5, atol=1e-9)


def test_accumulation_normalises_once(store: TokenStore) -> None:
    """Four micro-batches give the gradient of the whole batch: not a quarter, not four times."""
    gradients = []
    for parts in (1, 4):
        feed, model = make(store, accumulate=parts), table(store)
        served = []
        for _ in range(parts):
            batch = feed.next()
            served += batch.samples.tolist()
            feed.loss(model(batch.input_ids), batch).backward()
        gradients.append((served, model.weight.grad))
        assert feed.step == 1
    assert gradients[0][0] == gradients[1][0]
    assert torch.allclose(gradients[0][1], gradients[1][1], rtol=1e-5, atol=1e-9)


def test_a_loop_that_hides_its_losses_is_an_error(store: TokenStore) -> None:
    feed = make(store, Odm())
    feed.next()
    with pytest.raises(WorkFailed, match="never saw the losses"):
        feed.next()
    feed, model = make(store, FULL), table(store)
    batch = feed.next()
    with pytest.raises(WorkFailed, match="candidates"):
        feed.loss(model(batch.input_ids), batch)
    with pytest.raises(WorkFailed, match="between steps"):
        feed.state_dict()
    stale = make(store, Odm())
    first = stale.next()
    stale.loss(model(first.input_ids), first)
    with pytest.raises(WorkFailed, match="not the one"):
        stale.loss(model(first.input_ids), first)


def test_a_loss_that_is_not_finite_stops_the_run(store: TokenStore) -> None:
    feed = make(store)
    batch = feed.next()
    with pytest.raises(WorkFailed, match="not finite"):
        feed.loss(torch.full((BATCH, SEQ, store.tokenizer.vocab), float("nan")), batch)


def test_errors(store: TokenStore) -> None:
    with pytest.raises(UserError, match="no multiple"):
        make(store, batch_tokens=33)
    with pytest.raises(UserError, match="does not divide"):
        make(store, world=3)
    with pytest.raises(UserError, match="not one whole sample"):
        make(store, seq_len=100_000, batch_tokens=100_000)
    with pytest.raises(UserError, match="needs reference losses"):
        make(store, TargetMix(), reference=None)


def test_domains_shorter_than_a_sample_are_named(tmp_path: Path, tokenizer: Tokenizer) -> None:
    rows = documents(30)
    rows.append({"id": "f" * 32, "text": "tiny", "domain": "a-small-one", "score": None})
    small = TokenStore.write(tmp_path / "s", batches(rows), tokenizer)
    feed = make(small, Uniform())
    assert feed.skipped == ["a-small-one"]
    assert "a-small-one" not in feed.groups.names
    names = {
        small.groups.names[g] for g in feed.cut.group(np.concatenate([feed.next().samples for _ in range(9)]))
    }
    assert names == {"docs", "code", "noise"}
