"""Where half precision must not reach: Fourier transforms, norms, the softmax of distances."""

from __future__ import annotations

import contextlib

import torch


@torch.jit.unused
def float32_region(device_type: str) -> contextlib.AbstractContextManager[object]:
    """Switch autocast off: half-precision FFTs fail at sizes that are no power of two, distances lose digits."""
    if not torch.amp.autocast_mode.is_autocast_available(device_type):
        return contextlib.nullcontext()
    return torch.autocast(device_type, enabled=False)
