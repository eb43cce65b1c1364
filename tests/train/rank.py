"""One rank of a gloo group, as started by `test_processes.py`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import nn

from tillage.train.draw import uniform
from tillage.train.feed import Feed
from tillage.train.model import ModelSpec
from tillage.train.policies import ColumnWeight, Doremi, LinUpper, LossQuantile, Odm, Rho1, RhoSelect, Uniform
from tillage.train.policy import Chain, Policy
from tillage.train.tokens import Ints, TokenStore
from tillage.train.trainer import TrainSpec, train

SPEC = TrainSpec(
    model=ModelSpec(layers=1, width=32, head_width=16), seq_len=32, batch=8, tokens=32 * 8 * 8, dtype="fp32"
)


def reference(samples: Ints) -> np.ndarray:
    return 3.0 + uniform(9, samples)


def token_reference(samples: Ints) -> np.ndarray:
    return 3.0 + 4 * uniform(8, samples[:, None] * 32 + np.arange(32))


def watch(store: TokenStore, rank: int, world: int, policy: Policy) -> tuple[dict[str, Any], Feed]:
    """Run a fixed table of logits: losses depend on the sample alone, so nothing may differ."""
    feed = Feed(
        store, policy, batch_tokens=8 * 32, seq_len=32, seed=3, rank=rank, world=world, reference=reference,
        token_reference=token_reference,
    )  # fmt: skip
    model = nn.Embedding(store.tokenizer.vocab, store.tokenizer.vocab)
    nn.init.normal_(model.weight, generator=torch.Generator().manual_seed(0))
    samples: list[list[int]] = []
    weights: list[list[float]] = []
    for _ in range(12):
        batch = feed.select(model, feed.next())
        feed.loss(model(batch.input_ids), batch)
        samples.append(batch.samples.tolist())
        weights.append(batch.weights.tolist())
    return {"samples": samples, "weights": weights, "state": feed.state_dict()}, feed


def weighted_gradient(store: TokenStore, rank: int, world: int, accumulate: int) -> list[float]:
    """This rank's gradient of a step whose samples weigh differently, as the optimizer would get it."""
    feed = Feed(
        store, ColumnWeight(column="score", low=0.05, high=1.0), batch_tokens=8 * 32, seq_len=32, seed=3,
        rank=rank, world=world, accumulate=accumulate,
    )  # fmt: skip
    model = nn.Embedding(store.tokenizer.vocab, store.tokenizer.vocab)
    nn.init.normal_(model.weight, generator=torch.Generator().manual_seed(0))
    for _ in range(accumulate):
        batch = feed.next()
        feed.loss(model(batch.input_ids), batch).backward()
    feed.normalise(model.parameters())
    assert model.weight.grad is not None
    return model.weight.grad[:64].flatten().tolist()


def watch_both(store: TokenStore, rank: int, world: int) -> dict[str, Any]:
    dynamic = Chain(Odm(), RhoSelect(keep=0.7), LinUpper(burn_in=2))
    seen: dict[str, Any] = {"uniform": watch(store, rank, world, Uniform())[0]}
    seen["dynamic"], feed = watch(store, rank, world, dynamic)
    seen["excess"] = watch(store, rank, world, Chain(Doremi(), LossQuantile()))[0]
    seen["tokens"] = watch(store, rank, world, Chain(LinUpper(burn_in=2), Rho1()))[0]
    seen["gradients"] = [weighted_gradient(store, rank, world, accumulate) for accumulate in (1, 2)]
    feed.load_state_dict(json.loads(json.dumps(feed.state_dict())))
    seen["resumed"] = feed.next().samples.tolist()
    return seen


def run_rank(folder: str, rank: int, world: int, out: str, spec: TrainSpec | None) -> None:
    """What `watch_both` sees and the losses of a run; with `spec` only the losses of that run."""
    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(world), GLOO_SOCKET_IFNAME="lo")
    shared = dist.FileStore(str(Path(out) / "rendezvous"), world)
    dist.init_process_group("gloo", store=shared, rank=rank, world_size=world)
    store = TokenStore.open(folder)
    seen = watch_both(store, rank, world) if spec is None else {}
    seen["losses"] = train(spec or SPEC, store, {}).losses
    Path(out, f"rank-{rank}.json").write_text(json.dumps(seen))
    dist.destroy_process_group()
