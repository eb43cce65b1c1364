"""Products with a stored direction by differences of losses: forward passes alone, so any model does it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, distribute_tensor

from tillage.core.errors import UserError, WorkFailed
from tillage.train.losses import sample_losses
from tillage.train.policy import Array
from tillage.train.signals.gradients import GradientSpec, Losses, Measured, TargetBatches, host


class DifferenceProbe:
    """Products by two forward passes: `(l(w + h v) - l(w - h v)) / 2h` is `<gradient, v>` up to order h^2.

    Over all weights that are trained. It runs through the model as it is trained, compiled or sharded.
    Weights are put back bit for bit, from a copy.

    Args:
        model: the model as it is trained, with its wrapper.
        losses: the losses of tokens through that wrapper.
    """

    def __init__(self, model: nn.Module, losses: Losses, batches: TargetBatches, spec: GradientSpec) -> None:
        self.model, self.losses, self.batches, self.spec = model, losses, batches, spec
        self._direction: list[Tensor] = []
        self._step = -1
        self.cost = 2.0

    @property
    def weights(self) -> list[nn.Parameter]:
        """What is trained, in the parts that this process holds: after a forward pass the root of a sharded
        model still holds whole weights."""
        if isinstance(self.model, FSDPModule):
            self.model.reshard()
        return [p for p in self.model.parameters() if p.requires_grad]

    def refresh(self, step: int) -> float:
        now = step // self.spec.every
        if now == self._step:
            return 0.0
        if any(p.grad is not None for p in self.weights):
            raise WorkFailed("gradients of the step are there already", hint="refresh before the step")
        self._step = now
        count = self.spec.samples / self.batches.world  # wrappers average over ranks
        for ids, goals, spans in self.batches.at(step):
            (sample_losses(self.losses(ids, goals, spans), goals).sum() / count).backward()
        self._direction = [
            torch.zeros_like(p) if p.grad is None else p.grad.detach().clone() for p in self.weights
        ]
        for p in self.weights:
            p.grad = None
        return 3.0 * self.spec.samples

    def measure(self, input_ids: Tensor, targets: Tensor, spans: Tensor | None) -> Measured:
        if not self._direction:
            raise WorkFailed("the direction of the target is not there yet", hint="call refresh(step) first")
        length = _norm(self._direction)
        h = self.spec.step * _norm(self.weights) / max(length, 1e-30)
        kept = [p.detach().clone() for p in self.weights]
        found: list[Tensor] = []
        try:
            for sign in (1.0, -1.0):
                self._move(kept, sign * h)
                with torch.no_grad():
                    found.append(self.losses(input_ids, targets, spans).double())
        finally:
            self._move(kept, 0.0)
        up, down = (sample_losses(losses, targets) for losses in found)
        losses = host((found[0] + found[1]) / 2)
        return Measured(losses, host((up - down) / (2 * h)), np.zeros((len(input_ids), 0)))

    def target_sketch(self) -> Array:
        raise UserError("finite differences give no sketches of gradients", hint="gradients: {kind: ghost}")

    def state_dict(self) -> dict[str, Any]:
        return {"step": self._step, "direction": [_whole(v).cpu() for v in self._direction]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._step = state["step"]
        self._direction = [_like(v, p) for v, p in zip(state["direction"], self.weights, strict=False)]

    def _move(self, kept: list[Tensor], by: float) -> None:
        with torch.no_grad():
            for p, old, v in zip(self.weights, kept, self._direction, strict=True):
                p.copy_(old if by == 0.0 else old.add(v.to(old.dtype), alpha=by))


def _norm(tensors: list[Any]) -> float:
    """Norm of all numbers in all tensors, whole also where they are sharded."""
    total = 0.0
    for tensor in tensors:
        total += float(_whole(tensor.detach().float().square().sum()))
    return total**0.5


def _whole(x: Tensor) -> Tensor:
    return x.full_tensor() if isinstance(x, DTensor) else x


def _like(x: Tensor, p: Tensor) -> Tensor:
    """`x` where `p` is, and sharded like it."""
    x = x.to(p.device)
    return distribute_tensor(x, p.device_mesh, p.placements) if isinstance(p, DTensor) else x
