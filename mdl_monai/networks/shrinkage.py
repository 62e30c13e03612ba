"""Soft thresholds: the proximal map of sparsity, for real and complex coefficients."""

from __future__ import annotations

import torch
from torch import Tensor

IMAGINARY = 3.0  # times the threshold: what is imaginary in an image of known phase is mostly error


def shrink(values: Tensor, threshold: Tensor | float) -> Tensor:
    """Each value nearer to 0 by the threshold, in magnitude: v max(1 - t / |v|, 0)."""
    return values * (1 - threshold / values.abs().clamp_min(1e-12)).clamp_min(0)


def shrink_parts(values: Tensor, threshold: Tensor | float, imaginary: Tensor | float = IMAGINARY) -> Tensor:
    """Complex values: real and imaginary part each for itself, the latter by `imaginary` times the threshold."""
    return torch.complex(shrink(values.real, threshold), shrink(values.imag, imaginary * threshold))
