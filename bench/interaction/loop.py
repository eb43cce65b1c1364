"""One run of the benchmark: the project's own trainer as a user runs it, and what is measured after."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench.interaction.sizes import Scale
from torch import Tensor

from tillage.core.events import EventLog, Note
from tillage.train.evaluate import Target
from tillage.train.policy import Auto, Policy, as_chain
from tillage.train.precision import precision
from tillage.train.result import TrainResult
from tillage.train.tokens import TokenStore
from tillage.train.trainer import TrainSpec, train

Forward = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Machine:
    """Where and how to compute."""

    device: str = "cpu"
    dtype: str = "fp32"
    threads: int = 1


@dataclass
class Outcome:
    """What a run gave.

    Attributes:
        seconds: training with everything that the policy needed: references, scores, probes; no evaluation.
        ledger: its parts. found: what `evaluate` measured at the end. notes: what `auto` stood for.
        mixture: mean share of each domain over the run. repeats: mean visits of the samples trained on.
    """

    steps: int
    tokens: int
    seconds: float
    ledger: dict[str, float]
    found: dict[str, float]
    mixture: dict[str, float] = field(default_factory=dict[str, float])
    repeats: float = 1.0
    notes: list[str] = field(default_factory=list[str])

    def record(self) -> dict[str, Any]:
        short = {k: round(v, 4) for k, v in self.ledger.items()}
        return {
            "steps": self.steps, "tokens": self.tokens, "seconds": round(self.seconds, 3), "ledger": short,
            "found": {k: round(v, 5) for k, v in self.found.items()},
            "mixture": {k: round(v, 3) for k, v in self.mixture.items()}, "repeats": round(self.repeats, 2),
            **({"notes": self.notes} if self.notes else {}),
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
        target: what a reference model, or a likeness, is made of.
        cache: where reference models and losses are kept; what they took is counted all the same.
    """
    spec = TrainSpec(
        model=scale.model, seq_len=scale.seq_len, batch=scale.batch,
        tokens=tokens or round(fraction * scale.tokens), optim=scale.optim, seed=seed, policy=policy,
        reference=scale.reference, dtype="bf16" if machine.dtype == "bf16" else "fp32",
        device="cuda" if machine.device == "cuda" else "cpu", compile=machine.device == "cuda",
        max_visits=scale.visits, threads=machine.threads, log_every=1_000_000,
    )  # fmt: skip
    aims = {} if target is None else {spec.reference.target: target}
    notes: list[str] = []
    log = EventLog(subscribers=[lambda e: notes.append(e.text) if isinstance(e, Note) else None])
    _warm_up(spec, store, aims, cache)
    result = train(spec, store, aims, log, cache=cache, measure=())
    found = evaluate(_forward(result, machine))
    names = list(result.mixture[0])
    mixture = np.mean([[step[name] for name in names] for step in result.mixture], axis=0).tolist()
    visits = np.unique(result.trained["sample"].to_numpy(), return_counts=True)[1]
    return Outcome(
        result.steps, result.tokens, result.seconds,
        {k: v for k, v in result.ledger.items() if k != "evaluation"}, found,
        dict(zip(names, mixture, strict=True)), float(visits.mean()), notes,
    )  # fmt: skip


def _forward(result: TrainResult, machine: Machine) -> Forward:
    model = result.model.to(machine.device)

    def forward(ids: Tensor) -> Tensor:
        with precision(machine.dtype, machine.device):
            return model(ids.to(machine.device))

    return forward


_warm: set[tuple[object, ...]] = set()


def _warm_up(spec: TrainSpec, store: TokenStore, aims: dict[str, Target], cache: Path | None) -> None:
    """Compile what the run will run, once in a process, so that no run is charged with it."""
    scored = as_chain(spec.policy).requires().candidates if not isinstance(spec.policy, Auto) else False
    key = (spec.model.fingerprint(), spec.batch, spec.policy.fingerprint() if scored else "")
    if not spec.compile or key in _warm:
        return
    _warm.add(key)
    # Shapes are few (a batch, and the candidates of each policy); one kernel for all would be slower.
    torch._dynamo.config.automatic_dynamic_shapes = False
    torch._dynamo.config.recompile_limit = 64
    short = spec.model_copy(update={"tokens": 3 * spec.batch * spec.seq_len})
    train(short, store, aims, cache=cache, measure=())
