"""What a displacement pays for being rough: diffusion or bending energy."""

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
