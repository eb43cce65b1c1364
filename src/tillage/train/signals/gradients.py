"""Products of the gradients of single samples with that of a target, without the gradients of single samples.

The gradient of a linear layer's weights for one sample is `G = sum_t b_t a_t^T`, a_t being what goes into
the layer and b_t the gradient of what comes out. So `<G, V> = sum_t b_t^T V a_t`: one more product a layer,
and no term of tokens by tokens (the pairwise form of GREATS, Wang et al., NeurIPS 2024, has one).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import torch
import torch.distributed as dist
from pydantic import Field
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, distribute_tensor

from tillage.core.errors import UserError, WorkFailed
from tillage.core.spec import Spec
from tillage.train.draw import permute
from tillage.train.evaluate import Target
from tillage.train.losses import sample_losses
from tillage.train.policy import Array
from tillage.train.reference import blocks
from tillage.train.tokens import Ints

Losses = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""Input ids, targets `int64[b, t]` and numbers of documents -> losses of tokens in nats, `[b, t]`."""
_STREAM = 5


class GradientSpec(Spec):
    """How the gradients of samples are measured."""

    kind: Literal["auto", "ghost", "difference"] = "auto"
    """ghost: from one forward and one backward pass, on the weights of linear layers. difference: from two
    forward passes at weights moved along the direction, on all weights; it needs nothing from within the
    model, so sharded models do it. auto: ghost, but difference for sharded models."""
    target: str = "search"
    samples: int = Field(default=16, ge=1)
    """Samples of the target behind a direction."""
    every: int = Field(default=8, ge=1)
    """Steps between directions; a direction is kept in between."""
    rank: int | None = Field(default=None, ge=1)
    """Of the direction in each layer: its largest singular directions only, which makes the extra product
    cheaper by the width of the layer over `rank`; None: all of it."""
    sketch: int = Field(default=8, ge=1)
    """Side of the random projection of each layer's gradient, for products of samples with one another."""
    chunk: int = Field(default=16, ge=1)
    """Samples that are held in memory at once."""
    step: float = Field(default=1e-3, gt=0)
    """difference: length of the move, as a share of the norm of the weights (with bf16: 1e-2 or more)."""
    seed: int = Field(default=0, ge=0)


@dataclass(frozen=True)
class Measured:
    """Of this rank's samples: losses of tokens `[b, t]` in nats, products with the target's gradient `[b]`,
    random projections of the gradients `[b, k]` (empty if not asked for); all float64."""

    losses: Array
    dots: Array
    sketch: Array


class GradientProbe(Protocol):
    """What measures gradients of samples (`GhostProbe`, `DifferenceProbe`).

    Attributes:
        cost: forward passes that measuring one sample is worth.
    """

    cost: float

    def refresh(self, step: int) -> float:
        """Renew the target's gradient if `step` is due; forward passes that it was worth, over all ranks."""
        ...

    def measure(self, input_ids: Tensor, targets: Tensor, spans: Tensor | None) -> Measured:
        """Gradients of a batch against the direction."""
        ...

    def target_sketch(self) -> Array:
        """The target's gradient in the projection of the samples', `[k]`."""
        ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class TargetBatches:
    """Blocks of a target by step: the same on every rank count, each rank reading its part."""

    def __init__(
        self,
        target: Target,
        seq_len: int,
        spec: GradientSpec,
        rank: int = 0,
        world: int = 1,
        device: torch.device | str = "cpu",
        spans: bool = False,
    ) -> None:
        self._read, self._blocks = blocks(target, seq_len)
        if spec.samples < world:
            raise UserError(
                "fewer samples of the target than processes", where="gradients.samples", got=spec.samples,
                expected=f"at least {world}",
            )  # fmt: skip
        self.spec, self.rank, self.world, self.device = spec, rank, world, device
        self._eos = target.eos if spans else None

    def at(self, step: int) -> list[tuple[Tensor, Tensor, Tensor | None]]:
        """Inputs, targets and document numbers of this rank's part for the direction of `step`, in chunks."""
        count = self.spec.samples
        number: Ints = step // self.spec.every * count + np.arange(count)
        mine = number[self.rank * count // self.world : (self.rank + 1) * count // self.world]
        block = permute(mine % self._blocks, self._blocks, self.spec.seed, _STREAM, mine // self._blocks)
        tokens = torch.from_numpy(self._read(block)).to(self.device)
        return [
            (x, y, None if self._eos is None else (x == self._eos).cumsum(1))
            for x, y in ((part[:, :-1], part[:, 1:]) for part in tokens.split(self.spec.chunk))
        ]


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
        self.losses, self.batches, self.spec, self.world = losses, batches, spec, world
        self.dots, self.sketch = dots, sketch
        self._direction: dict[str, tuple[Tensor, ...]] = {}
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
            parts.append((_host(losses), _host(dots), _host(rows)))
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

    def _project(self, name: str, a: Tensor, b: Tensor | None) -> Tensor:
        """Random projection `[b, k, k]` of gradients, from inputs and output gradients, or (`b` None)
        whole."""
        k, weight = self.spec.sketch, self.layers[name].weight
        generator = torch.Generator().manual_seed(zlib.crc32(name.encode()) + self.spec.seed)
        left, right = (
            (torch.randn(size, k, generator=generator) * k**-0.5).to(a.device) for size in weight.shape
        )
        if b is None:
            return left.T @ a @ right
        return (b @ left.to(b.dtype)).float().transpose(1, 2) @ (a @ right.to(a.dtype)).float()


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
        self.weights = [p for p in model.parameters() if p.requires_grad]
        self._direction: list[Tensor] = []
        self._step = -1
        self.cost = 2.0

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
        losses = _host((found[0] + found[1]) / 2)
        return Measured(losses, _host((up - down) / (2 * h)), np.zeros((len(input_ids), 0)))

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
        if isinstance(self.model, FSDPModule):
            self.model.reshard()  # the root keeps its weights whole after a forward pass


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
    if len(direction) == 1:
        through = a @ direction[0].T.to(a.dtype)
        return (through.float() * b.float()).sum((1, 2))
    left, right = direction
    return ((a @ right.to(a.dtype)).float() * (b @ left.to(b.dtype)).float()).sum((1, 2))


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


def _host(x: Tensor) -> Array:
    return x.detach().double().cpu().numpy()
