"""One training run of the benchmark: the feed, a model, an optimiser and a clock, on a CPU or a GPU."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from bench.interaction.sizes import Scale
from torch import Tensor, nn

from tillage.core.errors import UserError
from tillage.train.evaluate import Target
from tillage.train.feed import Feed
from tillage.train.model import GPT
from tillage.train.optim import Optimizer
from tillage.train.policy import Policy, SignalSpec, as_chain
from tillage.train.precision import precision
from tillage.train.reference import reference_losses
from tillage.train.signals.ahead import ahead_scores
from tillage.train.signals.setting import Setting
from tillage.train.tokens import TokenStore

Forward = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Machine:
    """Where and how to compute."""

    device: str = "cpu"
    dtype: str = "fp32"

    def wait(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()


@dataclass
class Outcome:
    """What a run gave.

    Attributes:
        seconds: training with everything that the policy needed: references, scores, probes; no evaluation.
        ledger: its parts. found: what `evaluate` measured at the end.
    """

    steps: int
    tokens: int
    seconds: float
    ledger: dict[str, float]
    found: dict[str, float]
    mixture: dict[str, float] = field(default_factory=dict[str, float])

    def record(self) -> dict[str, Any]:
        short = {k: round(v, 4) for k, v in self.ledger.items()}
        return {
            "steps": self.steps, "tokens": self.tokens, "seconds": round(self.seconds, 3), "ledger": short,
            "found": {k: round(v, 5) for k, v in self.found.items()},
            "mixture": {k: round(v, 3) for k, v in self.mixture.items()},
        }  # fmt: skip


def run(
    scale: Scale,
    store: TokenStore,
    policy: Policy,
    evaluate: Callable[[Forward], dict[str, float]],
    machine: Machine,
    *,
    seed: int,
    fraction: float = 1.0,
    tokens: int | None = None,
    target: Target | None = None,
    cache: Path | None = None,
) -> Outcome:
    """Train from scratch to `fraction` of the budget, the learning rate decayed to zero there.

    Args:
        target: what a reference model or a gradient of the target is made of.
        cache: where reference models and losses are kept; what they took is counted all the same.
    """
    needs = as_chain(policy).requires()
    ledger: dict[str, float] = {}
    extra: dict[str, Any] = {}
    spec = scale.reference
    if needs.reference:
        text = None if needs.prior else target
        losses, _ = reference_losses(spec, text, store, scale.seq_len, machine.dtype, cache, machine.device)
        ledger["reference_training"] = losses.seconds
        extra.update(reference=losses, token_reference=losses.tokens)
    model = GPT(scale.model, store.tokenizer.vocab, scale.seq_len, seed).to(machine.device)
    extra.update(_signals(needs, scale, store, target, machine, cache, ledger))
    feed = Feed(
        store, policy, batch_tokens=scale.batch * scale.seq_len, seq_len=scale.seq_len, seed=seed,
        device=machine.device, max_visits=scale.visits, **extra,
    )  # fmt: skip
    optimizer = Optimizer(model, scale.optim)
    budget = tokens or round(fraction * scale.tokens)
    steps = max(budget // (scale.batch * scale.seq_len), 1)

    def forward(ids: Tensor) -> Tensor:
        with precision(machine.dtype, machine.device):
            return model(ids.to(machine.device))

    machine.wait()
    began = time.perf_counter()
    model.train()
    for step in range(steps):
        batch = feed.select(forward, feed.next())
        feed.loss(forward(batch.input_ids), batch).backward()
        nn.utils.clip_grad_norm_(model.parameters(), scale.optim.clip)
        optimizer.step(scale.optim.factor(step, steps))
    decided = feed.actions().mixture
    mixture = dict(zip(feed.groups.names, [] if decided is None else decided.tolist(), strict=False))
    machine.wait()
    seconds = time.perf_counter() - began
    inside = dict(feed.ledger)
    model.eval()
    found = evaluate(forward)
    return Outcome(
        steps, steps * scale.batch * scale.seq_len, seconds + sum(ledger.values()),
        {"training": seconds - sum(inside.values()), **inside, **ledger}, found, mixture,
    )  # fmt: skip


def _signals(
    needs: SignalSpec, scale: Scale, store: TokenStore, target: Target | None, machine: Machine,
    cache: Path | None, ledger: dict[str, float],
) -> dict[str, Any]:  # fmt: skip
    """Scores made ahead, for the policies that need them; what they took goes into the ledger."""
    scores: dict[str, Any] = {}
    for name in sorted(needs.ahead):
        if target is None:
            raise UserError("scores ahead of training need a target", got=name)
        setting = Setting(scale.reference, target, store, scale.seq_len, machine.dtype, machine.device)
        scores[name], took = ahead_scores(name, setting, cache)
        ledger["ahead_scoring"] = ledger.get("ahead_scoring", 0.0) + took
    return {"scores": scores}


def warm_up(machine: Machine) -> None:
    """Load what a first step loads, so that no run pays for it."""
    a = torch.ones(256, 256, device=machine.device, requires_grad=True)
    with precision(machine.dtype, machine.device):
        (a @ a).sum().backward()
    machine.wait()
