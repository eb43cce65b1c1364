"""Products of the gradients of single samples with that of a target, without the gradients of single samples.

The gradient of a linear layer's weights for one sample is `G = sum_t b_t a_t^T`, a_t being what goes into
the layer and b_t the gradient of what comes out. So `<G, V> = sum_t b_t^T V a_t`: one more product a layer,
and no term of tokens by tokens (the pairwise form of GREATS, Wang et al., NeurIPS 2024, has one).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from tillage.core.errors import UserError, WorkFailed
from tillage.train.losses import fused, sample_losses
from tillage.train.policy import Array
from tillage.train.signals.gradients import GradientSpec, Losses, Measured, TargetBatches, host


class GhostProbe:
    """Products by one extra multiplication a layer, over the weights of the model's linear layers.

    Biases, norms, embeddings and the output matrix (`head`) are left out: the blocks hold the bulk of the
    weights, and for a tied output the product would be as dear as the logits. Layers whose weights are frozen
    are left out, so with LoRA the gradient is that of the adapters, as in LESS (arXiv 2402.04333).
    The forward pass is the model's own in eager mode, also where it is compiled.

    Args:
        model: whose `nn.Linear` modules are measured.
        losses: the losses of tokens by this very model, not through a wrapper that waits for a backward pass.
        batches: of the target; without one only sketches can be measured.
        dots, sketch: what to measure.
    """

    def __init__(
        self,
        model: nn.Module,
        losses: Losses,
        batches: TargetBatches | None,
        spec: GradientSpec,
        *,
        dots: bool = True,
        sketch: bool = False,
        world: int = 1,
    ) -> None:
        if dots and batches is None:
            raise UserError("products with the target's gradient need a target", where="gradients.target")
        self.layers = {
            name: module
            for name, module in model.named_modules()
            if isinstance(module, nn.Linear) and module.weight.requires_grad and name != "head"
            and not name.endswith("lm_head")
        }  # fmt: skip
        if not self.layers:
            raise UserError(
                "the model has no trainable linear layers", got=type(model).__name__,
                hint="gradients: {kind: difference} needs none",
            )  # fmt: skip
        measured = {id(layer.weight) for layer in self.layers.values()}
        self._others = [p for p in model.parameters() if p.requires_grad and id(p) not in measured]
        self.losses, self.batches, self.spec, self.world = losses, batches, spec, world
        self.dots, self.sketch = dots, sketch
        self._direction: dict[str, tuple[Tensor, ...]] = {}
        self._random: dict[str, list[Tensor]] = {}
        self._target = np.zeros(0)
        self._step = -1
        # Forward and backward to the layers' outputs are a forward pass each; so is a product with all of V.
        self.cost = 2.0 + (0.0 if not dots else 1.0 if spec.rank is None else self._share(spec.rank))

    def _share(self, rank: int) -> float:
        """Work of products of `rank` as a share of whole ones."""
        shapes = [layer.weight.shape for layer in self.layers.values()]
        whole = sum(out * into for out, into in shapes)
        return min(sum(min(rank, out, into) * (out + into) for out, into in shapes) / whole, 1.0)

    def refresh(self, step: int) -> float:
        now = step // self.spec.every
        if self.batches is None or now == self._step:
            return 0.0
        self._step = now
        total: dict[str, Tensor] = {}
        for ids, goals, spans in self.batches.at(step):
            _, pairs = self._pass(ids, goals, spans)
            for name, (a, b) in pairs.items():
                part = (b.flatten(0, 1).T @ a.flatten(0, 1).to(b.dtype)).float() / self.spec.samples
                total[name] = total[name] + part if name in total else part
        if self.world > 1:
            for name in self.layers:
                dist.all_reduce(total[name])
        self._target = np.concatenate(
            [
                self._project(name, total[name][None], None).double().cpu().numpy().ravel()
                for name in self.layers
            ]
        )
        rank = self.spec.rank
        self._direction = {
            name: (v,) if rank is None or rank >= min(v.shape) else _largest(v, rank)
            for name, v in total.items()
        }
        return 3.0 * self.spec.samples

    def measure(self, input_ids: Tensor, targets: Tensor, spans: Tensor | None) -> Measured:
        if self.dots and not self._direction:
            raise WorkFailed("the direction of the target is not there yet", hint="call refresh(step) first")
        parts: list[tuple[Array, Array, Array]] = []
        many = self.spec.chunk
        pieces = (None,) * len(input_ids) if spans is None else spans.split(many)
        for ids, goals, numbers in zip(input_ids.split(many), targets.split(many), pieces, strict=False):
            losses, pairs = self._pass(ids, goals, numbers)
            dots = torch.zeros(len(ids), dtype=torch.float32, device=ids.device)
            sketch: list[Tensor] = []
            for name, (a, b) in pairs.items():
                if self.dots:
                    dots = dots + _product(self._direction[name], a, b)
                if self.sketch:
                    sketch.append(self._project(name, a, b).flatten(1))
            rows = torch.cat(sketch, 1) if sketch else dots.new_zeros((len(ids), 0))
            parts.append((host(losses), host(dots), host(rows)))
        losses, dots, rows = (np.concatenate(part) for part in zip(*parts, strict=True))
        return Measured(losses, dots, rows)

    def target_sketch(self) -> Array:
        return self._target

    def state_dict(self) -> dict[str, Any]:
        direction = {name: [f.cpu() for f in factors] for name, factors in self._direction.items()}
        return {"step": self._step, "direction": direction, "target": self._target.tolist()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._step, self._target = state["step"], np.asarray(state["target"])
        self._direction = {
            name: tuple(f.to(self.layers[name].weight.device) for f in factors)
            for name, factors in state["direction"].items()
        }

    def _pass(
        self, ids: Tensor, goals: Tensor, spans: Tensor | None
    ) -> tuple[Tensor, dict[str, tuple[Tensor, Tensor]]]:
        """Losses of tokens, and of each layer the inputs `[b, t, in]` and gradients of outputs `[b, t, out]`
        of each sample's mean loss."""
        with self._only_layers():
            with torch.enable_grad(), self._recorded() as (inputs, outputs):
                losses = self.losses(ids, goals, spans)
            missing = [name for name in self.layers if name not in outputs]
            if missing:
                raise WorkFailed("a linear layer took no part in the forward pass", got=missing[0])
            gradients = torch.autograd.grad(
                sample_losses(losses, goals).sum(), [outputs[name] for name in self.layers]
            )
        pairs = {
            name: (_rows(inputs[name], len(ids)), _rows(gradient, len(ids)))
            for name, gradient in zip(self.layers, gradients, strict=True)
        }
        return losses.detach(), pairs

    @contextmanager
    def _recorded(self) -> Generator[tuple[dict[str, Tensor], dict[str, Tensor]]]:
        """Inputs and outputs of the layers during one forward pass."""
        inputs: dict[str, Tensor] = {}
        outputs: dict[str, Tensor] = {}

        def recorder(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
            def record(module: nn.Module, given: Any, out: Tensor) -> None:
                if name in outputs:
                    raise WorkFailed("a linear layer is used twice in a forward pass", got=name)
                inputs[name], outputs[name] = given[0].detach(), out

            return record

        hooks = [layer.register_forward_hook(recorder(name)) for name, layer in self.layers.items()]
        try:
            with torch.compiler.set_stance("force_eager"):
                yield inputs, outputs
        finally:
            for hook in hooks:
                hook.remove()

    @contextmanager
    def _only_layers(self) -> Generator[None]:
        """Nobody asks for the gradients of the other weights; that of the output matrix would cost as much as
        the logits."""
        for p in self._others:
            p.requires_grad_(False)
        try:
            yield
        finally:
            for p in self._others:
                p.requires_grad_(True)

    def _project(self, name: str, a: Tensor, b: Tensor | None) -> Tensor:
        """Random projection `[b, k, k]` of gradients, from inputs and output gradients, or (`b` None)
        whole."""
        if name not in self._random:
            k, weight = self.spec.sketch, self.layers[name].weight
            generator = torch.Generator().manual_seed(zlib.crc32(name.encode()) + self.spec.seed)
            self._random[name] = [
                (torch.randn(size, k, generator=generator) * k**-0.5).to(a.device) for size in weight.shape
            ]
        left, right = self._random[name]
        if b is None:
            return left.T @ a @ right
        return (b @ left.to(b.dtype)).float().transpose(1, 2) @ (a @ right.to(a.dtype)).float()


def _rows(x: Tensor, count: int) -> Tensor:
    """`[b, t, width]`, whatever lies between the first and the last dimension."""
    return x.reshape(count, -1, x.shape[-1])


def _largest(v: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Factors `[out, rank]` and `[in, rank]` of the best approximation of `v` of that rank, nearly.

    Randomised (Halko et al. 2011) with a generator of its own, so that every rank finds the same.
    """
    generator = torch.Generator().manual_seed(rank)
    wide = min(rank + 8, *v.shape)
    q = v @ torch.randn(v.shape[1], wide, generator=generator).to(v.device)
    for _ in range(2):
        q = v @ (v.T @ torch.linalg.qr(q).Q)
    q = torch.linalg.qr(q).Q
    u, s, right = torch.linalg.svd(q.T @ v, full_matrices=False)
    return (q @ u)[:, :rank] * s[:rank], right[:rank].T.contiguous()


def _product(direction: tuple[Tensor, ...], a: Tensor, b: Tensor) -> Tensor:
    """`<G, V>` of each sample, `float32[b]`; V is whole, or left and right factors."""
    dots = fused(_dots, a)
    if len(direction) == 1:
        return dots(a @ direction[0].T.to(a.dtype), b)
    left, right = direction
    return dots(a @ right.to(a.dtype), b @ left.to(b.dtype))


def _dots(a: Tensor, b: Tensor) -> Tensor:
    """Of each sample, summed in float32."""
    return (a.float() * b.float()).sum((1, 2))
