"""Where a training step's time on a GPU goes: kernels by kind, and what no kernel filled."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

import torch
from torch.profiler import ProfilerActivity

KINDS = (
    ("attention", r"flash|fmha|attention|cudnn.*sdpa"),
    ("matrix products", r"gemm|cutlass|nvjet|cublas|wgmma|xmma"),
    ("collectives", r"nccl"),
    ("copies", r"memcpy|memset"),
    ("loss over the vocabulary", r"triton.*(log_softmax|nll|cross_entropy|exp|amax|logsumexp)"),
    ("normalisation, positions and activations, fused", r"triton"),
    ("optimizer", r"multi_tensor|foreach|adam"),
)
"""Kind and a pattern of names of kernels; the first that fits counts."""


def step_profile(step: Callable[[], None], wait: Callable[[], None], steps: int = 5) -> dict[str, Any]:
    """Milliseconds a step by kind of kernel, of `step` called `steps` times under torch's profiler.

    `idle` is the wall clock that no kernel filled, taken from the profiled steps, which run a little slower;
    `slowest` are the ten kernels with the most time.
    """
    step()
    wait()
    with torch.profiler.profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as found:
        began = time.perf_counter()
        for _ in range(steps):
            step()
        wait()
        wall = (time.perf_counter() - began) / steps * 1e3
    by_name: dict[str, float] = {}
    for event in found.events():
        if event.device_type == torch.autograd.DeviceType.CUDA:
            by_name[event.name] = by_name.get(event.name, 0.0) + event.self_device_time_total / steps / 1e3
    kinds = {kind: 0.0 for kind, _ in KINDS} | {"other": 0.0}
    for name, spent in by_name.items():
        kinds[kind_of(name)] += spent
    slowest = sorted(by_name.items(), key=lambda item: -item[1])[:10]
    return {
        "ms_per_step": round(wall, 2),
        "kinds": {kind: round(spent, 2) for kind, spent in kinds.items() if spent},
        "idle": round(wall - sum(by_name.values()), 2),
        "slowest": {name[:90]: round(spent, 2) for name, spent in slowest},
    }


def kind_of(kernel: str) -> str:
    """The kind of a kernel, by its name."""
    return next((kind for kind, names in KINDS if re.search(names, kernel, re.IGNORECASE)), "other")
