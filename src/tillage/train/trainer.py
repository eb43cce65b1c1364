"""Train a model on a token store by a data policy: one spec in, one result out, resumable bit for bit."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from tillage.core.errors import UserError, WorkFailed, nearest
from tillage.core.events import Evaluated, EventLog, LossSpike, Note, Overhead, TrainStep
from tillage.core.workspace import check_writable
from tillage.train.auto import resolve
from tillage.train.batch import Batch
from tillage.train.causal import CausalModel
from tillage.train.checkpoint import Checkpoints, read_checkpoint
from tillage.train.evaluate import Target, bits_per_byte
from tillage.train.feed import Feed
from tillage.train.hardware import peak_flops, wait_for
from tillage.train.history import History
from tillage.train.model import GPT, ModelSpec
from tillage.train.models import build_model, load_model
from tillage.train.optim import Optimizer
from tillage.train.parallel import (
    gradients_meet,
    load_whole_model,
    pick_device,
    ranks,
    spread,
    together,
    whole_model,
)
from tillage.train.policy import Auto, as_chain, dump_policy, parse_policy
from tillage.train.precision import pick_dtype, precision
from tillage.train.probes import gradient_probe, losses_of
from tillage.train.reference import ReferenceLosses, reference_losses
from tillage.train.result import TrainResult, save_result
from tillage.train.scorer import Scorer
from tillage.train.signals.ahead import ahead_scores
from tillage.train.signals.gradients import GradientProbe
from tillage.train.signals.setting import Setting
from tillage.train.spec import TrainSpec
from tillage.train.spikes import SpikeWatch
from tillage.train.tokens import Floats, TokenStore

__all__ = ["TrainResult", "TrainSpec", "load_model", "train"]


def train(
    spec: TrainSpec,
    store: TokenStore,
    targets: dict[str, Target],
    log: EventLog | None = None,
    workdir: Path | None = None,
    *,
    cache: Path | None = None,
    start: Path | None = None,
    forever: Collection[int] = (),
    measure: Collection[str] | None = None,
) -> TrainResult:
    """Train from scratch, or go on from the newest checkpoint in `workdir`.

    Under `torchrun` each process trains its part of every batch; rank 0 writes and emits.

    Args:
        targets: what to measure; the reference model of a policy is trained on `spec.reference.target` of
            these.
        cache: folder where reference models and losses are kept between runs; `workdir` by default.
        start: a checkpoint of a run that differs from this one in its budget only, to begin with when
            `workdir` holds none.
        forever: steps whose checkpoints are written and never removed.
        measure: names of the targets to measure; all by default.

    Raises:
        UserError: settings that do not fit the store, or a checkpoint of another run.
        WorkFailed: the loss is not finite, the policy misbehaved, or another process died.
    """
    torch.set_num_threads(spec.threads)
    device = pick_device(spec.device)
    rank, world = ranks()
    log = log if log is not None and rank == 0 else EventLog()
    if workdir is not None:
        check_writable(workdir)
    if spec.spikes is not None and spec.spikes.action == "rewind" and not (spec.checkpoint_every and workdir):
        raise UserError(
            "rewinding needs checkpoints", where="spikes.action", got="rewind",
            hint="set checkpoint_every, and give a work folder",
        )  # fmt: skip
    dtype = pick_dtype(spec.dtype, device.type)
    store = store.packed(spec.packing)
    spans = store.packing != "stream" if spec.document_mask is None else spec.document_mask
    if spec.passes is not None and (spec.passes % world or spec.batch % (spec.passes * spec.accumulate)):
        raise UserError(
            "the passes do not divide", where="passes", got=f"{spec.passes} passes, {world} processes",
            expected=f"a multiple of the processes, and a divisor of the {spec.batch} samples of a step",
        )  # fmt: skip
    where = f"arm {spec.arm}, seed {spec.seed}"
    with together(where, world):
        spec, choosing = _resolved(spec, store, targets, log)
        reference, values = _reference(spec, store, targets, dtype, cache or workdir, device)
        scores, ahead = _scores(spec, store, targets, dtype, cache or workdir, device)
        model = build_model(spec.model, store.tokenizer.vocab, spec.seq_len, spec.seed).to(device)

        def wrapped(ids: Tensor, goals: Tensor, spans: Tensor | None) -> Tensor:
            with precision(dtype, device.type):
                return run.net(ids, goals, spans)

        needs = as_chain(spec.policy).requires()
        rates: dict[str, float] = {}
        if needs.reference or needs.scorer:  # a model is built only to count its products
            small = GPT(spec.reference.model, store.tokenizer.vocab, spec.seq_len).flops_per_token()
            rates = dict.fromkeys(("reference", "scorer"), small / model.flops_per_token())
        scorer, measuring = None, (model, losses_of(model, dtype, device), wrapped)
        if needs.scorer:
            scorer = Scorer(spec.reference, store.tokenizer.vocab, spec.seq_len, dtype, device, world)
            measuring = scorer.model, scorer.losses, scorer.losses
        gradients = gradient_probe(
            spec.gradients, needs, *measuring, targets, spec.seq_len,
            rank=rank, world=world, device=device, spans=spans,
            sharded=spec.parallel == "fsdp" and world > 1 and scorer is None,
        )  # fmt: skip
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
            device=device,
            spans=spans,
            max_visits=spec.max_visits,
            reference=reference,
            token_reference=None if reference is None else reference.tokens,
            scores=scores,
            gradients=gradients,
            scorer=scorer,
            rates=rates,
        )
        measured = {k: v for k, v in targets.items() if measure is None or k in measure}
        history = History(feed.groups.names)
        run = Run(spec, feed, model, history, dtype, device, world, measured, log, gradients, scorer)
        if reference is not None:
            feed.ledger["reference_training"] = reference.seconds
            feed.forwards["reference_training"] = (
                3.0 * rates["reference"] * spec.reference.tokens / spec.seq_len
            )
        if scores or choosing:
            feed.ledger["ahead_scoring"] = ahead + choosing
        checkpoints = (
            Checkpoints(workdir / "checkpoints", spec.keep_checkpoints, forever)
            if workdir is not None
            else None
        )
        run.resume(checkpoints, start)
        run.loop(checkpoints, rank)
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
                forwards={k: round(v, 1) for k, v in result.forwards.items()},
                users=result.users,
            )
        )
    return result


def _resolved(
    spec: TrainSpec, store: TokenStore, targets: dict[str, Target], log: EventLog
) -> tuple[TrainSpec, float]:
    """The spec with what `auto` stands for, told in the log, and the seconds that it took to find out.

    The first process decides, as with scores.
    """
    if not isinstance(spec.policy, Auto):
        return spec, 0.0
    began = time.perf_counter()
    rank, world = ranks()
    made: list[Any] = [None]
    if rank == 0:
        target = targets.get(spec.reference.target)
        found = resolve(spec.policy, store, target, spec.seq_len, spec.tokens)
        log.emit(Note(str(found)))
        made[0] = dump_policy(found.policy)
    if world > 1:
        dist.broadcast_object_list(made, 0)
    return spec.model_copy(update={"policy": parse_policy(made[0])}), time.perf_counter() - began


def _target(spec: TrainSpec, targets: dict[str, Target]) -> Target:
    name = spec.reference.target
    if name not in targets:
        raise UserError(
            f"the policy needs a reference model, and there is no target {name!r} to train it on",
            where="reference.target", hint=nearest(name, targets),
        )  # fmt: skip
    return targets[name]


def _scores(
    spec: TrainSpec,
    store: TokenStore,
    targets: dict[str, Target],
    dtype: str,
    cache: Path | None,
    device: torch.device,
) -> tuple[dict[str, Floats], float]:
    """Scores made ahead that the policy needs, by name, and the seconds that they took.

    The first process makes them and the others get its values: made on each, they could differ by rounding,
    and processes that rank samples differently no longer agree about the next batch.
    """
    scores: dict[str, Floats] = {}
    seconds = 0.0
    rank, world = ranks()
    for name in sorted(as_chain(spec.policy).requires().ahead):
        setting = Setting(spec.reference, _target(spec, targets), store, spec.seq_len, dtype, device.type)
        made: list[Any] = [None]
        if rank == 0:
            made[0] = ahead_scores(name, setting, cache)
        if world > 1:
            dist.broadcast_object_list(made, 0)
        scores[name], took = made[0]
        seconds += took
    return scores, seconds


def _reference(
    spec: TrainSpec,
    store: TokenStore,
    targets: dict[str, Target],
    dtype: str,
    cache: Path | None,
    device: torch.device,
) -> tuple[ReferenceLosses | None, Path | None]:
    needs = as_chain(spec.policy).requires()
    if not needs.reference:
        return None, None
    target = None if needs.prior else _target(spec, targets)
    return reference_losses(spec.reference, target, store, spec.seq_len, dtype, cache, device.type)


@dataclass
class Run:
    """The state of a run between steps."""

    spec: TrainSpec
    feed: Feed
    model: CausalModel
    history: History
    dtype: str
    device: torch.device
    world: int
    targets: dict[str, Target]
    log: EventLog
    probe: GradientProbe | None = None
    scorer: Scorer | None = None
    seconds: float = 0.0
    evaluation: float = 0.0

    def __post_init__(self) -> None:
        spec = self.spec
        if spec.recompute:
            self.model.recomputes()
        blocks = self.model.layers()
        if spec.compile and spec.parallel == "fsdp" and self.world > 1:
            for block in blocks:
                block.compile()
        elif spec.compile:
            self.model.compile()
        self.net: nn.Module = spread(self.model, blocks, spec.parallel, self.world)
        self.optimizer = Optimizer(self.model, spec.optim)
        self.watch = SpikeWatch(spec.spikes) if spec.spikes is not None else None
        peak = spec.peak_tflops * 1e12 if spec.peak_tflops else peak_flops(self.device, self.dtype)
        # What the weights began as: a checkpoint of LoRA does not hold them.
        self.origin = {} if isinstance(spec.model, ModelSpec) else {"model": spec.model.content()}
        self.share_of_peak = None if peak is None else self.model.flops_per_token() / (peak * self.world)

    def forward(self, ids: Tensor) -> Tensor:
        """Logits of token ids, wherever these are."""
        with precision(self.dtype, self.device.type):
            return self.net(ids.to(self.device))

    def losses(self, batch: Batch) -> Tensor:
        """Losses of a batch's tokens in nats, `[b, seq_len]`."""
        return torch.cat(self.parts(batch))

    def parts(self, batch: Batch) -> list[Tensor]:
        """The same by forward pass: this process's share of the `passes` of the global micro-batch."""
        mine = max((self.spec.passes or 1) // self.world, 1)
        first, total, count = self.feed.rank * mine, mine * self.world, len(batch.world_samples)
        cuts = [(first + i) * count // total - first * count // total for i in range(mine + 1)]
        found: list[Tensor] = []
        for low, high in pairwise(cuts):
            spans = None if batch.spans is None else batch.spans[low:high]
            # A region of autocast each: within one, gradients of a weight would be added in bf16.
            with precision(self.dtype, self.device.type):
                found.append(self.net(batch.input_ids[low:high], batch.targets[low:high], spans))
        return found

    def loop(self, checkpoints: Checkpoints | None, rank: int) -> None:
        spec, steps = self.spec, self.spec.steps()
        self.model.train()
        wait_for(self.device)
        began = time.perf_counter()
        while self.feed.step < steps:
            step = self.feed.step
            factor = spec.optim.factor(step, steps)
            norm = self.gradients()
            trained = self.feed.trained
            assert trained is not None
            loss = float(trained.losses.mean())
            if self.watch is not None and self.watch.spike(loss, float(norm)):
                self._spike(step, loss, checkpoints)
            else:
                self.optimizer.step(factor)
            self.history.add(trained)
            ended = time.perf_counter()
            took, began = ended - began, ended
            self.seconds += took
            self._report(step, steps, loss, factor * spec.optim.lr, took)
            due = spec.checkpoint_every and (step + 1) % spec.checkpoint_every == 0
            if checkpoints is not None and (due or step + 1 in checkpoints.forever):
                self.save(checkpoints, rank)
                began = time.perf_counter()
            if spec.eval_every and (step + 1) % spec.eval_every == 0 and step + 1 < steps:
                self.evaluate(step + 1)
                began = time.perf_counter()
        wait_for(self.device)
        self.seconds += time.perf_counter() - began
        self.model.eval()

    def gradients(self) -> Tensor:
        """Gradients of one step; their norm before clipping."""
        for micro in range(self.spec.accumulate):
            batch = self.feed.select(self.forward, self.feed.next(), self.losses)
            with gradients_meet(self.net, micro == self.spec.accumulate - 1):
                self.backward(batch)
        self.feed.normalise(self.model.parameters())
        return nn.utils.clip_grad_norm_(self.model.parameters(), self.spec.optim.clip)

    def backward(self, batch: Batch) -> None:
        """Gradients of one micro-batch."""
        parts = self.parts(batch)
        if len(parts) == 1:
            self.feed.reduce(parts[0], batch).backward()
            return
        # What the loss asks of each token's loss first; then each pass by itself, as processes would do it.
        leaf = torch.cat([part.detach() for part in parts]).requires_grad_()
        self.feed.reduce(leaf, batch).backward()
        assert leaf.grad is not None
        asked = leaf.grad.split([len(part) for part in parts])
        if self.world == 1:
            for part, grad in zip(parts, asked, strict=True):
                part.backward(grad)
        else:  # these wrappers expect one backward pass
            torch.autograd.backward(parts, asked)

    def _spike(self, step: int, loss: float, checkpoints: Checkpoints | None) -> None:
        """Do what the guard says instead of an update."""
        assert self.watch is not None and self.spec.spikes is not None
        self.optimizer.clear()
        guard, back = self.spec.spikes, None
        limit = self.watch.limit()
        newest = checkpoints.newest() if checkpoints is not None else None
        if guard.action == "rewind" and newest is not None:
            state = read_checkpoint(newest)
            load_whole_model(self.model, state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            back = int(state["feed"]["step"])
        self.log.emit(LossSpike(self.spec.arm, self.spec.seed, step + 1, loss, limit, guard.action, back))
        if self.watch.count > guard.most:
            raise WorkFailed(
                "the loss spikes again and again", where=f"step {step + 1}", got=f"{self.watch.count} spikes",
                expected=f"at most {guard.most}", hint="lower the learning rate, or look at this data",
            )  # fmt: skip

    def _report(self, step: int, steps: int, loss: float, lr: float, took: float) -> None:
        spec, last = self.spec, step + 1 == steps
        done, trained = step + 1, self.feed.trained
        if trained is None or not (step % spec.log_every == 0 or last):
            return
        speed = spec.batch * spec.seq_len / took
        self.log.emit(
            TrainStep(
                arm=spec.arm,
                seed=spec.seed,
                step=done,
                tokens=done * spec.batch * spec.seq_len,
                loss=round(loss, 6),
                lr=lr,
                mixture={k: round(v, 5) for k, v in self.history.mixture(-1).items()},
                kept=round(trained.keep, 4),
                weight_max=round(float(trained.weights.max()), 4),
                tokens_per_second=round(speed, 1),
                mfu=None if self.share_of_peak is None else round(speed * self.share_of_peak, 4),
            )
        )

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
        return {
            "spec": self.spec.fingerprint(),
            "trunk": self.spec.trunk(),
            "store": self.feed.store.fingerprint,
            "dtype": self.dtype,
            **self.origin,
        }

    def save(self, checkpoints: Checkpoints, rank: int) -> None:
        """Write all that `resume` needs, atomically; every process takes part, rank 0 writes."""
        state = {
            "identity": self.identity(),
            "model": whole_model(self.model),
            "optimizer": self.optimizer.state_dict(),
            "feed": self.feed.state_dict(),
            "gradients": None if self.probe is None else self.probe.state_dict(),
            "scorer": None if self.scorer is None else self.scorer.state_dict(),
            "ledger": dict(self.feed.ledger),
            "forwards": dict(self.feed.forwards),
            "history": self.history.state_dict(),
            "spikes": self.watch.state_dict() if self.watch is not None else None,
            "seconds": self.seconds,
            "evaluation": self.evaluation,
        }
        if rank == 0:
            checkpoints.save(self.feed.step, state)

    def resume(self, checkpoints: Checkpoints | None, start: Path | None) -> None:
        """Go on from the newest checkpoint, else from `start`; `UserError` if another run made it."""
        newest = checkpoints.newest() if checkpoints is not None else None
        path = newest or start
        if path is None:
            return
        state = read_checkpoint(path)
        saved, mine = dict(state["identity"]), self.identity()
        if newest is None:
            saved["spec"] = mine["spec"]  # a branch: the same run up to here
        grown = self.spec.adopt and saved["store"] != mine["store"]
        if grown:
            saved["store"] = mine["store"]  # the feed says whether it is a grown version
        if saved != mine:
            raise UserError(
                "the checkpoint belongs to another run", where=path, got=saved, expected=mine,
                hint="use another work folder",
            )  # fmt: skip
        load_whole_model(self.model, state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.feed.load_state_dict(state["feed"], self.spec.adopt)
        if self.probe is not None:
            self.probe.load_state_dict(state["gradients"])
        if self.scorer is not None:
            self.scorer.load_state_dict(state["scorer"])
        self.feed.ledger.update(state["ledger"])
        self.feed.forwards.update(state["forwards"])
        self.history.load_state_dict(state["history"])
        if grown:
            self.history.begin(self.feed.step)
            new = self.feed.adopted[-1]
            self.log.emit(
                Note(
                    f"from step {new['step']} on: version {new['version']} of the data, {new['fingerprint']}"
                )
            )
        if self.watch is not None and state["spikes"] is not None:
            self.watch.load_state_dict(state["spikes"])
        self.seconds, self.evaluation = state["seconds"], state["evaluation"]

    def result(self, store: TokenStore) -> TrainResult:
        spec, steps = self.spec, self.spec.steps()
        bpb = self.evaluate(steps)
        self.model.eval()
        ledger = dict(self.feed.ledger)
        # Training the reference happens before the loop; all other overhead within it.
        before = {"reference_training", "ahead_scoring"}
        inside = sum(v for k, v in ledger.items() if k not in before)
        total = self.seconds + sum(ledger.get(k, 0.0) for k in before)
        trained = self.history.table()
        # The weights leave the device, and the other processes of a sharded model.
        weights = whole_model(self.model)
        final = build_model(spec.model, store.tokenizer.vocab, spec.seq_len, spec.seed)
        if weights:
            load_whole_model(final, weights)
        tokens = steps * spec.batch * spec.seq_len
        return TrainResult(
            arm=spec.arm,
            seed=spec.seed,
            bpb=bpb,
            steps=steps,
            tokens=tokens,
            seconds=total,
            ledger={"training": self.seconds - inside, **ledger, "evaluation": self.evaluation},
            mixture=[self.history.mixture(step) for step in range(steps)],
            losses=self.history.losses(),
            domain_losses=self.history.domain_losses(),
            trained=trained,
            documents=self.history.documents(store, spec.seq_len),
            model=final.eval(),
            dtype=self.dtype,
            mfu=None if self.share_of_peak is None else self.share_of_peak * tokens / self.seconds,
            forwards={"training": 3.0 * steps * spec.batch, **self.feed.forwards},
            users={key: names for key in sorted(ledger) if (names := self._users(key))},
        )

    def _users(self, key: str) -> list[str]:
        """Policies that a cost was declared by."""
        return [p.name for p in self.feed.policy.parts if key in p.requires().costs()]
