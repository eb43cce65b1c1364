"""Train a model on a token store by a data policy: one spec in, one result out, resumable bit for bit."""

from __future__ import annotations

import atexit
import json
import os
import time
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import torch.distributed as dist
from pydantic import Field
from torch import Tensor, nn

from tillage.core.errors import UserError, nearest
from tillage.core.events import Evaluated, EventLog, Overhead, TrainStep
from tillage.core.spec import Spec, fingerprint
from tillage.core.workspace import check_writable, write_atomic
from tillage.train.evaluate import Target, bits_per_byte
from tillage.train.feed import Feed
from tillage.train.history import History
from tillage.train.model import GPT, ModelSpec
from tillage.train.optim import Optimizer, OptimSpec
from tillage.train.policies import Proportional
from tillage.train.policy import AnyPolicy, as_chain
from tillage.train.precision import pick_dtype, precision
from tillage.train.reference import ReferenceLosses, ReferenceSpec, atomic_file, reference_losses
from tillage.train.tokens import TokenStore


class TrainSpec(Spec):
    """All that decides what a training run does. The budget counts tokens trained on, not candidates."""

    not_in_fingerprint: ClassVar[frozenset[str]] = frozenset(
        {"arm", "threads", "eval_every", "log_every", "checkpoint_every"}
    )

    arm: str = "train"
    """Name of the run in events and tables."""
    model: ModelSpec = ModelSpec()
    seq_len: int = Field(default=256, ge=8)
    batch: int = Field(default=4, ge=1)
    """Samples in an optimiser step, over all ranks and micro-batches."""
    accumulate: int = Field(default=1, ge=1)
    tokens: int = Field(default=200_000, ge=1)
    optim: OptimSpec = OptimSpec()
    seed: int = Field(default=0, ge=0)
    policy: AnyPolicy = Proportional()
    prefetch: int = Field(default=1, ge=0)
    reference: ReferenceSpec = ReferenceSpec()
    dtype: Literal["auto", "bf16", "fp32"] = "auto"
    threads: int = Field(default=1, ge=1)
    eval_every: int = Field(default=0, ge=0)
    """Steps between evaluations; 0: only at the end."""
    log_every: int = Field(default=5, ge=1)
    checkpoint_every: int = Field(default=0, ge=0)
    """Steps between checkpoints (in the work folder); 0: none."""

    def steps(self) -> int:
        """Optimiser steps that the budget allows, at least one."""
        return max(self.tokens // (self.batch * self.seq_len), 1)


@dataclass
class TrainResult:
    """What a run measured.

    Attributes:
        bpb: bits per byte by target, after the last step.
        seconds: training and overhead; without evaluation.
        ledger: seconds by purpose: "training", the costs that the policy declared, "evaluation".
        mixture: probability of each domain in force at each step.
        losses: mean training loss of each step before the update, nats a token.
        domain_losses: per step, mean loss by domain over the samples trained on; absent where none was.
        trained: one row for each sample trained on: step, sample, group, loss, weight.
        documents: one row for each document touched: id, domain, visits, tokens, mean weight, mean loss.
    """

    arm: str
    seed: int
    bpb: dict[str, float]
    steps: int
    tokens: int
    seconds: float
    ledger: dict[str, float]
    mixture: list[dict[str, float]]
    losses: list[float]
    domain_losses: list[dict[str, float]]
    trained: pa.Table = field(repr=False)
    documents: pa.Table = field(repr=False)
    model: GPT = field(repr=False)
    dtype: str = "fp32"

    @property
    def overhead_share(self) -> float:
        """Part of `seconds` that went into signals and scoring."""
        spent = sum(v for k, v in self.ledger.items() if k not in ("training", "evaluation"))
        return spent / self.seconds if self.seconds else 0.0


def train(
    spec: TrainSpec,
    store: TokenStore,
    targets: dict[str, Target],
    log: EventLog | None = None,
    workdir: Path | None = None,
    *,
    cache: Path | None = None,
) -> TrainResult:
    """Train from scratch, or go on from the checkpoint in `workdir`.

    Under `torchrun` each process trains its part of every batch (gloo); rank 0 writes and emits.

    Args:
        targets: what to measure; the reference model of a policy is trained on `spec.reference.target` of
        these. cache: folder where reference models and losses are kept between runs; `workdir` by default.

    Raises:
        UserError: settings that do not fit the store, or a checkpoint of another run.
        WorkFailed: the loss is not finite, or the policy misbehaved.
    """
    torch.set_num_threads(spec.threads)
    rank, world = _ranks()
    log = log if log is not None and rank == 0 else EventLog()
    if workdir is not None:
        check_writable(workdir)
    dtype = pick_dtype(spec.dtype)
    reference, values = _reference(spec, store, targets, dtype, cache or workdir)
    feed = Feed(
        store,
        spec.policy,
        batch_tokens=spec.batch * spec.seq_len,
        seq_len=spec.seq_len,
        seed=spec.seed,
        rank=rank,
        world=world,
        accumulate=spec.accumulate,
        prefetch=spec.prefetch,
        reference=reference,
        token_reference=None if reference is None else reference.tokens,
    )
    model = GPT(spec.model, store.tokenizer.vocab, spec.seq_len, spec.seed)
    run = _Run(spec, feed, model, History(feed.groups.names), dtype, targets, log)
    if reference is not None:
        feed.ledger["reference_training"] = reference.seconds
    checkpoint = workdir / "checkpoint.pt" if workdir is not None else None
    run.resume(checkpoint)
    run.loop(checkpoint if spec.checkpoint_every and rank == 0 else None, world)
    result = run.result(store)
    if rank == 0:
        if reference is not None and values is not None:
            reference.save(values)
        if workdir is not None:
            save_result(result, spec, workdir)
        log.emit(
            Overhead(
                arm=spec.arm,
                seed=spec.seed,
                seconds={k: round(v, 4) for k, v in result.ledger.items()},
                share=round(result.overhead_share, 4),
            )
        )
    return result


def _ranks() -> tuple[int, int]:
    """Rank and world from the environment that `torchrun` sets."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world > 1 and not dist.is_initialized():
        dist.init_process_group("gloo")
        atexit.register(dist.destroy_process_group)
    return (dist.get_rank(), dist.get_world_size()) if world > 1 else (0, 1)


def _reference(
    spec: TrainSpec, store: TokenStore, targets: dict[str, Target], dtype: str, cache: Path | None
) -> tuple[ReferenceLosses | None, Path | None]:
    needs = as_chain(spec.policy).requires()
    if not needs.reference:
        return None, None
    if needs.prior:
        return reference_losses(spec.reference, None, store, spec.seq_len, dtype, cache)
    name = spec.reference.target
    if name not in targets:
        raise UserError(
            f"the policy needs a reference model, and there is no target {name!r} to train it on",
            where="reference.target", hint=nearest(name, targets),
        )  # fmt: skip
    return reference_losses(spec.reference, targets[name], store, spec.seq_len, dtype, cache)


@dataclass
class _Run:
    """The state of a run between steps."""

    spec: TrainSpec
    feed: Feed
    model: GPT
    history: History
    dtype: str
    targets: dict[str, Target]
    log: EventLog
    seconds: float = 0.0
    evaluation: float = 0.0

    def __post_init__(self) -> None:
        self.optimizer = Optimizer(self.model, self.spec.optim)

    def forward(self, ids: Tensor) -> Tensor:
        with precision(self.dtype):
            return self.model(ids)

    def loop(self, checkpoint: Path | None, world: int) -> None:
        spec, steps = self.spec, self.spec.steps()
        net: nn.Module = nn.parallel.DistributedDataParallel(self.model) if world > 1 else self.model
        self.model.train()
        while self.feed.step < steps:
            step = self.feed.step
            began = time.perf_counter()
            factor = spec.optim.factor(step, steps)
            self._step(net, factor)
            took = time.perf_counter() - began
            self.seconds += took
            self.history.add(self.feed.trained)
            self._report(step, steps, factor * spec.optim.lr, took)
            if checkpoint is not None and (step + 1) % spec.checkpoint_every == 0:
                self.save(checkpoint)
        self.model.eval()

    def _step(self, net: nn.Module, factor: float) -> None:
        for micro in range(self.spec.accumulate):
            batch = self.feed.select(self.forward, self.feed.next())
            last = micro == self.spec.accumulate - 1
            # Gradients meet once a step, after the last micro-batch.
            held = isinstance(net, nn.parallel.DistributedDataParallel) and not last
            with net.no_sync() if held else nullcontext():  # pyright: ignore
                with precision(self.dtype):
                    logits = net(batch.input_ids)
                self.feed.loss(logits, batch).backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.spec.optim.clip)
        self.optimizer.step(factor)

    def _report(self, step: int, steps: int, lr: float, took: float) -> None:
        spec, last = self.spec, step + 1 == steps
        done, trained = step + 1, self.feed.trained
        if trained is not None and (step % spec.log_every == 0 or last):
            self.log.emit(
                TrainStep(
                    arm=spec.arm,
                    seed=spec.seed,
                    step=done,
                    tokens=done * spec.batch * spec.seq_len,
                    loss=round(float(trained.losses.mean()), 6),
                    lr=lr,
                    mixture={k: round(v, 5) for k, v in self.history.mixture(-1).items()},
                    kept=round(trained.keep, 4),
                    weight_max=round(float(trained.weights.max()), 4),
                    tokens_per_second=round(spec.batch * spec.seq_len / took, 1),
                )
            )
        if spec.eval_every and done % spec.eval_every == 0 and not last:
            self.evaluate(done)

    def evaluate(self, step: int) -> dict[str, float]:
        """Bits per byte on every target; the time is not training time."""
        began = time.perf_counter()
        self.model.eval()
        found: dict[str, float] = {}
        for name, target in self.targets.items():
            start = time.perf_counter()
            found[name] = bits_per_byte(self.forward, target, self.spec.seq_len)
            spent = time.perf_counter() - start
            self.log.emit(Evaluated(self.spec.arm, self.spec.seed, step, name, found[name], round(spent, 4)))
        self.model.train()
        self.evaluation += time.perf_counter() - began
        return found

    def identity(self) -> dict[str, Any]:
        return {"spec": self.spec.fingerprint(), "store": self.feed.store.fingerprint, "dtype": self.dtype}

    def save(self, path: Path) -> None:
        """Write all that `resume` needs, atomically."""
        state = {
            "identity": self.identity(),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "feed": self.feed.state_dict(),
            "ledger": dict(self.feed.ledger),
            "history": self.history.state_dict(),
            "seconds": self.seconds,
            "evaluation": self.evaluation,
        }
        with atomic_file(path) as out:
            torch.save(state, out)

    def resume(self, path: Path | None) -> None:
        """Go on from a checkpoint if there is one; `UserError` if another run made it."""
        if path is None or not path.exists():
            return
        try:
            state = torch.load(path, weights_only=True)
        except Exception as error:  # torch raises many kinds for a damaged file
            raise UserError("the checkpoint cannot be read", where=path, got=str(error)[:200]) from error
        if state["identity"] != self.identity():
            raise UserError(
                "the checkpoint belongs to another run", where=path, got=state["identity"],
                expected=self.identity(), hint="use another work folder",
            )  # fmt: skip
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.feed.load_state_dict(state["feed"])
        self.feed.ledger.update(state["ledger"])
        self.history.load_state_dict(state["history"])
        self.seconds, self.evaluation = state["seconds"], state["evaluation"]

    def result(self, store: TokenStore) -> TrainResult:
        spec, steps = self.spec, self.spec.steps()
        bpb = self.evaluate(steps)
        self.model.eval()
        ledger = dict(self.feed.ledger)
        # Training the reference happens before the loop; all other overhead within it.
        inside = sum(v for k, v in ledger.items() if k != "reference_training")
        total = self.seconds + ledger.get("reference_training", 0.0)
        trained = self.history.table()
        return TrainResult(
            arm=spec.arm,
            seed=spec.seed,
            bpb=bpb,
            steps=steps,
            tokens=steps * spec.batch * spec.seq_len,
            seconds=total,
            ledger={"training": self.seconds - inside, **ledger, "evaluation": self.evaluation},
            mixture=[self.history.mixture(step) for step in range(steps)],
            losses=self.history.losses(),
            domain_losses=self.history.domain_losses(),
            trained=trained,
            documents=self.history.documents(store, spec.seq_len),
            model=self.model,
            dtype=self.dtype,
        )


def save_result(result: TrainResult, spec: TrainSpec, folder: Path) -> None:
    """Write `model.pt`, `trained.parquet`, `documents.parquet` and `result.json`."""
    pq.write_table(result.trained, folder / "trained.parquet", compression="zstd")
    pq.write_table(result.documents, folder / "documents.parquet", compression="zstd")
    with atomic_file(folder / "model.pt") as out:
        torch.save(
            {
                "spec": result.model.spec.model_dump(mode="json"),
                "vocab": result.model.vocab,
                "seq_len": result.model.seq_len,
                "model": result.model.state_dict(),
            },
            out,
        )
    summary = {
        "spec": spec.model_dump(mode="json"),
        "fingerprint": fingerprint(spec.canonical()),
        **{
            k: getattr(result, k)
            for k in ("arm", "seed", "bpb", "steps", "tokens", "seconds", "ledger", "dtype")
        },
        "mixture": result.mixture,
        "losses": np.round(result.losses, 6).tolist(),
        "domain_losses": result.domain_losses,
    }
    write_atomic(folder / "result.json", json.dumps(summary, ensure_ascii=False) + "\n")


def load_model(path: Path) -> GPT:
    """The model that `save_result` wrote, ready to evaluate."""
    saved = torch.load(path, weights_only=True)
    model = GPT(ModelSpec.load(saved["spec"], str(path)), saved["vocab"], saved["seq_len"])
    model.load_state_dict(saved["model"])
    return model.eval()
