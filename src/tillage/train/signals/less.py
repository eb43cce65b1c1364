"""Samples whose Adam-preconditioned gradients point along a target's, at checkpoints of a short run."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call, grad, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from tillage.train.draw import permute
from tillage.train.losses import IGNORE, sample_losses
from tillage.train.model import GPT
from tillage.train.optim import rate
from tillage.train.reference import blocks
from tillage.train.signals.setting import Setting
from tillage.train.tokens import Floats, Ints

BETAS = 0.9, 0.999
_EPSILON = 1e-8
_LR = 1e-3


def less(
    setting: Setting, checkpoints: int = 2, subtasks: int = 4, width: int = 1024, chunk: int = 8
) -> Floats:
    """How far a step of Adam on a sample goes toward the target: the largest cosine over its parts.

    LESS (Xia et al. 2024, arXiv 2402.04333, and official code): a short run with Adam on the store gives
    checkpoints; of a sample G = m' / sqrt(v' + e) with m', v' the moments after its gradient, of each part of
    the target the mean gradient; both randomly projected and scaled to length 1. A sample's score is the sum
    over checkpoints of learning rate times product, the largest over the parts. The gradients are those of
    the matrices in the blocks of a small model, in place of LoRA's; the projection adds entries with random
    signs (Weinberger et al. 2009, arXiv 0902.2206). The parts are equal stretches of the target.

    Args:
        subtasks: parts of the target. width: of the projection. chunk: samples at once.
    """
    store, seq_len = setting.store, setting.seq_len
    read, count = blocks(setting.target, seq_len)
    subtasks = min(subtasks, count)
    scores = np.zeros(0)
    for model, moments, share in _warm_up(setting, checkpoints):
        project = _projection(moments, width, setting.device)
        target = [
            _normal(project(_gradients(model, setting, read(part), chunk)).mean(0, keepdim=True))
            for part in np.array_split(np.arange(min(count, 16 * subtasks)), subtasks)
        ]
        toward = torch.cat(target)
        cut, found = store.samples(seq_len), []
        for low in range(0, len(cut), chunk):
            part = np.arange(low, min(low + chunk, len(cut)))
            rows = _gradients(model, setting, cut.pairs(part), chunk)
            found.append((_normal(project(_stepped(rows, moments))) @ toward.T).double().cpu().numpy())
        products = share * np.concatenate(found)
        scores = products if not scores.size else scores + products
    return scores.max(1)


Moments = dict[str, tuple[Tensor, Tensor]]


def _warm_up(setting: Setting, checkpoints: int) -> list[tuple[GPT, Moments, float]]:
    """Models along a run with Adam on the store, the moments of their blocks' matrices, and the learning
    rates as shares of their sum."""
    spec = setting.spec
    model = GPT(spec.model, setting.store.tokenizer.vocab, setting.seq_len, spec.seed).to(setting.device)
    read, count = blocks(setting.store, setting.seq_len)
    steps = max(spec.tokens // (spec.batch * setting.seq_len), checkpoints)
    optimizer = torch.optim.AdamW(model.parameters(), lr=_LR, betas=BETAS, eps=_EPSILON)
    due = set(accumulate([steps // checkpoints] * (checkpoints - 1))) | {steps}
    found: list[tuple[GPT, Moments, float]] = []
    for step in range(steps):
        number = step * spec.batch + np.arange(spec.batch)
        pair = read(permute(number % count, count, spec.seed, 3, number // count))
        ids, goals = (torch.from_numpy(x).to(setting.device) for x in pair)
        factor = rate(step, steps, "cosine", 0.05, 1.0)
        optimizer.param_groups[0]["lr"] = _LR * factor
        sample_losses(model(ids, goals), goals).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        if step + 1 in due:
            kept = GPT(spec.model, model.vocab, setting.seq_len).to(setting.device)
            kept.load_state_dict(model.state_dict())
            state: dict[Any, dict[str, Tensor]] = dict(optimizer.state)
            moments = {
                name: (state[p]["exp_avg"].clone(), state[p]["exp_avg_sq"].clone())
                for name, p in model.named_parameters()
                if p.ndim == 2 and name.startswith("blocks")
            }
            found.append((kept.eval(), moments, factor))
    total = sum(factor for _, _, factor in found)
    return [(kept, moments, factor / total) for kept, moments, factor in found]


def _gradients(model: GPT, setting: Setting, pair: tuple[Ints, Ints], chunk: int) -> dict[str, Tensor]:
    """Gradients of each sample's mean loss for the blocks' matrices, `[n, out, in]`."""
    weights = {name: p.detach() for name, p in model.named_parameters()}
    moved = {n: p for n, p in weights.items() if p.ndim == 2 and n.startswith("blocks")}
    fixed = {n: p for n, p in weights.items() if n not in moved}

    def loss(moved: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        logits: Any = functional_call(model, {**fixed, **moved}, (x[None],))
        total = F.cross_entropy(logits[0], y, ignore_index=IGNORE, reduction="sum")
        return total / (y != IGNORE).sum().clamp(min=1)

    ids, goals = (torch.from_numpy(x).to(setting.device) for x in pair)
    each = vmap(grad(loss), in_dims=(None, 0, 0), chunk_size=chunk)
    with sdpa_kernel(SDPBackend.MATH):  # the only one that vmap knows
        return each(moved, ids, goals)


def _stepped(rows: Mapping[str, Tensor], moments: Moments) -> dict[str, Tensor]:
    """What Adam would move along, had each sample been the next step."""
    one, two = BETAS
    return {
        name: (one * m + (1 - one) * rows[name]) / (two * v + (1 - two) * rows[name] ** 2 + _EPSILON).sqrt()
        for name, (m, v) in moments.items()
    }


def _projection(moments: Moments, width: int, device: str) -> Any:
    """A linear map of gradients to `[n, width]` that keeps products on average."""
    size = sum(m.numel() for m, _ in moments.values())
    generator = torch.Generator().manual_seed(0)
    place = torch.randint(width, (size,), generator=generator).to(device)
    sign = (torch.randint(2, (size,), generator=generator) * 2 - 1).float().to(device)

    def project(rows: Mapping[str, Tensor]) -> Tensor:
        flat = torch.cat([rows[name].flatten(1) for name in moments], 1)
        return flat.new_zeros((len(flat), width)).index_add_(1, place, flat * sign)

    return project


def _normal(rows: Tensor) -> Tensor:
    return rows / rows.norm(dim=1, keepdim=True).clamp(min=1e-12)
