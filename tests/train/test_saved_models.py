"""A model of ours trained further, and selections of a store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tillage.core.errors import UserError
from tillage.train.model import ModelSpec
from tillage.train.tokens import Tokenizer, TokenStore
from tillage.train.trainer import TrainSpec, load_model, train

FIELDS: dict[str, Any] = {"seq_len": 32, "batch": 2, "tokens": 32 * 2 * 3, "dtype": "fp32"}


def test_a_saved_model_is_trained_further(store: TokenStore, tmp_path: Path) -> None:
    first = train(
        TrainSpec(model=ModelSpec(layers=1, width=32, head_width=16), **FIELDS), store, {}, workdir=tmp_path
    )
    spec = TrainSpec.load({**FIELDS, "model": {"saved": str(tmp_path / "model.pt")}, "seq_len": 16}, "train")
    assert spec.optim.lr == 2e-4
    second = train(spec, store, {})
    assert second.losses[0] < np.log(store.tokenizer.vocab) - 0.05  # a fresh model's
    before, after = first.model.state_dict(), second.model.state_dict()
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert load_model(tmp_path / "model.pt").seq_len == 32
    moved = spec.model_copy(update={"model": spec.model.model_copy(update={"saved": "elsewhere.pt"})})
    assert moved.fingerprint() == spec.fingerprint()
    with pytest.raises(UserError, match="cannot read the model"):
        train(moved, store, {})


def test_another_vocabulary_is_refused(store: TokenStore, tmp_path: Path) -> None:
    model = {"layers": 1, "width": 32, "head_width": 16}
    train(TrainSpec.load({**FIELDS, "model": model}, "train"), store, {}, workdir=tmp_path)
    other = Tokenizer.train(["abc"], 300)
    rows = TokenStore.write(tmp_path / "s", _rows(), other)
    with pytest.raises(UserError, match="not tokenised for this model"):
        train(TrainSpec.load({**FIELDS, "model": {"saved": str(tmp_path / "model.pt")}}, "train"), rows, {})


def _rows() -> Any:
    from train_data import batches, documents

    return batches(documents(60))


def test_a_selection_is_a_store(store: TokenStore) -> None:
    chosen = np.asarray([3, 1, 100, 239])
    part = store.only(chosen)
    assert len(part) == 4 and part.groups.documents == tuple(
        int((store.domain[chosen] == g).sum()) for g in range(len(store.groups))
    )
    for mine, theirs in enumerate(sorted(chosen.tolist())):
        assert part.id(mine) == store.id(theirs)
        assert np.array_equal(part.document(mine), store.document(theirs))
    assert part.fingerprint not in (store.fingerprint, store.only([1]).fingerprint)
    assert part.column("score") == pytest.approx(store.column("score")[np.sort(chosen)], nan_ok=True)
    cut = part.packed("document").samples(512)
    assert len(cut) == 4 and len(store.samples(32)) > len(part.samples(32))
    with pytest.raises(UserError, match="no such documents"):
        store.only([len(store)])
