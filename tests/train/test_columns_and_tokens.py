"""Policies by stored measurements and by single tokens: by hand, through the feed, and in a training run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from train_data import documents

from tillage.core.errors import UserError
from tillage.train.catalogue import renew
from tillage.train.draw import uniform
from tillage.train.evaluate import Target
from tillage.train.feed import Feed
from tillage.train.model import ModelSpec
from tillage.train.policies import (
    ColumnSelect,
    ColumnWeight,
    CountWeight,
    Doremi,
    LinUpper,
    LossQuantile,
    Odm,
    Rho1,
    RhoSelect,
    Uniform,
)
from tillage.train.policy import Chain, Policy, Scored, ScoredTokens
from tillage.train.pool import Task, train_many
from tillage.train.reference import ReferenceSpec, reference_losses
from tillage.train.tokens import Groups, Ints, TokenStore
from tillage.train.trainer import TrainSpec, train

SEQ, BATCH = 32, 8
TWO = Groups(("a", "b"), (300, 100), (3, 1))
NAN = float("nan")


def scored(losses: list[float], **columns: list[float]) -> Scored:
    values = np.asarray(losses)
    return Scored(
        0, np.zeros(len(values), dtype=np.int64), values, np.full(len(values), NAN),
        {name: np.asarray(column) for name, column in columns.items()},
    )  # fmt: skip


def token_reference(samples: Ints) -> np.ndarray:
    return 3.0 + 4.0 * uniform(8, samples[:, None] * SEQ + np.arange(SEQ))


def make(store: TokenStore, policy: Policy, **kwargs: object) -> Feed:
    options = {"batch_tokens": SEQ * BATCH, "seq_len": SEQ, "seed": 3, **kwargs}
    options.setdefault("reference", lambda s: token_reference(s).mean(1))
    options.setdefault("token_reference", token_reference)
    return Feed(store, policy, **options)  # type: ignore[arg-type]


def table(store: TokenStore) -> nn.Embedding:
    model = nn.Embedding(store.tokenizer.vocab, store.tokenizer.vocab)
    nn.init.normal_(model.weight, std=0.5, generator=torch.Generator().manual_seed(0))
    return model


def test_column_policies_by_hand() -> None:
    batch = scored([NAN] * 4, q=[0.5, NAN, 9.0, -2.0])
    assert ColumnSelect(column="q").score(batch).tolist() == [2.0, 0.0, 3.0, 1.0]
    assert ColumnSelect(column="q", highest=False).score(batch).tolist() == [2.0, 0.0, 1.0, 3.0]
    assert not ColumnSelect(column="q").score(scored([1.0], q=[NAN])).any()
    assert ColumnWeight(column="q").weigh(batch).tolist() == [0.5, 1.0, 4.0, 0.25]
    copies = scored([1.0] * 4, near_duplicates=[1.0, 4.0, 100.0, NAN])
    assert CountWeight().weigh(copies).tolist() == [1.0, 0.25, 1 / 16, 1.0]
    assert CountWeight(power=0.5).weigh(copies).tolist() == [1.0, 2.0, 4.0, 1.0]
    with pytest.raises(UserError, match="above high"):
        ColumnWeight.load({"column": "q", "low": 5}, "policy")


def test_loss_quantile_by_hand() -> None:
    losses = [7.0, 1.0, 3.0, 2.0, 9.0, 4.0, 8.0, 5.0]
    middle, upper = LossQuantile().start(TWO), LossQuantile(low=0.5, high=1.0).start(TWO)
    assert middle.act(0).keep == 0.5
    best = np.argsort(-middle.score(scored(losses)), kind="stable")[:4]
    assert sorted(losses[i] for i in best) == [3.0, 4.0, 5.0, 7.0]
    best = np.argsort(-upper.score(scored(losses)), kind="stable")[:4]
    assert sorted(losses[i] for i in best) == [5.0, 7.0, 8.0, 9.0]
    with pytest.raises(UserError, match="not below high"):
        LossQuantile.load({"low": 0.5, "high": 0.5}, "policy")


def test_rho1_by_hand() -> None:
    losses = np.asarray([[4.0, 2.0, 9.0], [1.0, 6.0, 3.0]])
    reference = np.asarray([[3.0, 2.5, 8.9], [0.0, 1.0, 3.5]])
    batch = ScoredTokens(0, np.zeros(2, dtype=np.int64), losses, reference)
    # Excess: 1, -0.5, 0.1; 1, 5, -0.5. Half of six tokens: three, over the whole batch.
    assert Rho1(keep=0.5).weigh_tokens(batch).tolist() == [[1, 0, 0], [1, 1, 0]]
    assert Rho1(keep=0.05).weigh_tokens(batch).tolist() == [[0, 0, 0], [0, 1, 0]]
    assert Rho1(keep=1.0).weigh_tokens(batch).all()


def test_token_weights_reach_the_gradient(store: TokenStore) -> None:
    feed, model, same = make(store, Rho1(keep=0.6)), table(store), table(store)
    batch = feed.next()
    loss = feed.loss(model(batch.input_ids), batch)
    loss.backward()
    logits = same(batch.input_ids).flatten(0, 1)
    each = nn.functional.cross_entropy(logits, batch.targets.flatten(), reduction="none")
    excess = each.detach().double().numpy() - token_reference(batch.samples).ravel()
    chosen = np.argsort(-excess, kind="stable")[: int(np.ceil(0.6 * excess.size))]
    by_hand = each[torch.from_numpy(chosen.copy())].mean()
    by_hand.backward()
    assert loss.item() == pytest.approx(by_hand.item(), rel=1e-6)
    assert torch.allclose(model.weight.grad, same.weight.grad, rtol=1e-5, atol=1e-8)
    assert batch.weights.mean() == pytest.approx(1.0) and batch.weights.std() > 0


def test_sample_and_token_weights_multiply(store: TokenStore) -> None:
    policy = Chain(LinUpper(burn_in=0, r=0.2), Rho1(keep=0.5))
    feed, model, same = make(store, policy, accumulate=2), table(store), table(store)
    above, below = torch.zeros(()), 0.0
    for _ in range(2):
        batch = feed.next()
        feed.loss(model(batch.input_ids), batch).backward()
        each = nn.functional.cross_entropy(
            same(batch.input_ids).flatten(0, 1), batch.targets.flatten(), reduction="none"
        ).view(BATCH // 2, SEQ)  # fmt: skip
        known = each.detach().double().numpy()
        v = LinUpper(burn_in=0, r=0.2).weigh(scored(known.mean(1).tolist()))
        tokens = ScoredTokens(0, batch.groups, known, token_reference(batch.samples))
        w = v[:, None] * Rho1(keep=0.5).weigh_tokens(tokens)
        above, below = above + (torch.from_numpy(w) * each).sum(), below + w.sum()
    assert feed.step == 1
    feed.normalise(model.parameters())
    (above / below).backward()
    assert torch.allclose(model.weight.grad, same.weight.grad, rtol=1e-5, atol=1e-8)


def test_all_tokens_kept_is_the_plain_loss(store: TokenStore) -> None:
    model, losses = table(store), []
    for policy in (Uniform(), Chain(Uniform(), Rho1(keep=1.0))):
        feed = make(store, policy)
        batch = feed.next()
        losses.append(feed.loss(model(batch.input_ids), batch).item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_selection_by_a_column_scores_nothing(store: TokenStore) -> None:
    def never(ids: Tensor) -> Tensor:
        raise AssertionError("no forward pass is needed")

    feed, model = make(store, Chain(Odm(), ColumnSelect(column="score", keep=0.5))), table(store)
    values = store.samples(SEQ).column("score")
    batch = feed.select(never, feed.next())
    offered = make(store, Chain(Odm(), RhoSelect(keep=0.5))).next()  # the same draws, to be scored
    assert offered.candidates and not batch.candidates
    best = np.sort(np.nan_to_num(values[offered.samples], nan=-1.0))[BATCH:]
    assert sorted(np.nan_to_num(values[batch.samples], nan=-1.0)) == pytest.approx(best.tolist())
    feed.loss(model(batch.input_ids), batch)
    assert feed.trained is not None and feed.trained.keep == 0.5 and not feed.ledger
    with pytest.raises(UserError, match="no measurement 'quality'"):
        make(store, ColumnSelect(column="quality"))
    with pytest.raises(UserError, match="reference losses of tokens"):
        make(store, Rho1(), token_reference=None)


def test_weights_by_a_column_reach_the_loss(store: TokenStore) -> None:
    feed, model = make(store, ColumnWeight(column="score", low=0.1, high=1.0)), table(store)
    batch = feed.next()
    feed.loss(model(batch.input_ids), batch)
    values = store.samples(SEQ).column("score")[batch.samples]
    expected = np.clip(np.where(np.isfinite(values), values, 1.0), 0.1, 1.0)
    assert batch.weights == pytest.approx(expected * (BATCH / expected.sum()))


@pytest.mark.parametrize("select", [False, True], ids=["batch", "candidates"])
def test_the_excess_of_a_domain_is_clipped_by_token(store: TokenStore, select: bool) -> None:
    policy = Chain(Doremi(), LossQuantile()) if select else Doremi()
    feed, model = make(store, policy, prefetch=0), table(store)
    offered = feed.next()
    batch = feed.select(model, offered)
    feed.loss(model(batch.input_ids), batch)
    logits = model(offered.input_ids)
    each = nn.functional.cross_entropy(logits.flatten(0, 1), offered.targets.flatten(), reduction="none")
    tokens = each.detach().double().numpy().reshape(len(offered.samples), SEQ)
    excess = np.maximum(tokens - token_reference(offered.samples), 0.0).mean(1)
    doremi = feed.policy.owner("mix")
    assert doremi is not None
    for k in np.unique(offered.groups):
        assert doremi.state["excess"][k] == pytest.approx(excess[offered.groups == k].mean())
    assert set(feed.ledger) == {"reference_scoring"} | ({"candidate_scoring"} if select else set())


def test_a_feed_with_tokens_resumes_exactly(store: TokenStore) -> None:
    def run(feed: Feed, model: nn.Module, steps: int) -> list[float]:
        optimizer = torch.optim.SGD(model.parameters(), lr=20.0)
        losses: list[float] = []
        for _ in range(steps):
            batch = feed.select(model, feed.next())
            loss = feed.loss(model(batch.input_ids), batch)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
        return losses

    policy = Chain(LossQuantile(), ColumnWeight(column="score", low=0.2), Rho1())
    whole = run(make(store, policy), table(store), 10)
    feed, model = make(store, policy), table(store)
    begun = run(feed, model, 4)
    again = make(store, policy)
    again.load_state_dict(json.loads(json.dumps(feed.state_dict())))
    assert begun + run(again, model, 6) == whole


TINY = ModelSpec(layers=1, width=32, head_width=16)
SPEC = TrainSpec(
    model=TINY, seq_len=SEQ, batch=BATCH, tokens=SEQ * BATCH * 12, dtype="fp32",
    reference=ReferenceSpec(model=TINY, tokens=SEQ * 4 * 60),
)  # fmt: skip


def test_doremi_trains_its_reference_on_the_store(store: TokenStore, tmp_path: Path) -> None:
    spec = SPEC.model_copy(update={"policy": Doremi()})
    one = train(spec, store, {}, cache=tmp_path)  # no target is needed
    assert {"reference_training", "reference_scoring"} <= set(one.ledger)
    assert one.mixture[-1] != one.mixture[0]
    two = train(spec, store, {}, cache=tmp_path)  # the reference comes from the cache
    assert one.losses == two.losses and len(list(tmp_path.glob("reference-*.pt"))) == 1
    losses, _ = reference_losses(SPEC.reference, None, store, SEQ, "fp32", tmp_path)
    samples = np.arange(0, len(store.samples(SEQ)), 9)
    assert losses.tokens(samples).mean(1) == pytest.approx(losses(samples), rel=1e-5)
    assert losses(samples).mean() < np.log(store.tokenizer.vocab) - 0.5  # it has learnt something


def test_the_pool_prepares_a_reference_of_each_kind(store: TokenStore, tmp_path: Path) -> None:
    texts = [d["text"] for d in documents(60, seed=7) if d["domain"] == "docs"]
    targets = {"search": Target.from_texts("search", texts, store.tokenizer)}
    specs = [SPEC.model_copy(update={"policy": policy}) for policy in (Doremi(), Rho1(), Doremi())]
    tasks = [Task(spec, store.folder, targets, cache=tmp_path) for spec in specs]
    results = train_many(tasks, workers=1)
    assert len(list(tmp_path.glob("reference-*.pt"))) == 2
    alone = train(specs[0], store, {})
    assert results[0].losses == results[2].losses == alone.losses != results[1].losses


def test_rho1_trains_on_what_the_target_knows(store: TokenStore, tmp_path: Path) -> None:
    texts = [d["text"] for d in documents(60, seed=7) if d["domain"] == "docs"]
    targets = {"search": Target.from_texts("search", texts, store.tokenizer)}
    spec = SPEC.model_copy(update={"policy": Chain(Uniform(), Rho1(keep=0.4))})
    result = train(spec, store, targets, cache=tmp_path)
    rows = result.trained.to_pylist()
    weight = {name: np.mean([r["weight"] for r in rows if r["domain"] == name]) for name in ("docs", "noise")}
    assert weight["docs"] > weight["noise"]
    assert np.mean([r["weight"] for r in rows]) == pytest.approx(1.0)


def test_the_table_of_policies_is_current() -> None:
    page = Path(__file__).parents[2] / "docs" / "writing-a-policy.md"
    text = page.read_text(encoding="utf-8")
    assert text == renew(text), f"run python -m tillage.train.catalogue {page.name}"
    with pytest.raises(UserError, match="no marks"):
        renew("a page")
