"""MIND: the modality independent neighbourhood descriptor, and the distance between two of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

FLOOR = 1e-30
"""Added to the variance, so that a constant image has a descriptor: 1 everywhere."""


def nearest_offsets(dims: int) -> list[tuple[int, ...]]:
    """The 4 (2D) or 6 (3D) nearest neighbours, as offsets."""
    return [
        tuple(sign * (axis == other) for other in range(dims)) for axis in range(dims) for sign in (-1, 1)
    ]


def mind(
    images: Tensor, radius: int = 2, sigma: float = 1.0, offsets: Sequence[Sequence[int]] | None = None
) -> Tensor:
    """Descriptor of each voxel by its likeness to its neighbours, whatever the contrast.

    MIND(x, r) = exp(-D(x, x + r) / V(x)) / max over r, with D the Gaussian-weighted squared difference of the patches
    about x and x + r, and V the mean of D over the nearest neighbours, kept within a factor 1000 of its mean
    (Heinrich et al., Medical Image Analysis 2012; Yang et al., IEEE TMI 2020). In float32 whatever the input.

    Args:
        images: [B, 1, *spatial].
        radius: of the patch, in voxels.
        sigma: of its Gaussian weights, in voxels.
        offsets: r, in voxels; the nearest neighbours if None.

    Returns:
        [B, len(offsets), *spatial], from 0 to 1, at least one of them 1.
    """
    dims = images.ndim - 2
    images = images.float()
    nearest = nearest_offsets(dims)
    wanted = [tuple(r) for r in (nearest if offsets is None else offsets)]
    every = list(dict.fromkeys([*nearest, *wanted]))
    margin = max(abs(step) for r in every for step in r)
    padded = functional.pad(images, [margin] * (2 * dims), mode="replicate")
    shifted = [_window(padded, [margin + step for step in r], images.shape[2:]) for r in every]
    difference = smoothed((torch.cat(shifted, 1) - images).square(), radius, sigma)
    variance = difference[:, [every.index(r) for r in nearest]].mean(1, keepdim=True)
    mean = variance.mean(dim=tuple(range(1, variance.ndim)), keepdim=True)
    variance = torch.minimum(torch.maximum(variance, mean * 1e-3), mean * 1e3) + FLOOR
    exponent = -difference[:, [every.index(r) for r in wanted]] / variance
    return torch.exp(exponent - exponent.amax(1, keepdim=True))


def _window(padded: Tensor, start: Sequence[int], size: Sequence[int]) -> Tensor:
    for axis, (first, length) in enumerate(zip(start, size, strict=True)):
        padded = padded.narrow(axis + 2, first, length)
    return padded


def smoothed(x: Tensor, radius: int, sigma: float) -> Tensor:
    """Separable Gaussian of 2 radius + 1 samples along each spatial axis of [B, C, *spatial]; edges repeated."""
    places = torch.arange(-radius, radius + 1, dtype=x.dtype, device=x.device)
    weights = torch.exp(-(places**2) / (2 * sigma**2))
    weights = weights / weights.sum()
    for axis in range(2, x.ndim):
        padding = [0, 0] * (x.ndim - 1 - axis) + [radius, radius] + [0, 0] * (axis - 2)
        padded = functional.pad(x, padding, mode="replicate")
        x = sum(
            (padded.narrow(axis, k, x.shape[axis]) * w for k, w in enumerate(weights)), torch.zeros_like(x)
        )
    return x


class MindDistance:
    """Mean absolute difference of descriptors to a reference's, within a mask.

    Args:
        reference: [1, C, *spatial] descriptor.
        valid: [K, 1, *spatial], 1 where an image has a value and 0 elsewhere.
    """

    def __init__(self, reference: Tensor, valid: Tensor) -> None:
        self.reference = reference.detach()
        channels = reference.shape[1]
        self.weight = valid / (channels * valid.flatten(1).sum(1)).clamp_min(1).view(
            -1, *[1] * (valid.ndim - 1)
        )

    def __call__(self, descriptors: Tensor) -> Tensor:
        """Descriptors [K, C, *spatial] to distances [K], from 0 (equal) to 1."""
        return ((descriptors - self.reference).abs() * self.weight).flatten(1).sum(1)
