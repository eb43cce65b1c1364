"""Scores made ahead of training, Aioli's rounds and the swarm's fit, each against a case worked by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from train_data import WORDS

from tillage.core.errors import UserError
from tillage.train.evaluate import Target
from tillage.train.feed import Feed
from tillage.train.model import ModelSpec
from tillage.train.policies import Aioli, Color, Curriculum, MiniPlm
from tillage.train.policies.mix import Stage
from tillage.train.policy import Scored, Signals
from tillage.train.reference import ReferenceSpec
from tillage.train.signals.ahead import ahead_scores
from tillage.train.signals.less import _stepped, less
from tillage.train.signals.setting import Setting
from tillage.train.signals.several import difference, perplexity_correlation, sign_cdf
from tillage.train.swarm import FLOOR, best_mixture, draw_mixtures, fit_mixtures
from tillage.train.tokens import Groups, TokenStore
from tillage.train.trainer import TrainSpec, train

TWO = Groups(("a", "b"), (300, 100), (3, 1))
TINY = ReferenceSpec(model=ModelSpec(layers=1, width=32, head_width=16), tokens=32 * 4 * 60)


def heldout(step: int, losses: list[float]) -> Signals:
    known = np.asarray(losses)
    return Signals(step, np.ones(2), known, np.full(2, np.nan), 10, None, known)


def test_aioli_solves_for_the_effect_of_each_domain() -> None:
    run = Aioli(every=6, sweeps=1, sweep_steps=1, one_hot=0.75, eta=2.0).start(TWO)
    assert [run.act(t).probe for t in range(7)] == [True, True, True, False, False, False, True]
    assert np.allclose(run.mixture(0), [0.75, 0.25]) and np.allclose(run.mixture(1), [0.25, 0.75])
    # Losses fall by A p with A = [[.8, 0], [0, .4]]: by .6 and .1 first, by .2 and .3 then.
    for step, losses in enumerate([[5.0, 5.0], [4.4, 4.9], [4.2, 4.6]]):
        run.observe(heldout(step, losses))
    share = np.exp(2.0 * np.asarray([0.8, 0.4]) / 1.2)
    assert np.allclose(run.mixture(2), share / share.sum())


def test_aioli_says_when_its_sweeps_do_not_fit() -> None:
    with pytest.raises(UserError, match="longer than a round"):
        Aioli(every=21, sweeps=1, sweep_steps=20).start(TWO)


def test_a_curriculum_goes_through_its_stages() -> None:
    stages = (Stage(until=2, weights={"a": 1}), Stage(until=4, weights={"a": 1, "b": 3}))
    run = Curriculum(stages=stages).start(TWO)
    assert [run.mixture(t)[1] for t in (0, 1, 2, 9)] == [0, 0, 0.75, 0.75]


def test_the_fit_of_a_swarm_finds_power_laws_and_their_least() -> None:
    prior = np.full(3, 1 / 3)
    mixtures = draw_mixtures(prior, 30, seed=1)
    # Two losses, each fallen by its own domain's share; nobody needs the third.
    slope = np.asarray([[-0.3, 0.0], [0.0, -0.1], [0.0, 0.0]])
    found = fit_mixtures(mixtures, 2.0 * np.exp(np.log(mixtures + FLOOR) @ slope), ridge=1e-9)
    assert np.allclose(found.slope, slope, atol=1e-4) and np.allclose(np.exp(found.constant), 2.0, atol=1e-4)
    assert found(mixtures[:1]) == pytest.approx([2.0 * np.exp(np.log(mixtures[0] + FLOOR) @ slope).mean()])
    best = best_mixture(found, prior)
    assert best[0] > best[1] > best[2] and best[1] > 0.15  # not a corner
    bounded = best_mixture(found, prior, np.asarray([0.5, 1.0, 1.0]))
    assert bounded[0] <= 0.5 and bounded[1] > best[1]


def test_color_prefers_the_target_and_is_kept_by_fingerprint(store: TokenStore, tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    texts = [" ".join(rng.choice(WORDS["docs"], 60)) for _ in range(20)]
    target = Target.from_texts("search", texts, store.tokenizer)
    setting = Setting(TINY, target, store, 32, "fp32")
    scores, seconds = ahead_scores("color", setting, tmp_path)
    groups = store.samples(32).group(np.arange(len(scores)))
    mean = {name: scores[groups == g].mean() for g, name in enumerate(store.groups.names)}
    assert max(mean, key=lambda name: mean[name]) == "docs"  # what the target is made of
    again, same = ahead_scores("color", setting, tmp_path)
    assert np.array_equal(scores, again) and same == seconds
    other = Setting(TINY.model_copy(update={"seed": 1}), target, store, 32, "fp32")
    assert other.key() != setting.key()
    feed = Feed(store, Color(keep=0.25), batch_tokens=32 * 8, seq_len=32, scores={"color": scores})
    batch = feed.select(lambda ids: ids, feed.next())  # needs no model
    assert scores[batch.samples].mean() > scores.mean()
    with pytest.raises(UserError, match="needs the scores 'color'"):
        Feed(store, Color(), batch_tokens=32 * 8, seq_len=32)


def test_the_trainer_makes_the_scores_that_a_policy_needs(store: TokenStore) -> None:
    texts = [" ".join(np.random.default_rng(i).choice(WORDS["docs"], 60)) for i in range(20)]
    target = Target.from_texts("search", texts, store.tokenizer)
    spec = TrainSpec(
        model=TINY.model, seq_len=32, batch=8, tokens=32 * 8 * 4, dtype="fp32", policy=Color(), reference=TINY
    )
    result = train(spec, store, {"search": target})
    assert result.ledger["ahead_scoring"] > 0 and result.seconds > result.ledger["ahead_scoring"]
    with pytest.raises(UserError, match="no target 'search'"):
        train(spec, store, {})


def domain_means(store: TokenStore, scores: np.ndarray) -> dict[str, float]:
    groups = store.samples(32).group(np.arange(len(scores)))
    assert np.isfinite(scores).all()
    return {name: scores[groups == g].mean() for g, name in enumerate(store.groups.names)}


def target_of(store: TokenStore, domain: str = "docs") -> Target:
    texts = [" ".join(np.random.default_rng(i).choice(WORDS[domain], 60)) for i in range(20)]
    return Target.from_texts("search", texts, store.tokenizer)


@pytest.mark.parametrize("domain", ["docs", "code"])
def test_less_prefers_what_the_target_is_made_of(store: TokenStore, domain: str) -> None:
    small = ReferenceSpec(model=ModelSpec(layers=1, width=16, head_width=8), tokens=32 * 4 * 16)
    scores = less(Setting(small, target_of(store, domain), store, 32, "fp32"), 1, chunk=64)
    mean = domain_means(store, scores)
    assert max(mean, key=lambda name: mean[name]) == domain
    assert np.abs(scores).max() <= 1.0


def test_adam_steps_of_single_samples_by_hand() -> None:
    moments = {"w": (torch.tensor([[1.0, 0.0]]), torch.tensor([[4.0, 1.0]]))}
    found = _stepped({"w": torch.tensor([[[2.0, 3.0]]])}, moments)["w"]
    one = (0.9 * 1 + 0.1 * 2) / (0.999 * 4 + 0.001 * 4 + 1e-8) ** 0.5
    two = (0.1 * 3) / (0.999 * 1 + 0.001 * 9 + 1e-8) ** 0.5
    torch.testing.assert_close(found, torch.tensor([[[one, two]]]))


def test_rank_correlation_by_hand() -> None:
    # Three models, the last the best: the first sample goes with the error, the second against it.
    errors = np.asarray([3.0, 2.0, 1.0])
    losses = np.asarray([[9.0, 1.0, 5.0], [8.0, 2.0, 7.0], [7.0, 3.0, 6.0]])
    assert sign_cdf(losses, errors) == pytest.approx([1.0, -1.0, -0.5])


def test_scores_by_several_models_prefer_the_target(store: TokenStore) -> None:
    spec = ReferenceSpec(model=ModelSpec(layers=1, width=32, head_width=16), tokens=32 * 4 * 40)
    setting = Setting(spec, target_of(store), store, 32, "fp32")
    mean = domain_means(store, perplexity_correlation(setting, models=4))
    assert max(mean, key=lambda name: mean[name]) == "docs"
    assert np.isfinite(difference(setting)).all()


def test_mini_plm_weighs_the_best_share() -> None:
    columns = {"difference": np.asarray([3.0, 1.0, 2.0, 4.0])}
    batch = Scored(0, np.zeros(4, dtype=np.int64), *np.ones((2, 4)), columns)
    assert MiniPlm(share=0.5, floor=0.25).start(TWO).weigh(batch).tolist() == [1.0, 0.25, 0.25, 1.0]


def test_scores_of_another_target_model_or_seed_are_made_anew(store: TokenStore, tmp_path: Path) -> None:
    """An earlier framework kept scores by name and gave one run those of another."""

    def target(kind: str) -> Target:
        texts = [" ".join(np.random.default_rng(i).choice(WORDS[kind], 60)) for i in range(12)]
        return Target.from_texts("search", texts, store.tokenizer)

    docs = Setting(TINY, target("docs"), store, 32, "fp32")
    others = [
        replace(docs, target=target("code")),
        replace(docs, spec=TINY.model_copy(update={"seed": 1})),
        replace(docs, spec=TINY.model_copy(update={"tokens": TINY.tokens + 1})),
        replace(docs, seq_len=16),
    ]
    assert len({docs.key(), *(other.key() for other in others)}) == 5
    first, _ = ahead_scores("likeness", docs, tmp_path)
    second, _ = ahead_scores("likeness", others[0], tmp_path)
    assert not np.allclose(first, second)
    assert np.array_equal(ahead_scores("likeness", docs, tmp_path)[0], first)
