"""Products of the gradients of single samples with that of a target, without the gradients of single samples.

The gradient of a linear layer's weights for one sample is `G = sum_t b_t a_t^T`, a_t being what goes into
the layer and b_t the gradient of what comes out. So `<G, V> = sum_t b_t^T V a_t`: one more product a layer,
and no term of tokens by tokens (the pairwise form of GREATS, Wang et al., NeurIPS 2024, has one).

It is the derivative of the sample's loss at 0 by a factor e of the sample's own on `W + e V`, so layers give
`W a + e (V a)`, and autograd does the rest, whether the model is compiled or not. The same with `L P R^T` for
the weights, P a matrix of the sample's own: its gradient is the projection `L^T G R`.
"""

from __future__ import annotations

import weakref
import zlib
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from tillage.core.errors import UserError, WorkFailed
from tillage.train.losses import sample_losses
from tillage.train.policy import Array
from tillage.train.signals.gradients import GradientSpec, Losses, Measured, TargetBatches, host

# With these, compiled code takes it for granted that within a module whose attributes are the same objects no
# flag of a weight has changed either (seen with torch 2.11, Python 3.12); a probe changes just that.
_settings: Any = import_module("torch._dynamo.config")
for _name in ("use_recursive_dict_tags_for_guards", "skip_tensor_guards_with_matching_dict_tags"):
    if hasattr(_settings, _name):
        setattr(_settings, _name, False)


@dataclass
class _Tap:
    """What the layers add to what they give while `on`.

    Attributes:
        factor: e, zeros `[b]`. direction: V by layer, whole or as factors.
        inner: P, zeros `[b, k, k]` by layer; empty if no sketch is wanted. outer: L and R by layer.
    """

    on: bool = False
    factor: Tensor | None = None
    direction: dict[str, tuple[Tensor, ...]] = field(default_factory=dict[str, tuple[Tensor, ...]])
    inner: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    outer: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict[str, tuple[Tensor, Tensor]])

    def hook(self, name: str) -> Callable[[nn.Module, Any, Tensor], Tensor | None]:
        """Of the layer `name`; it stays on the module, since compiled code does not look for new hooks."""

        def add(module: nn.Module, given: Any, out: Tensor) -> Tensor | None:
            if not self.on:
                return None
            assert self.factor is not None
            # What goes in depends on e through earlier layers, but that term is multiplied by e, which is 0.
            x = _rows(given[0].detach(), len(self.factor))
            more: Tensor | None = None
            if self.direction:
                more = self.factor[:, None, None] * _through(self.direction[name], x)
            if self.inner:
                left, right = self.outer[name]
                narrow = (x @ right.to(x.dtype)).float()
                with torch.autocast(x.device.type, enabled=False):
                    narrow = torch.bmm(narrow, self.inner[name].transpose(1, 2))
                wide = narrow.to(out.dtype) @ left.T.to(out.dtype)
                more = wide if more is None else more + wide
            assert more is not None
            return out + more.to(out.dtype).reshape(out.shape)

        return add


class GhostProbe:
    """Products by one extra multiplication a layer, over the weights of the model's linear layers.

    Biases, norms, embeddings and the output matrix (`head`) are left out: the blocks hold the bulk of the
    weights, and for a tied output the product would be as dear as the logits. Layers whose weights are frozen
    are left out, so with LoRA the gradient is that of the adapters, as in LESS (arXiv 2402.04333).

    Args:
        model: whose `nn.Linear` modules are measured; they carry a hook as long as the probe lives.
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
        self.losses, self.batches, self.spec, self.world = losses, batches, spec, world
        self.dots, self.sketch = dots, sketch
        self._learned = [p for p in model.parameters() if p.requires_grad]
        self._tap = tap = _Tap()
        handles = [layer.register_forward_hook(tap.hook(name)) for name, layer in self.layers.items()]
        weakref.finalize(self, _remove, handles)
        self._direction: dict[str, tuple[Tensor, ...]] = {}
        self._random: dict[str, tuple[Tensor, Tensor]] = {}
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
        weights = [layer.weight for layer in self.layers.values()]
        total = [torch.zeros_like(w, dtype=torch.float32) for w in weights]
        # Not compiled: some samples every few steps are not worth one more compilation.
        with self._only(weights), torch.enable_grad(), torch.compiler.set_stance("force_eager"):
            for ids, goals, spans in self.batches.at(step):
                loss = sample_losses(self.losses(ids, goals, spans), goals).sum() / self.spec.samples
                found = torch.autograd.grad(loss, weights, materialize_grads=True)
                for part, grad in zip(total, found, strict=True):
                    part += grad
        if self.world > 1:
            for part in total:
                dist.all_reduce(part)
        outer = self._outer()
        self._target = np.concatenate(
            [
                host(outer[name][0].T @ v @ outer[name][1]).ravel()
                for name, v in zip(self.layers, total, strict=True)
            ]
        )
        rank = self.spec.rank
        self._direction = {
            name: (v,) if rank is None or rank >= min(v.shape) else _largest(v, rank)
            for name, v in zip(self.layers, total, strict=True)
        }
        return 3.0 * self.spec.samples

    def measure(self, input_ids: Tensor, targets: Tensor, spans: Tensor | None) -> Measured:
        if self.dots and not self._direction:
            raise WorkFailed("the direction of the target is not there yet", hint="call refresh(step) first")
        count = len(input_ids)
        size = -(-count // -(-count // self.spec.chunk))
        parts: list[tuple[Array, Array, Array]] = []
        with self._only([]), self._tapped():
            for low in range(0, count, size):
                # Chunks of one size, the last one filled up by its first sample: each size is compiled.
                at = [*range(low, min(low + size, count))]
                at += [low] * (size - len(at))
                parts.append(self._pass(input_ids[at], targets[at], None if spans is None else spans[at]))
        losses, dots, rows = (np.concatenate(part)[:count] for part in zip(*parts, strict=True))
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

    def _pass(self, ids: Tensor, goals: Tensor, spans: Tensor | None) -> tuple[Array, Array, Array]:
        """Losses of tokens, products and sketches of a chunk, by the gradients of each sample's mean loss."""
        tap, k = self._tap, self.spec.sketch
        tap.factor = torch.zeros(len(ids), device=ids.device, requires_grad=self.dots)
        if self.sketch:
            zeros = torch.zeros(len(self.layers), len(ids), k, k, device=ids.device)
            tap.inner = {n: z.requires_grad_() for n, z in zip(self.layers, zeros.unbind(), strict=True)}
        with torch.enable_grad():
            losses = self.losses(ids, goals, spans)
            wanted = [*([tap.factor] if self.dots else []), *tap.inner.values()]
            found = torch.autograd.grad(sample_losses(losses, goals).sum(), wanted, materialize_grads=True)
        dots = found[0] if self.dots else tap.factor
        sketch = [g.flatten(1) for g in found[int(self.dots) :]]
        rows = torch.cat(sketch, 1) if sketch else dots.new_zeros((len(ids), 0))
        return host(losses), host(dots), host(rows)

    @contextmanager
    def _tapped(self) -> Generator[None]:
        tap = self._tap
        tap.direction = self._direction if self.dots else {}
        tap.outer = self._outer() if self.sketch else {}
        tap.on = True
        try:
            yield
        finally:
            tap.on, tap.factor = False, None
            tap.direction, tap.inner, tap.outer = {}, {}, {}

    @contextmanager
    def _only(self, wanted: Iterable[Tensor]) -> Generator[None]:
        """No gradients of other weights: that of the output matrix alone would cost as much as the logits."""
        kept = {id(w) for w in wanted}
        others = [p for p in self._learned if id(p) not in kept]
        for p in others:
            p.requires_grad_(False)
        try:
            yield
        finally:
            for p in others:
                p.requires_grad_(True)

    def _outer(self) -> dict[str, tuple[Tensor, Tensor]]:
        """L `[out, k]` and R `[in, k]` of each layer's random projection."""
        k, device = self.spec.sketch, next(iter(self.layers.values())).weight.device
        if not self._random:
            for name, layer in self.layers.items():
                generator = torch.Generator().manual_seed(zlib.crc32(name.encode()) + self.spec.seed)
                left, right = (
                    torch.randn(size, k, generator=generator) * k**-0.5 for size in layer.weight.shape
                )
                self._random[name] = left.to(device), right.to(device)
        return self._random


def _remove(handles: list[RemovableHandle]) -> None:
    for handle in handles:
        handle.remove()


def _rows(x: Tensor, count: int) -> Tensor:
    """`[b, t, width]`, whatever lies between the first and the last dimension."""
    return x.reshape(count, -1, x.shape[-1])


def _through(direction: tuple[Tensor, ...], x: Tensor) -> Tensor:
    """`V a` of each token; V is whole, or left and right factors."""
    for factor in (direction[0],) if len(direction) == 1 else (direction[1].T, direction[0]):
        x = F.linear(x, factor.to(x.dtype))
    return x


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
