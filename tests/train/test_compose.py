"""Any mix with any selection and any weights: each runs a step, or says why the two do not go together."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from test_controls import EXAMPLES
from test_feed import table
from torch import Tensor

from tillage.core.errors import UserError, WorkFailed
from tillage.train.draw import uniform
from tillage.train.feed import Feed
from tillage.train.policies import Aioli, ColumnSelect, ColumnWeight, CountWeight, Curriculum, Fixed
from tillage.train.policies.mix import Stage
from tillage.train.policy import Chain, Policy, SignalSpec, policies
from tillage.train.signals.ahead import METHODS
from tillage.train.signals.gradients import Measured
from tillage.train.tokens import Ints, TokenStore

SEQ, BATCH = 32, 4
NAMES = ("docs", "code", "noise")
OWN: dict[str, Policy] = {
    "fixed": Fixed(weights=dict.fromkeys(NAMES, 1.0)),
    "column_select": ColumnSelect(column="score"),
    "column_weight": ColumnWeight(column="score"),
    "count_weight": CountWeight(column="score"),
    "curriculum": Curriculum(stages=(Stage(until=50, weights=dict.fromkeys(NAMES, 1.0)),)),
    "aioli": Aioli(every=60, sweeps=1, sweep_steps=2),
}


class Gradients:
    """Made up, and the same for the same samples."""

    cost = 2.0

    def refresh(self, step: int) -> float:
        return 3.0

    def measure(self, input_ids: Tensor, targets: Tensor, spans: Tensor | None) -> Measured:
        sketch = uniform(3, input_ids.sum(1).numpy()[:, None], np.arange(6)) - 0.3
        return Measured(np.full(input_ids.shape, 3.0), sketch.sum(1), sketch)

    def target_sketch(self) -> np.ndarray[Any, Any]:
        return np.ones(6)


def by_factor(factor: str) -> list[Policy]:
    assert set(OWN) >= set(EXAMPLES)
    return [OWN.get(name) or policies.get(name)() for name, cls in policies if factor in cls.factors]


def different_references(parts: tuple[Policy, ...]) -> bool:
    needs: list[SignalSpec] = [part.requires() for part in parts]
    return len({need.prior for need in needs if need.reference}) > 1


@pytest.mark.parametrize("mix", by_factor("mix"), ids=lambda p: p.name)
def test_every_composition_runs_or_says_why_not(store: TokenStore, mix: Policy) -> None:
    model, count = table(store), len(store.samples(SEQ))
    scores = {name: uniform(4, np.arange(count)) for name in METHODS}

    def reference(samples: Ints) -> np.ndarray[Any, Any]:
        return 3.0 + uniform(9, samples)

    selects, weighs, tokens = (by_factor(factor) for factor in ("select", "weigh", "token"))
    triples = [(mix, *pair) for pair in product(selects, weighs)]
    for parts in [*triples, *((*triples[-1], token) for token in tokens)]:
        if different_references(parts):
            with pytest.raises(UserError, match="two different reference models"):
                Chain(*parts)
            continue
        feed = Feed(
            store, Chain(*parts), batch_tokens=SEQ * BATCH, seq_len=SEQ, reference=reference, scores=scores,
            token_reference=lambda s: np.tile(reference(s)[:, None], SEQ), gradients=Gradients(),
        )  # fmt: skip
        with torch.no_grad():
            batch = feed.next()
            if feed.actions().gradients and not batch.candidates:
                with pytest.raises(WorkFailed, match="were not measured"):
                    feed.loss(model(batch.input_ids), batch)
            batch = feed.select(model, batch)
            assert len(batch.samples) == BATCH
            assert np.isfinite(float(feed.loss(model(batch.input_ids), batch)))
        assert feed.trained is not None and feed.step == 1
        assert feed.state_dict()["policy"]
