"""The probe of gradients that a run's policies need, made from its model, target and settings."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from tillage.core.errors import UserError, nearest
from tillage.train.evaluate import Target
from tillage.train.policy import SignalSpec
from tillage.train.precision import precision
from tillage.train.signals.difference import DifferenceProbe
from tillage.train.signals.ghost import GhostProbe
from tillage.train.signals.gradients import GradientProbe, GradientSpec, Losses, TargetBatches


def losses_of(net: nn.Module, dtype: str, device: str | torch.device) -> Losses:
    """Losses of tokens by `net(ids, targets, documents)` in this precision."""

    def losses(ids: Tensor, targets: Tensor, spans: Tensor | None) -> Tensor:
        with precision(dtype, torch.device(device).type):
            return net(ids, targets, spans)

    return losses


def gradient_probe(
    spec: GradientSpec,
    needs: SignalSpec,
    model: nn.Module,
    own: Losses,
    wrapped: Losses,
    targets: Mapping[str, Target],
    seq_len: int,
    *,
    rank: int = 0,
    world: int = 1,
    device: torch.device | str = "cpu",
    spans: bool = False,
    sharded: bool = False,
) -> GradientProbe | None:
    """What measures the gradients that `needs` names; None if it names none.

    Args:
        own: losses of tokens by `model` itself. wrapped: the same through what trains it.
        sharded: whether the weights lie in parts on several processes.

    Raises:
        UserError: no target, or signals that this kind of probe cannot give.
    """
    if not needs.gradients:
        return None
    target = targets.get(spec.target)
    if target is None and needs.dots:
        raise UserError(
            f"the policy needs the gradient of a target, and there is no target {spec.target!r}",
            where="gradients.target", hint=nearest(spec.target, targets),
        )  # fmt: skip
    batches = None if target is None else TargetBatches(target, seq_len, spec, rank, world, device, spans)
    sketch = needs.sketch or needs.gram
    if spec.kind == "difference" or (spec.kind == "auto" and sharded):
        if sketch or batches is None:
            raise UserError(
                "the policy needs products of samples' gradients with one another",
                where="gradients.kind", got="difference (two forward passes)", expected="ghost",
                hint="it works on models that are not sharded",
            )  # fmt: skip
        return DifferenceProbe(model, wrapped, batches, spec)
    if sharded:
        raise UserError(
            "a sharded model's gradients are measured by differences", where="gradients.kind", got="ghost",
            expected="difference or auto",
        )  # fmt: skip
    return GhostProbe(model, own, batches, spec, dots=needs.dots, sketch=sketch, world=world)
