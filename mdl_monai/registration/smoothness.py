"""Smooth displacements: what one pays for being rough (diffusion or bending energy), and a smooth parametrisation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class _Diffusion(torch.autograd.Function):
    """Energy with its gradient in closed form, two passes over memory an axis instead of autograd's six."""

    @staticmethod
    def forward(ctx: Any, displacement: Tensor, weights: Tensor) -> Tensor:
        gradient, energy = torch.zeros_like(displacement), displacement.new_zeros(())
        for axis in range(len(weights)):
            slope = displacement.diff(dim=axis + 1)
            weighted = slope * weights[axis]
            energy = energy + (slope * weighted).sum()
            size = slope.shape[axis + 1]
            gradient.narrow(axis + 1, 1, size).add_(weighted)
            gradient.narrow(axis + 1, 0, size).sub_(weighted)
        voxels = displacement[0, ..., 0].numel()
        ctx.save_for_backward(gradient.mul_(2 / voxels))
        return energy / voxels

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return ctx.saved_tensors[0] * grad, None


def diffusion(displacement: Tensor, spacing: Tensor) -> Tensor:
    """Sum over images of mean |grad u|^2 over voxels.

    Args:
        displacement: [K, *spatial, D] mm.
        spacing: [D] mm between voxels.
    """
    energy: Tensor = _Diffusion.apply(displacement, 1 / spacing.to(displacement) ** 2)
    return energy


def bending(displacement: Tensor, spacing: Tensor) -> Tensor:
    """Thin-plate energy: sum over images of mean squared second derivatives, in units of the shortest spacing.

    Affine displacements cost nothing.

    Args:
        displacement, spacing: as for :func:`diffusion`.
    """
    total = displacement.new_zeros(())
    voxels, h = displacement[0, ..., 0].numel(), spacing / spacing.min()
    for a in range(len(spacing)):
        for b in range(a, len(spacing)):
            if min(displacement.shape[a + 1], displacement.shape[b + 1]) < (3 if a == b else 2):
                continue
            second = displacement.diff(dim=a + 1).diff(dim=b + 1) / float(h[a] * h[b] * spacing.min())
            total = total + (1 if a == b else 2) * second.square().sum() / voxels
    return total


class _Smoothing(torch.autograd.Function):
    """Passes of (1, 2, 1) / 4, edges repeated: a symmetric matrix, so its own gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, passes: int) -> Tensor:
        ctx.passes = passes
        return _smoothing(x, passes)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return _smoothing(grad, ctx.passes), None


def _smoothing(x: Tensor, passes: int) -> Tensor:
    for _ in range(passes):
        for axis in range(1, x.ndim - 1):
            size = x.shape[axis]
            if size == 1:
                continue
            out = x * 0.5
            out.narrow(axis, 1, size - 1).add_(x.narrow(axis, 0, size - 1), alpha=0.25)
            out.narrow(axis, 0, size - 1).add_(x.narrow(axis, 1, size - 1), alpha=0.25)
            out.narrow(axis, 0, 1).add_(x.narrow(axis, 0, 1), alpha=0.25)
            out.narrow(axis, size - 1, 1).add_(x.narrow(axis, size - 1, 1), alpha=0.25)
            x = out
    return x


def smooth(parameters: Tensor, passes: int) -> Tensor:
    """Displacement as the smoothed version of its parameters: near a Gaussian of sqrt(passes / 2) voxels.

    A step on the parameters moves neighbours together (a Sobolev gradient), which finds larger displacements than a
    penalty alone, and smoother ones.

    Args:
        parameters: [K, *spatial, D].
        passes: of the binomial filter (1, 2, 1) / 4 along each axis.
    """
    out: Tensor = _Smoothing.apply(parameters, passes)
    return out
