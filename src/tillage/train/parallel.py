"""Several processes as one run: ranks from `torchrun`, data parallel or fully sharded, and what to say when
one dies."""

from __future__ import annotations

import atexit
import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.nn.parallel import DistributedDataParallel

from tillage.core.errors import UserError, WorkFailed
from tillage.train.causal import CausalModel

Kind = Literal["ddp", "fsdp"]
TIMEOUT = timedelta(seconds=50)
"""How long a process waits for the others within a step before it gives up."""

_FULL = StateDictOptions(full_state_dict=True, cpu_offload=True)


def ranks() -> tuple[int, int]:
    """Rank and world from the environment that `torchrun` sets; joins the other processes once."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        return 0, 1
    if not dist.is_initialized():
        # Losses meet on the host, gradients where they are.
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(backend, timeout=TIMEOUT)
        atexit.register(_leave)
    return dist.get_rank(), dist.get_world_size()


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def pick_device(wanted: str) -> torch.device:
    """`auto` -> this process's GPU where there is one, else the CPU."""
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    if wanted == "cuda":
        if not torch.cuda.is_available():
            raise UserError(
                "there is no GPU that torch can use", where="device", got="cuda", expected="cpu or auto"
            )
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
        return device
    if wanted != "cpu":
        raise UserError("unknown device", got=wanted, expected="auto, cpu or cuda")
    return torch.device("cpu")


def spread(model: nn.Module, blocks: list[nn.Module], kind: Kind, world: int) -> nn.Module:
    """The model as one of `world` processes trains it; `model` itself when there is only one.

    `ddp` keeps the whole model in each process. `fsdp` (FSDP2) shards parameters, gradients and optimizer
    state, a block at a time. Parameters travel in fp32 and autocast rounds them, as in a model that is whole:
    with FSDP2's own bf16 the sharded run chose other samples after 8 steps.
    """
    if world == 1:
        return model
    if kind == "ddp":
        return DistributedDataParallel(model)
    for block in blocks:
        fully_shard(block)
    fully_shard(model)
    return model


@contextmanager
def gradients_meet(net: nn.Module, last: bool) -> Generator[None]:
    """Gradients of a step's micro-batches are exchanged once, after the last."""
    if isinstance(net, FSDPModule):
        net.set_requires_gradient_sync(last)
        yield
    elif isinstance(net, DistributedDataParallel) and not last:
        with net.no_sync():
            yield
    else:
        yield


@contextmanager
def together(where: str, world: int) -> Generator[None]:
    """Errors of torch's collectives inside become one clear error: another process is gone or stuck."""
    try:
        yield
    except RuntimeError as error:  # gloo raises plain RuntimeError, NCCL DistBackendError, which is one
        message = str(error)
        signs = ("gloo", "nccl", "connection", "timed out", "timeout", "peer")
        if world == 1 or not any(sign in message.lower() for sign in signs):
            raise
        raise WorkFailed(
            "another process of this run died or is stuck", where=where, got=message.splitlines()[0][:200],
            expected=f"{world} processes",
            hint="see that process's own output; the same command goes on from the last checkpoint",
        ) from error  # fmt: skip


def whole_model(model: CausalModel) -> dict[str, Any]:
    """Weights by name, unsharded, on the CPU, without those that are frozen; every process must call it, rank
    0 gets them all."""
    if isinstance(model, FSDPModule):
        return model.trained_state(get_model_state_dict(model, options=_FULL))
    return {name: value.detach().cpu() for name, value in model.trained_state(model.state_dict()).items()}


def load_whole_model(model: CausalModel, state: dict[str, Any]) -> None:
    """The inverse of `whole_model`; every process has `state`."""
    wanted = set(model.trained_state(dict.fromkeys(model.state_dict())))
    if wanted != set(state):
        odd = sorted(wanted ^ set(state))
        raise UserError("these weights belong to another model", got=f"{len(odd)} names differ: {odd[:3]}")
    if isinstance(model, FSDPModule):
        set_model_state_dict(model, state, options=replace(_FULL, strict=False))
    else:
        model.load_state_dict(state, strict=False)


def whole_optimizer(model: nn.Module, part: torch.optim.Optimizer) -> dict[str, Any]:
    """An optimizer's state, unsharded and by the names of parameters, so that any number of processes can
    read it."""
    return get_optimizer_state_dict(model, part, options=_FULL)


def load_whole_optimizer(model: nn.Module, part: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """The inverse of `whole_optimizer`; every process has `state`."""
    set_optimizer_state_dict(model, part, state, options=_FULL)
