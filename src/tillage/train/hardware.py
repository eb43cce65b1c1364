"""What a device could do at most, for the share of it that a run uses."""

from __future__ import annotations

import torch

_DENSE_BF16 = {"H200": 989e12, "H100": 989e12, "B200": 2250e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12}
"""Dense bf16 products a second, from the makers' data sheets (SXM versions)."""


def peak_flops(device: torch.device, dtype: str) -> float | None:
    """Peak floating-point operations a second of this device in bf16; None where it is not known."""
    if device.type != "cuda" or dtype != "bf16":
        return None
    name = torch.cuda.get_device_name(device)
    return next((peak for key, peak in _DENSE_BF16.items() if key in name), None)


def wait_for(device: torch.device) -> None:
    """Until all work given to the device is done, so that a clock means something."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
