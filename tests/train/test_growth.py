"""Going on with a grown version of the data, and with nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from test_feed import FULL, make, table, train
from train_data import batches, documents

from tillage.core.errors import UserError
from tillage.core.events import Event, EventLog, Note
from tillage.train import trainer
from tillage.train.model import ModelSpec
from tillage.train.tokens import Tokenizer, TokenStore
from tillage.train.trainer import TrainSpec

ROWS = documents(120, seed=3)


def version(folder: Path, tokenizer: Tokenizer, count: int, number: int, dataset: str = "d") -> TokenStore:
    source = {"dataset": dataset, "version": number}
    return TokenStore.write(
        folder / f"v{number}-{count}-{dataset}", batches(ROWS[:count]), tokenizer, source=source
    )


def test_a_feed_goes_on_with_a_grown_version(tmp_path: Path, tokenizer: Tokenizer) -> None:
    old, new = version(tmp_path, tokenizer, 90, 1), version(tmp_path, tokenizer, 120, 2)
    feed, model = make(old, FULL), table(old)
    list(train(feed, model, 6))
    state = json.loads(json.dumps(feed.state_dict()))
    with pytest.raises(UserError, match="store fingerprint"):
        make(new, FULL).load_state_dict(state)
    runs = []
    for _ in range(2):
        again = make(new, FULL)
        again.load_state_dict(state, adopt=True)
        assert again.policy.state_dict() == feed.policy.state_dict()
        assert [(a["step"], a["version"], a["fingerprint"]) for a in again.adopted] == [
            (6, 2, new.fingerprint)
        ]
        runs.append([b.samples.tolist() for b, _ in train(again, table(new), 9)])
        later = json.loads(json.dumps(again.state_dict()))
    assert runs[0] == runs[1]
    # Rows that are new are served, and once adopted the version is the run's own.
    added = {row["id"] for row in ROWS[90:]}
    cut = new.samples(32)
    served = {new.id(d) for batch in runs[0] for s in batch for d in cut.documents(s)}
    assert served & added
    final = make(new, FULL)
    final.load_state_dict(later)
    assert final.adopted == again.adopted
    assert final.next().samples.tolist() == again.next().samples.tolist()


def test_only_a_grown_version_is_adopted(tmp_path: Path, tokenizer: Tokenizer) -> None:
    old = version(tmp_path, tokenizer, 90, 2)
    state = make(old).state_dict()
    for store, what in (
        (version(tmp_path, tokenizer, 120, 1), "version"),
        (version(tmp_path, tokenizer, 60, 3), "documents"),
        (version(tmp_path, tokenizer, 120, 3, "other"), "dataset"),
    ):
        with pytest.raises(UserError, match=f"another {what}"):
            make(store).load_state_dict(state, adopt=True)
    words = Tokenizer.train([row["text"] for row in ROWS], 300)
    with pytest.raises(UserError, match="another tokenizer"):
        make(version(tmp_path, words, 120, 4)).load_state_dict(state, adopt=True)


def test_a_run_adopts_where_it_may(tmp_path: Path, tokenizer: Tokenizer) -> None:
    old, new = version(tmp_path, tokenizer, 90, 1), version(tmp_path, tokenizer, 120, 2)
    spec = TrainSpec(
        model=ModelSpec(layers=1, width=32, head_width=16), seq_len=32, batch=8, tokens=32 * 8 * 6,
        dtype="fp32", checkpoint_every=3, keep_checkpoints=2,
    )  # fmt: skip
    trainer.train(spec, old, {}, workdir=tmp_path / "run")
    (tmp_path / "run/checkpoints/step-00000006.pt").unlink()  # as a run that was stopped after step 3
    with pytest.raises(UserError, match="another run") as refused:
        trainer.train(spec, new, {}, workdir=tmp_path / "run")
    assert old.fingerprint in str(refused.value) and new.fingerprint in str(refused.value)
    seen: list[Event] = []
    log = EventLog(subscribers=[seen.append])
    adopting = spec.model_copy(update={"adopt": True})
    grown = trainer.train(adopting, new, {}, log, tmp_path / "run")
    assert grown.steps == 6 and len(grown.losses) == 6 and np.isfinite(grown.losses).all()
    (note,) = [e.text for e in seen if isinstance(e, Note)]
    assert "from step 3 on: version 2 of the data" in note and new.fingerprint in note
    assert grown.documents["visits"].to_numpy().max() > 0 and grown.trained.num_rows == 6 * 8
