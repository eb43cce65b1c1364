"""Decay branches: each is the run that its budget would have been."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tillage.core.errors import UserError
from tillage.train.job import TrainJob
from tillage.train.model import ModelSpec
from tillage.train.optim import OptimSpec
from tillage.train.policies import Ado
from tillage.train.tokens import TokenStore
from tillage.train.trainer import TrainSpec, train

STEP = 32 * 4


def spec(**more: Any) -> TrainSpec:
    fields: dict[str, Any] = {
        "model": ModelSpec(layers=1, width=32, head_width=16),
        "seq_len": 32,
        "batch": 4,
    }
    return TrainSpec(tokens=STEP * 20, dtype="fp32", policy=Ado(start_step=4, every=1), **{**fields, **more})


def test_a_branch_is_the_run_of_its_budget(store: TokenStore, tmp_path: Path) -> None:
    file = tmp_path / "train.yaml"
    fields = spec(optim=OptimSpec(warmup=0.1, decay=0.25)).model_dump(mode="json")
    file.write_text(
        json.dumps({"store": str(store.folder), "train": fields, "branches": [STEP * 8, STEP * 12]})
    )
    whole, long, short = TrainJob.from_yaml(file).run(None, tmp_path / "w")
    assert [r.steps for r in (whole, long, short)] == [20, 12, 8]
    # Two steps of warm-up for all of them.
    alone = spec(optim=OptimSpec(warmup=2 / 8, decay=0.25)).model_copy(update={"tokens": STEP * 8})
    by_itself = train(alone, store, {})
    assert short.losses == by_itself.losses
    assert short.losses[:6] == whole.losses[:6] and short.losses[-1] != whole.losses[7]
    assert (tmp_path / "w" / f"branch-{STEP * 8}" / "result.json").exists()
    # The same command again makes nothing new of it.
    again = TrainJob.from_yaml(file).run(None, tmp_path / "w")
    assert [r.losses for r in again] == [whole.losses, long.losses, short.losses]


@pytest.mark.parametrize(
    ("optim", "tokens", "match"),
    [
        (OptimSpec(schedule="cosine"), STEP * 8, "need a plateau"),
        (OptimSpec(decay=0.5), STEP * 20 + 1, "outside the plateau"),
        (OptimSpec(warmup=0.4, decay=0.2), STEP * 4, "outside the plateau"),
    ],
)
def test_branches_off_the_plateau_are_refused(
    optim: OptimSpec, tokens: int, match: str, store: TokenStore, tmp_path: Path
) -> None:
    job = TrainJob(store=str(store.folder), train=spec(optim=optim), branches=(tokens,))
    if tokens > STEP * 20:
        job = job.model_copy(update={"branches": (tokens * 2,)})
    with pytest.raises(UserError, match=match):
        job.run(None, tmp_path)
    with pytest.raises(UserError, match="work folder"):
        job.run()
