"""Cross-entropy of every token, without a second copy of the logits.

A policy may weigh a token by its own loss, so losses are needed before their weights are: a loss that is
reduced inside its kernel does not do. Both functions here return the losses of all tokens and wait for any
weight to come back as the gradient. What they keep for the backward pass is one number a token besides what
they were given.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

IGNORE = -100
"""Target of a token that is not trained on: its loss is 0 and it has no gradient. As in torch and
transformers."""

_CHUNK_ELEMENTS = 1 << 28
"""Logits held at once by `linear_token_losses`: 512 MiB in bf16."""


def token_losses(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of each token in nats from a model's own logits.

    Args:
        logits: `[b, t, vocab]`, any floating type; the only copy that is kept.
        targets: `int64[b, t]`, `IGNORE` where nothing is learned.

    Returns:
        `float32[b, t]`, 0 at ignored tokens.
    """
    return _FromLogits.apply(logits, targets)  # pyright: ignore[reportReturnType]


@torch.compiler.disable  # a compiler that sees both passes keeps all logits rather than make them again
def linear_token_losses(
    hidden: Tensor, weight: Tensor, targets: Tensor, *, chunk_elements: int = _CHUNK_ELEMENTS
) -> Tensor:
    """Cross-entropy of each token in nats from the last hidden states and the output matrix.

    The tokens go through the output matrix a chunk at a time; where there is more than one chunk, logits are
    computed again in the backward pass, so that never more than one chunk of them exists (the idea of cut
    cross-entropy, arXiv 2411.09009, with matrix products of the library instead of a kernel). Under autocast
    the products are made in its type; the gradient of `weight` is summed in float32.

    Args:
        hidden: `[b, t, width]`.
        weight: `[vocab, width]`.
        targets: `int64[b, t]`, `IGNORE` where nothing is learned.

    Returns:
        `float32[b, t]`, 0 at ignored tokens.
    """
    kind = hidden.device.type
    if torch.is_autocast_enabled(kind):
        hidden, matrix = hidden.to(torch.get_autocast_dtype(kind)), weight.to(torch.get_autocast_dtype(kind))
    else:
        matrix = weight.to(hidden.dtype)
    rows = _even(targets.numel(), max(chunk_elements // weight.shape[0], 1))
    flat = _FromHidden.apply(hidden.flatten(0, 1), matrix, targets.flatten(), rows)
    return flat.view(targets.shape)  # pyright: ignore[reportOptionalMemberAccess]


def _even(count: int, most: int) -> int:
    """Rows of a chunk, at most `most`: chunks of one size where that is possible, as each size is
    compiled."""
    chunks = -(-count // most)
    even = next((n for n in range(chunks, 2 * chunks) if count % n == 0), chunks)
    return max(-(-count // even), 1)


def sample_losses(tokens: Tensor, targets: Tensor) -> Tensor:
    """Mean loss of each sample over its tokens that are trained on, `[b]`; 0 where there are none."""
    counts = (targets != IGNORE).sum(1)
    return tokens.sum(1) / counts.clamp(min=1)


def group_losses(samples: Tensor, groups: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Mean of the samples' losses by group (NaN where there are none) and the numbers of samples, `[size]`
    each."""
    total = torch.zeros(size, dtype=torch.float64, device=samples.device)
    counts = torch.zeros_like(total)
    total.index_add_(0, groups, samples.detach().double())
    counts.index_add_(0, groups, torch.ones_like(samples, dtype=torch.float64))
    return total / counts, counts


def _statistics(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Losses and log-normalisers of rows `[n, vocab]`, both `float32[n]`."""
    wide = logits.float()
    normaliser = wide.logsumexp(-1)
    known = targets != IGNORE
    own = wide.gather(-1, torch.where(known, targets, 0)[:, None])[:, 0]
    return torch.where(known, normaliser - own, 0.0), normaliser


def _gradient(logits: Tensor, targets: Tensor, normaliser: Tensor, outer: Tensor) -> Tensor:
    """Gradient of the logits `[n, vocab]` for gradients `outer` `[n]` of the losses, in the type of the
    logits."""
    known = targets != IGNORE
    scale = torch.where(known, outer.float(), 0.0)[:, None]
    own = torch.arange(logits.shape[-1], device=logits.device) == torch.where(known, targets, -1)[:, None]
    share = (logits.float() - normaliser[:, None]).exp()
    return ((share - own.to(share.dtype)) * scale).to(logits.dtype)


_compiled: dict[str, Callable[..., Any]] = {}


def _fused(function: Callable[..., Any], on: Tensor) -> Callable[..., Any]:
    """`function` compiled into one pass over its tensors where `on` is on a GPU; as it is on a CPU, or
    inside another graph."""
    if not on.is_cuda or torch.compiler.is_compiling():
        return function
    name = function.__name__
    if name not in _compiled:
        _compiled[name] = torch.compile(function)
    return _compiled[name]


class _FromLogits(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor) -> Tensor:
        rows, goals = logits.flatten(0, 1), targets.flatten()
        losses, normaliser = _fused(_statistics, rows)(rows, goals)
        ctx.save_for_backward(rows, goals, normaliser)
        return losses.view(targets.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, None]:  # pyright: ignore
        rows, goals, normaliser = ctx.saved_tensors
        grad = _fused(_gradient, rows)(rows, goals, normaliser, outer[0].flatten())
        return grad.view(*outer[0].shape, -1), None


class _FromHidden(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, rows: int) -> Tensor:
        statistics = _fused(_statistics, hidden)
        count = hidden.shape[0]
        ctx.rows = rows
        with torch.autocast(hidden.device.type, enabled=False):
            if count <= rows:
                logits = hidden @ weight.T
                losses, normaliser = statistics(logits, targets)
                ctx.save_for_backward(hidden, weight, targets, normaliser, logits)
                return losses
            parts = [
                statistics(h @ weight.T, t)
                for h, t in zip(hidden.split(rows), targets.split(rows), strict=True)
            ]
        losses, normaliser = (torch.cat(part) for part in zip(*parts, strict=True))
        ctx.save_for_backward(hidden, weight, targets, normaliser)
        return losses

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, Tensor | None, None, None]:  # pyright: ignore
        hidden, weight, targets, normaliser, *kept = ctx.saved_tensors
        learned = ctx.needs_input_grad[1]  # not so where only the gradients of samples are asked for
        gradient = _fused(_gradient, hidden)
        with torch.autocast(hidden.device.type, enabled=False):
            if kept:
                grad = gradient(kept[0], targets, normaliser, outer[0])
                return grad @ weight, grad.T @ hidden if learned else None, None, None
            grad_hidden: list[Tensor] = []
            grad_weight = torch.zeros_like(weight, dtype=torch.float32) if learned else None
            pieces = (x.split(ctx.rows) for x in (hidden, targets, normaliser, outer[0]))
            for h, t, n, o in zip(*pieces, strict=True):
                grad = gradient(h @ weight.T, t, n, o)
                grad_hidden.append(grad @ weight)
                if grad_weight is not None:
                    grad_weight += grad.T @ h
        whole = None if grad_weight is None else grad_weight.to(weight.dtype)
        return torch.cat(grad_hidden), whole, None, None
