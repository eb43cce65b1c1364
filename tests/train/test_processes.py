"""Several processes: ranks of one run, and the pool of runs."""

from __future__ import annotations

import json
import multiprocessing
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rank import run_rank, watch_both
from train_data import documents

from tillage.core.errors import UserError, WorkFailed
from tillage.core.events import Event, EventLog, Overhead, TrainStep
from tillage.train.evaluate import Target
from tillage.train.model import ModelSpec
from tillage.train.policies import Ado, LinUpper, Odm, Proportional, RhoSelect
from tillage.train.policy import Chain
from tillage.train.pool import Task, train_many
from tillage.train.reference import ReferenceSpec
from tillage.train.tokens import TokenStore
from tillage.train.trainer import TrainSpec, train

TINY = ModelSpec(layers=1, width=32, head_width=16)
SPEC = TrainSpec(
    model=TINY, seq_len=32, batch=8, tokens=32 * 8 * 8, dtype="fp32",
    reference=ReferenceSpec(model=TINY, tokens=32 * 4 * 5),
)  # fmt: skip


def ranks(store: TokenStore, world: int, folder: Path, spec: TrainSpec | None = None) -> list[dict[str, Any]]:
    """What each of `world` gloo processes saw."""
    folder.mkdir()
    # The fork server imports torch once for all ranks; each rank is a process of its own.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tillage.train.trainer"])
    children = [
        context.Process(target=run_rank, args=(str(store.folder), rank, world, str(folder), spec))
        for rank in range(world)
    ]
    for child in children:
        child.start()
    for child in children:
        child.join(timeout=120)
    assert [child.exitcode for child in children] == [0] * world
    return [json.loads((folder / f"rank-{rank}.json").read_text()) for rank in range(world)]


def joined(parts: list[list[int]]) -> list[int]:
    return [sample for part in parts for sample in part]


def test_one_two_and_four_processes_see_the_same_global_sequence(store: TokenStore, tmp_path: Path) -> None:
    alone, single = watch_both(store, 0, 1), train(SPEC, store, {})
    for world in (2, 4):
        several = ranks(store, world, tmp_path / str(world))
        for name in ("uniform", "dynamic", "excess", "tokens"):
            mine = [seen[name] for seen in several]
            steps = len(alone[name]["samples"])
            together = [joined([m["samples"][step] for m in mine]) for step in range(steps)]
            assert together == alone[name]["samples"]
            weights = [[w for m in mine for w in m["weights"][step]] for step in range(steps)]
            assert weights == alone[name]["weights"]
            # State that differs by rank was a fault of an earlier framework.
            assert all(m["state"] == mine[0]["state"] for m in mine)
        assert several[0]["dynamic"]["state"] == alone["dynamic"]["state"]
        assert several[0]["excess"]["state"] == alone["excess"]["state"]
        # What one process saved goes on in several, and the other way round.
        assert joined([seen["resumed"] for seen in several]) == alone["resumed"]
        # Weights are divided by their sum over ranks and micro-batches: one gradient, however it is cut up.
        for cut in (0, 1):
            mean = np.mean([seen["gradients"][cut] for seen in several], axis=0)
            assert np.allclose(mean, alone["gradients"][0], rtol=1e-4, atol=1e-8)
        # And they train the same model: gradients are averaged, the loss is normalised once.
        assert all(seen["losses"] == several[0]["losses"] for seen in several)
        assert several[0]["losses"] == pytest.approx(single.losses, rel=1e-3)


def test_with_the_same_passes_several_processes_train_to_the_last_bit(
    store: TokenStore, tmp_path: Path
) -> None:
    """Products in bf16 depend on their shapes, and so on how many processes share a batch."""
    spec = SPEC.model_copy(
        update={
            "passes": 2,
            "dtype": "bf16",
            "policy": Chain(Ado(start_step=2, ignore=0, every=1), LinUpper()),
        }
    )
    single = train(spec, store, {})
    assert single.losses != train(spec.model_copy(update={"passes": 1}), store, {}).losses
    several = ranks(store, 2, tmp_path / "two", spec)
    assert all(seen["losses"] == single.losses for seen in several)
    with pytest.raises(UserError, match="passes do not divide"):
        train(spec.model_copy(update={"passes": 3}), store, {})


def test_the_pool_gives_the_results_of_single_runs_in_order(store: TokenStore, tmp_path: Path) -> None:
    texts = [d["text"] for d in documents(60, seed=7) if d["domain"] == "docs"]
    targets = {"search": Target.from_texts("search", texts, store.tokenizer)}
    arms = {"plain": Proportional(), "rho": Chain(Odm(), RhoSelect(keep=0.75))}
    tasks = [
        Task(
            SPEC.model_copy(update={"arm": arm, "seed": seed, "policy": policy}),
            store.folder,
            targets,
            cache=tmp_path,
        )
        for arm, policy in arms.items()
        for seed in (0, 1)
    ]
    events: list[Event] = []
    results = train_many(tasks, EventLog(subscribers=[events.append]), workers=2)
    assert [(r.arm, r.seed) for r in results] == [("plain", 0), ("plain", 1), ("rho", 0), ("rho", 1)]
    order = [(e.arm, e.seed) for e in events if isinstance(e, Overhead)]
    assert order == [(r.arm, r.seed) for r in results]
    assert [e.step for e in events if isinstance(e, TrainStep)][:3] == [1, 6, 8]
    assert len(list(tmp_path.glob("reference-*.pt"))) == 1
    here = train(tasks[3].spec, store, targets)
    assert results[3].losses == here.losses and results[3].bpb == here.bpb
    assert results[3].trained.equals(here.trained)


def test_the_pool_says_what_went_wrong(store: TokenStore, tmp_path: Path) -> None:
    needy = SPEC.model_copy(update={"policy": RhoSelect()})
    with pytest.raises(UserError, match="no target 'search'"):
        train_many([Task(SPEC, store.folder, {}), Task(needy, store.folder, {}, cache=tmp_path)], workers=1)
    wild = SPEC.model_copy(update={"optim": SPEC.optim.model_copy(update={"lr": 1e30, "lr_embedding": 1e30})})
    with pytest.raises(WorkFailed, match="not finite"):
        train_many([Task(wild, store.folder, {})], workers=1)


def test_a_worker_that_dies_is_reported(store: TokenStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(WorkFailed, match="worker died") as raised:
        train_many([Task(SPEC, store.folder, {})], workers=1)
    assert "exit code 1" in str(raised.value)
