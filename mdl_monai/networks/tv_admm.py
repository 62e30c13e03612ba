"""Total-variation reconstruction, the classical baseline of compressive-sensing MRI."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mdl_monai.networks.sparse_admm import SparseADMM

_DIAGONAL = math.sqrt(0.5)  # a diagonal neighbour is sqrt(2) pixels away


def differences(image: Tensor) -> Tensor:
    """Circular differences down, right and to both lower diagonals: [B, 1, H, W] to [B, 4, H, W]; norm sqrt(8)."""
    down = image.roll(-1, -2)
    neighbours = (down, image.roll(-1, -1), down.roll(-1, -1), down.roll(1, -1))
    values = torch.cat(neighbours, dim=1).sub_(image)
    values[:, 2:] *= _DIAGONAL
    return values


def differences_adjoint(coefficients: Tensor) -> Tensor:
    """Adjoint of :func:`differences`: [B, 4, H, W] to [B, 1, H, W]."""
    down, right, diagonal, antidiagonal = coefficients.split(1, dim=1)
    diagonal, antidiagonal = diagonal * _DIAGONAL, antidiagonal * _DIAGONAL
    lower = (diagonal.roll(1, -1) + antidiagonal.roll(-1, -1)).add_(down).roll(1, -2)
    return lower.add_(right.roll(1, -1)).sub_(down).sub_(right).sub_(diagonal).sub_(antidiagonal)


class TVReconstruction(SparseADMM):
    """Isotropic total variation: W holds the circular differences to four of the eight neighbours.

    With the diagonals the penalty depends less on an edge's direction than with rows and columns alone, which
    gains about half a decibel.

    Args:
        weight: weight of the total variation, for images of peak 1.
        penalty: ADMM's penalty on W x - v.
        iterations: number of iterations.
    """

    def __init__(self, weight: float = 1e-4, penalty: float = 5e-3, iterations: int = 100) -> None:
        super().__init__(weight, penalty, iterations)

    def analysis(self, image: Tensor) -> Tensor:
        """See :func:`differences`."""
        return differences(image)

    def synthesis(self, coefficients: Tensor) -> Tensor:
        """See :func:`differences_adjoint`."""
        return differences_adjoint(coefficients)

    def power_spectrum(self, spectrum: Tensor, width: int) -> Tensor:
        """Sum of the squared differences' transfer functions, [H, W // 2 + 1]."""
        height, columns = spectrum.shape[-2:]
        row = (torch.arange(height, device=spectrum.device) * (math.pi / height))[:, None]
        column = torch.arange(columns, device=spectrum.device) * (math.pi / width)
        straight = row.sin().square() + column.sin().square()
        diagonal = (row + column).sin().square() + (row - column).sin().square()
        return 4 * straight + 2 * diagonal

    def shrink(self, coefficients: Tensor, threshold: float) -> Tensor:
        """Shorten each pixel's vector of differences [B, 4, H, W] by the threshold."""
        length = coefficients.square().sum(dim=1, keepdim=True).sqrt_()
        return coefficients * (1 - threshold / length.clamp_min_(threshold))
