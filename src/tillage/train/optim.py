"""Muon, AdamW and learning-rate schedules that end at zero."""

from __future__ import annotations

from math import cos, pi
from typing import Any, Literal

import torch
from pydantic import Field
from torch import nn

from tillage.core.errors import UserError
from tillage.core.spec import Spec
from tillage.train.causal import CausalModel
from tillage.train.parallel import load_whole_optimizer, whole_optimizer

Schedule = Literal["wsd", "cosine"]


class OptimSpec(Spec):
    """Peak learning rates and what goes with them."""

    kind: Literal["muon", "adamw"] = "muon"
    lr: float = Field(default=0.02, gt=0)
    """Of the matrices in the blocks."""
    lr_embedding: float = Field(default=0.03, gt=0)
    """Of embeddings and norms, always by AdamW."""
    momentum: float = Field(default=0.95, ge=0, lt=1)
    beta2: float = Field(default=0.95, ge=0, lt=1)
    weight_decay: float = Field(default=0.01, ge=0)
    clip: float = Field(default=1.0, gt=0)
    """Largest norm of the gradient of all parameters."""
    schedule: Schedule = "wsd"
    warmup: float = Field(default=0.05, ge=0, lt=1)
    """Share of the steps."""
    decay: float = Field(default=0.4, gt=0, le=1)
    """Share of the steps during which wsd falls to zero."""

    def factor(self, step: int, steps: int) -> float:
        return rate(step, steps, self.schedule, self.warmup, self.decay)

    def rising(self, steps: int) -> int:
        """Steps of the warm-up of a run of `steps`."""
        return max(round(self.warmup * steps), 1)

    def falling(self, steps: int) -> int:
        """Steps of the decay of wsd."""
        return max(round(self.decay * steps), 1)


def rate(step: int, steps: int, schedule: Schedule, warmup: float, decay: float) -> float:
    """Factor of the peak learning rate at `step` of `steps`: linear warm-up, then down to (nearly) zero.

    wsd: constant, then linear decay over the last `decay` of the steps (arXiv 2405.18392); cosine: arXiv
    1608.03983. The last step has the smallest positive factor, so no step is wasted.
    """
    if not 0 <= step < steps:
        raise UserError("this step is outside the schedule", got=step, expected=f"0 to {steps - 1}")
    rising = max(round(warmup * steps), 1)
    if step < rising:
        return (step + 1) / rising
    if schedule == "cosine":
        return 0.5 * (1 + cos(pi * (step - rising + 1) / (steps - rising + 1)))
    falling = max(round(decay * steps), 1)
    return min(1.0, (steps - step) / (falling + 1))


class Optimizer:
    """AdamW (arXiv 1711.05101) alone, or Muon for the matrices of the blocks and AdamW for the rest.

    Muon (Jordan et al. 2024; step size as in arXiv 2502.16982) learns far more in a few hundred steps, which
    is all that a CPU has.
    """

    def __init__(self, model: CausalModel, spec: OptimSpec) -> None:
        self._model = model
        blocks: list[nn.Parameter] = []
        tables: list[nn.Parameter] = []
        vectors: list[nn.Parameter] = []
        known = {id(p) for p in model.tables()}
        for p in model.parameters():
            if p.requires_grad:
                (vectors if p.ndim < 2 else tables if id(p) in known else blocks).append(p)
        adam_groups: list[dict[str, Any]] = [
            {"params": vectors, "weight_decay": 0.0, "peak": spec.lr_embedding},
            {"params": tables, "weight_decay": 0.0, "peak": spec.lr_embedding},
        ]
        self._parts: list[torch.optim.Optimizer] = []
        # Muon is for matrices; what has more dimensions, as experts in one tensor, goes to AdamW.
        matrices = [p for p in blocks if p.ndim == 2] if spec.kind == "muon" else []
        others = [p for p in blocks if p.ndim > 2] if spec.kind == "muon" else blocks
        if others:
            adam_groups.append({"params": others, "weight_decay": spec.weight_decay, "peak": spec.lr})
        if matrices:
            muon_group: dict[str, Any] = {"params": matrices, "peak": spec.lr}
            self._parts.append(
                torch.optim.Muon(
                    [muon_group],
                    lr=spec.lr,
                    weight_decay=spec.weight_decay,
                    momentum=spec.momentum,
                    adjust_lr_fn="match_rms_adamw",
                )
            )
        adam_groups = [group for group in adam_groups if group["params"]]
        if adam_groups:
            self._parts.append(
                torch.optim.AdamW(adam_groups, lr=spec.lr, betas=(0.9, spec.beta2), fused=True)
            )

    def step(self, factor: float) -> None:
        """One update at `factor` times the peak learning rates; gradients are cleared."""
        for part in self._parts:
            for group in part.param_groups:
                group["lr"] = factor * group["peak"]
            part.step()
        self.clear()

    def clear(self) -> None:
        """Forget the gradients."""
        for part in self._parts:
            part.zero_grad(set_to_none=True)

    def state_dict(self) -> list[dict[str, Any]]:
        """By names of parameters and unsharded: any number of processes can go on from it."""
        return [whole_optimizer(self._model, part) for part in self._parts]

    def load_state_dict(self, state: list[dict[str, Any]]) -> None:
        for part, saved in zip(self._parts, state, strict=True):
            load_whole_optimizer(self._model, part, saved)
