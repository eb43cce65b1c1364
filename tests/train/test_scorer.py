"""A small model that scores in place of the large one: resumable, and not taken for the model itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from test_feed import table
from train_data import WORDS

from tillage.core.errors import UserError
from tillage.core.events import Event, EventLog, TrainStep
from tillage.train.conformance import check_policy
from tillage.train.evaluate import Target
from tillage.train.feed import Feed
from tillage.train.model import ModelSpec
from tillage.train.policies import Ado, Alignment, Doge, Greats, LossQuantile, RhoSelect
from tillage.train.policy import Chain
from tillage.train.reference import ReferenceSpec
from tillage.train.result import overhead_table
from tillage.train.signals.gradients import GradientSpec
from tillage.train.tokens import TokenStore
from tillage.train.trainer import TrainSpec, train

SEQ = 32
TINY = ReferenceSpec(model=ModelSpec(layers=1, width=16, head_width=8), tokens=SEQ * 4 * 20)
SPEC = TrainSpec(
    model=ModelSpec(layers=2, width=32, head_width=16), seq_len=SEQ, batch=8, tokens=SEQ * 8 * 8,
    dtype="fp32", reference=TINY, gradients=GradientSpec(samples=4), log_every=1,
)  # fmt: skip


@pytest.fixture(scope="module")
def target(store: TokenStore) -> Target:
    texts = [" ".join(np.random.default_rng(i).choice(WORDS["docs"], 60)) for i in range(20)]
    return Target.from_texts("search", texts, store.tokenizer)


def test_a_run_with_a_scorer_resumes_exactly(store: TokenStore, target: Target, tmp_path: Path) -> None:
    policy = Chain(RhoSelect(keep=0.5, scorer=True), Alignment(scorer=True, every=2))
    spec = SPEC.model_copy(update={"policy": policy, "checkpoint_every": 3})
    whole = train(spec, store, {"search": target})
    assert whole.ledger["scorer_training"] > 0
    lines = {line.name: line for line in overhead_table(whole)}
    assert whole.forwards["training"] == 3 * 8 * 8
    assert (
        lines["policy alignment"].forwards < lines["policy rho_select"].forwards + lines["gradients"].forwards
    )
    parts = ("candidate_scoring", "reference_scoring", "reference_training", "scorer_training")
    assert lines["policy rho_select"].work == pytest.approx(sum(lines[name].work for name in parts))
    assert 0 < lines["scorer_training"].work < 0.5

    def killer(event: Event) -> None:
        if isinstance(event, TrainStep) and event.step == 5:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        train(spec, store, {"search": target}, EventLog(subscribers=[killer]), tmp_path)
    again = train(spec, store, {"search": target}, workdir=tmp_path)
    assert again.losses == whole.losses and again.trained.equals(whole.trained)


def test_signals_are_the_models_own_losses(store: TokenStore) -> None:
    """With a scorer the mixture must see what the model lost, not what the small one did."""

    class Wrong:
        def losses(self, ids, targets, spans):  # type: ignore[no-untyped-def]
            return targets.double() * 0 + 100.0

        def learn(self, batch):  # type: ignore[no-untyped-def]
            self.learnt = batch.samples

    model, scorer = table(store), Wrong()
    feed = Feed(
        store, Chain(Ado(), LossQuantile(scorer=True)), batch_tokens=SEQ * 8, seq_len=SEQ, scorer=scorer,  # type: ignore[arg-type]
    )  # fmt: skip
    batch = feed.select(model, feed.next())
    assert scorer.learnt.tolist() == batch.samples.tolist()
    feed.loss(model(batch.input_ids), batch)
    history = feed.policy.parts[0].state
    assert feed.trained is not None and feed.trained.losses.max() < 50
    assert history["steps"] == 1 and feed.forwards["candidate_scoring"] == 16


def test_one_scorer_for_a_chain() -> None:
    with pytest.raises(UserError, match="small scorer"):
        Chain(RhoSelect(scorer=True), Doge())
    Chain(RhoSelect(scorer=True), Doge(scorer=True))
    Chain(RhoSelect(keep=1.0), Doge(scorer=True))  # scores nobody


def test_policies_with_a_scorer_conform(store: TokenStore) -> None:
    for spec in (RhoSelect(scorer=True), RhoSelect(budget=0.1), LossQuantile(every=4), Greats(scorer=True)):
        check_policy(spec)
    with pytest.raises(UserError, match="scores by a small model"):
        Feed(store, LossQuantile(scorer=True), batch_tokens=SEQ * 8, seq_len=SEQ)
