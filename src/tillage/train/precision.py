"""Arithmetic that suits the machine."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from tillage.core.errors import UserError


def pick_dtype(wanted: str, device: str = "cpu") -> str:
    """`auto` -> bf16 where the device multiplies it in hardware (GPUs, AMX or AVX-512 BF16), else fp32."""
    if wanted == "auto" and device == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    if wanted == "auto":
        # Older torch cannot tell: fp32 is right everywhere.
        ask = getattr(torch.cpu, "get_capabilities", dict[str, Any])
        can: dict[str, Any] = ask()
        native = any(can.get(name, False) for name in ("avx512_bf16", "amx_bf16", "amx_tile", "bf16"))
        return "bf16" if native else "fp32"
    if wanted not in ("bf16", "fp32"):
        raise UserError("unknown dtype", got=wanted, expected="auto, bf16 or fp32")
    return wanted


def precision(dtype: str, device: str = "cpu") -> AbstractContextManager[object]:
    """Matrix products in bf16 with fp32 weights (autocast), or plain fp32; `device` is its type."""
    return torch.autocast(device, torch.bfloat16) if dtype == "bf16" else nullcontext()
