"""Conjugate gradients with a fixed number of steps, differentiable by autograd."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

_CONVERGED = 1e-14  # share of the first squared residual that is rounding


def inner(a: Tensor, b: Tensor) -> Tensor:
    """Real part of the inner product of each item: [B, ...] twice to [B, 1, ...]."""
    product = torch.view_as_real(a) * torch.view_as_real(b) if a.is_complex() else a * b
    return product.flatten(1).sum(1).reshape(-1, *[1] * (a.ndim - 1))


def conjugate_gradient(
    operator: Callable[[Tensor], Tensor], right: Tensor, start: Tensor, steps: int
) -> Tensor:
    """Solve ``operator(x) = right`` for a Hermitian positive definite operator (Hestenes and Stiefel 1952).

    Every item of the batch has steps of its own. An item that is solved early stays as it is.

    Args:
        operator: linear, [B, ...] to the same shape.
        right: [B, ...], real or complex.
        start: first x.
        steps: number of steps.

    Returns:
        x after the last step.
    """
    x, residual = start, right - operator(start)
    direction, energy = residual, inner(residual, residual)
    tiny = torch.finfo(energy.dtype).tiny
    floor = _CONVERGED * inner(right, right) + tiny
    for step in range(steps):
        image = operator(direction)
        length = energy / (inner(direction, image) + floor)
        x = x + length * direction
        if step == steps - 1:
            return x
        residual = residual - length * image
        before, energy = energy, inner(residual, residual)
        direction = residual + energy / (before + floor) * direction
    return x
