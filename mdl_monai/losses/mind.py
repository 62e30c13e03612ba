"""MIND: the modality independent neighbourhood descriptor, and the distance between two of them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

FLOOR = 1e-30
"""Added to the variance, so that a constant image has a descriptor: 1 everywhere."""
AT_ONCE = 8
"""Offsets whose maps are worked on together."""


def nearest_offsets(dims: int) -> list[tuple[int, ...]]:
    """The 4 (2D) or 6 (3D) nearest neighbours, as offsets."""
    return [
        tuple(sign * (axis == other) for other in range(dims)) for axis in range(dims) for sign in (-1, 1)
    ]


def region_offsets(dims: int, reach: int, stride: int) -> list[tuple[int, ...]]:
    """Every `stride`-th offset, but 0, of a region of (2 reach + 1)^dims about a voxel.

    Raises:
        ValueError: the stride does not divide the reach, so that the offsets would not lie evenly about 0.
    """
    if stride < 1 or reach % stride:
        raise ValueError(f"stride {stride} does not divide the reach {reach}")
    steps = range(-reach, reach + 1, stride)
    return [offset for offset in product(steps, repeat=dims) if any(offset)]


def mind(
    images: Tensor, radius: int = 2, sigma: float = 1.0, offsets: Sequence[Sequence[int]] | None = None
) -> Tensor:
    """Descriptor of each voxel by its likeness to its neighbours, whatever the contrast.

    MIND(x, r) = exp(-D(x, x + r) / V(x)) / max over r, with D the Gaussian-weighted squared difference of the patches
    about x and x + r, and V the mean of D over the nearest neighbours, kept within a factor 1000 of its mean
    (Heinrich et al., Medical Image Analysis 2012; Yang et al., IEEE TMI 2020). Of half precision in float32.

    Args:
        images: [B, 1, *spatial].
        radius: of the patch, in voxels.
        sigma: of its Gaussian weights, in voxels.
        offsets: r, in voxels; the nearest neighbours if None.

    Returns:
        [B, len(offsets), *spatial], from 0 to 1, at least one of them 1.
    """
    dims = images.ndim - 2
    images = images if images.dtype == torch.float64 else images.float()
    nearest = nearest_offsets(dims)
    wanted = [tuple(r) for r in (nearest if offsets is None else offsets)]
    every = [*wanted, *(r for r in nearest if r not in wanted)]
    margin = max(abs(step) for r in every for step in r)
    padded = functional.pad(images, [margin] * (2 * dims), mode="replicate")
    difference = _PatchDistance.apply(padded, every, margin, radius, sigma)
    variance = difference[:, [every.index(r) for r in nearest]].mean(1, keepdim=True)
    mean = variance.mean(dim=tuple(range(1, variance.ndim)), keepdim=True)
    variance = torch.minimum(torch.maximum(variance, mean * 1e-3), mean * 1e3) + FLOOR
    ratio = difference[:, : len(wanted)] / variance
    return torch.exp(ratio.amin(1, keepdim=True) - ratio)


def gaussian(radius: int, sigma: float, dtype: torch.dtype) -> list[float]:
    """Weights of 2 radius + 1 samples; their sum is 1."""
    places = torch.arange(-radius, radius + 1, dtype=dtype)
    weights = torch.exp(-(places**2) / (2 * sigma**2))
    return (weights / weights.sum()).tolist()


def smoothed(x: Tensor, radius: int, sigma: float) -> Tensor:
    """Separable Gaussian of 2 radius + 1 samples along each spatial axis of [B, C, *spatial]; edges repeated."""
    weights = gaussian(radius, sigma, x.dtype)
    for axis in range(2, x.ndim):
        padding = [0, 0] * (x.ndim - 1 - axis) + [radius, radius] + [0, 0] * (axis - 2)
        padded, size = functional.pad(x, padding, mode="replicate"), x.shape[axis]
        x = padded.narrow(axis, 0, size) * weights[0]
        for k, w in enumerate(weights[1:], 1):
            x += padded.narrow(axis, k, size) * w
    return x


def smoothed_adjoint(y: Tensor, radius: int, sigma: float) -> Tensor:
    """What `smoothed` is to a gradient [B, C, *spatial]: <smoothed(x), y> = <x, smoothed_adjoint(y)>."""
    weights = gaussian(radius, sigma, y.dtype)
    for axis in reversed(range(2, y.ndim)):
        size, shape = y.shape[axis], list(y.shape)
        shape[axis] += 2 * radius
        padded = y.new_zeros(shape)
        for k, w in enumerate(weights):
            padded.narrow(axis, k, size).add_(y, alpha=w)
        y = padded.narrow(axis, radius, size)
        # what was read beyond an edge was the edge's value
        y.narrow(axis, 0, 1).add_(padded.narrow(axis, 0, radius).sum(axis, keepdim=True))
        beyond = padded.narrow(axis, radius + size, radius)
        y.narrow(axis, size - 1, 1).add_(beyond.sum(axis, keepdim=True))
    return y


class _PatchDistance(torch.autograd.Function):
    """Gaussian-weighted squared difference of the patches about x and x + r, for each of the offsets r.

    A few offsets at a time stay in the processor's cache, the differences are computed again for the gradient, and
    the smoothing's adjoint is known: less than half the time that autograd takes over all of them at once.
    """

    @staticmethod
    def forward(
        ctx: Any, padded: Tensor, offsets: Sequence[Sequence[int]], margin: int, radius: int, sigma: float
    ) -> Tensor:
        """Images [B, 1, *spatial] with a margin on all sides to [B, offsets, *spatial]."""
        ctx.save_for_backward(padded)
        ctx.settings = offsets, margin, radius, sigma
        parts = [
            smoothed(_differences(padded, some, margin).square_(), radius, sigma) for some in _few(offsets)
        ]
        return torch.cat(parts, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (padded,) = ctx.saved_tensors
        offsets, margin, radius, sigma = ctx.settings
        out = torch.zeros_like(padded)
        for some, of_some in zip(_few(offsets), grad.split(AT_ONCE, 1), strict=True):
            of_difference = _differences(padded, some, margin).mul_(smoothed_adjoint(of_some, radius, sigma))
            _shifted(out, [0] * len(some[0]), margin).sub_(of_difference.sum(1, keepdim=True))
            for k, r in enumerate(some):
                _shifted(out, r, margin).add_(of_difference[:, k : k + 1])
        return out.mul_(2), None, None, None, None


def _few(offsets: Sequence[Sequence[int]]) -> list[Sequence[Sequence[int]]]:
    return [offsets[k : k + AT_ONCE] for k in range(0, len(offsets), AT_ONCE)]


def _differences(padded: Tensor, offsets: Sequence[Sequence[int]], margin: int) -> Tensor:
    """I(x + r) - I(x), [B, offsets, *spatial]."""
    shifted = torch.cat([_shifted(padded, r, margin) for r in offsets], 1)
    return shifted.sub_(_shifted(padded, [0] * len(offsets[0]), margin))


def _shifted(padded: Tensor, offset: Sequence[int], margin: int) -> Tensor:
    """View of I(x + r), [B, 1, *spatial]."""
    for axis, step in enumerate(offset, 2):
        padded = padded.narrow(axis, margin + step, padded.shape[axis] - 2 * margin)
    return padded


class MindDistance:
    """Mean absolute difference of descriptors to a reference's, within a mask.

    Args:
        reference: descriptor [1, C, *spatial], or one for each image [K, C, *spatial].
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
