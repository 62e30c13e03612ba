"""Inputs for the tests of single-coil reconstruction networks."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from mdl_monai.physics.fourier import fft2c


def smooth_images(height: int, width: int, batch: int = 2) -> Tensor:
    """Smooth random images between 0 and 1, [B, 1, H, W]."""
    noise = functional.avg_pool2d(torch.rand(batch, 1, height + 4, width + 4), 5, 1)
    low, high = noise.amin((2, 3), keepdim=True), noise.amax((2, 3), keepdim=True)
    return (noise - low) / (high - low)


def measured(images: Tensor, ratio: float = 0.5) -> Tensor:
    """Network input [B, 3, H, W] of images [B, 1, H, W] under random masks with a sampled centre."""
    height, width = images.shape[-2:]
    mask = (torch.rand(images.shape) < ratio).to(images)
    mask[..., height // 2 - 1 : height // 2 + 2, width // 2 - 1 : width // 2 + 2] = 1
    kspace = mask * fft2c(images)
    return torch.cat((kspace.real, kspace.imag, mask), dim=1)
