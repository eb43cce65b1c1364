"""One process of a run of `bench.interaction.scaling`, started by torchrun; the first writes what it saw."""

from __future__ import annotations

import json
import os
import signal
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench.interaction.data import load

from tillage.core.errors import WorkFailed
from tillage.core.events import EventLog
from tillage.train.feed import Feed
from tillage.train.hardware import wait_for
from tillage.train.history import History
from tillage.train.model import GPT
from tillage.train.parallel import pick_device, ranks
from tillage.train.policy import as_chain, parse_policy
from tillage.train.precision import pick_dtype
from tillage.train.reference import ReferenceLosses
from tillage.train.tokens import TokenStore
from tillage.train.trainer import Run, TrainSpec, train


@dataclass(frozen=True)
class Job:
    """What the processes of one run do; sent as JSON.

    Attributes:
        part: "train" trains `spec` whole, "speed" measures tokens a second plain and with each of `arms`.
        out: folder for what rank 0 writes. data: a folder of `bench.interaction.data`.
        die: rank 1 kills itself in this step, if any.
        cache: where references are kept between runs.
    """

    part: str
    out: str
    data: str
    spec: dict[str, Any]
    arms: dict[str, Any]
    cache: str
    die: int | None = None
    blocks: int = 3
    steps: int = 8


def main() -> None:
    job = Job(**json.loads(Path(sys.argv[1]).read_text()))
    spec = TrainSpec.load(job.spec, "scaling")
    bundle = load(Path(job.data), "domains")
    out = Path(job.out)
    if job.part == "speed":
        found = speed(job, spec, bundle.store)
        if ranks()[0] == 0:
            (out / "speed.json").write_text(json.dumps(found))
        return
    if job.die is not None and int(os.environ.get("RANK", "0")) == 1:
        die_at(job.die, out)
    targets = {"search": bundle.search["peps"]}
    began = time.perf_counter()
    try:
        result = train(spec, bundle.store, targets, workdir=out / "run", cache=Path(job.cache))
    except WorkFailed as error:
        print(f"rank {os.environ.get('RANK')}: {error}", flush=True)
        os._exit(2)
    if ranks()[0] == 0:
        table = result.trained
        np.savez(
            out / "trained.npz",
            **{name: table[name].to_numpy() for name in ("step", "sample", "loss", "weight")},
            mixture=np.asarray([list(m.values()) for m in result.mixture]),
            parameters=torch.cat([p.detach().float().flatten() for p in result.model.parameters()]).numpy(),
        )
        told = {"seconds": time.perf_counter() - began, "bpb": result.bpb, "ledger": result.ledger}
        (out / "result.json").write_text(json.dumps(told))


def die_at(step: int, out: Path) -> None:
    """This process kills itself between the forward and the backward pass of a step."""
    honest = Feed.reduce

    def reduce(feed: Feed, *args: Any) -> Any:
        if feed.step == step:
            (out / "died").write_text(str(time.time()))
            os.kill(os.getpid(), signal.SIGKILL)
        return honest(feed, *args)

    Feed.reduce = reduce


def speed(job: Job, spec: TrainSpec, store: TokenStore) -> list[dict[str, Any]]:
    """Tokens a second of all processes together: plain, then each arm between two blocks of the plain loop.

    The reference model is an untrained one, as only the time counts; what it says of the whole store is known
    before, as it is in every run after the first.
    """
    device = pick_device(spec.device)
    rank, world = ranks()
    dtype = pick_dtype(spec.dtype, device.type)
    small = GPT(spec.reference.model, store.tokenizer.vocab, spec.seq_len, 1).to(device).eval()

    references = ReferenceLosses(small, store, spec.seq_len, dtype, 0.0, device.type)
    references.every()

    def feed(policy: Any) -> Feed:
        chain = as_chain(parse_policy(policy))
        extra: dict[str, Any] = {"reference": references} if chain.requires().reference else {}
        return Feed(
            store, chain, batch_tokens=spec.batch * spec.seq_len, seq_len=spec.seq_len, rank=rank,
            world=world, device=device, **extra,
        )  # fmt: skip

    plain = feed("proportional")
    model = GPT(spec.model, store.tokenizer.vocab, spec.seq_len).to(device)
    run = Run(spec, plain, model, History(plain.groups.names), dtype, device, world, {}, EventLog())
    count = model.parameter_count()

    def block(of: Feed, steps: int) -> float:
        run.feed = of
        wait_for(device)
        began = time.perf_counter()
        for _ in range(steps):
            run.gradients()
            run.optimizer.step(1.0)
            assert of.trained is not None
        wait_for(device)
        return (time.perf_counter() - began) / steps

    def row(arm: str, seconds: list[float], ratios: list[float], ledger: dict[str, float]) -> dict[str, Any]:
        rate = spec.batch * spec.seq_len / statistics.median(seconds)
        return {
            "arm": arm, "world": world, "kind": spec.parallel, "parameters": count,
            "batch_tokens": spec.batch * spec.seq_len, "seq_len": spec.seq_len,
            "tokens_per_second": round(rate, 1),
            "mfu": None if run.share_of_peak is None else round(rate * run.share_of_peak, 4),
            "overheads": [round(r - 1, 4) for r in ratios],
            "ledger_s_per_step": {k: round(v / (job.blocks * job.steps), 5) for k, v in ledger.items()},
        }  # fmt: skip

    model.train()
    block(plain, 3)
    rows = [row("plain", [block(plain, job.steps) for _ in range(job.blocks)], [], {})]
    for arm, policy in job.arms.items():
        mine, seconds, ratios = feed(policy), [], []
        block(mine, 3)
        mine.ledger.clear()
        for _ in range(job.blocks):
            before = block(plain, job.steps)
            seconds.append(block(mine, job.steps))
            ratios.append(seconds[-1] / statistics.mean((before, block(plain, job.steps))))
        rows.append(row(arm, seconds, ratios, dict(mine.ledger)))
    if rank == 0 and device.type == "cuda":
        rows[0]["peak_gb"] = round(torch.cuda.max_memory_allocated() / 1e9, 2)
    return rows


if __name__ == "__main__":
    main()
