"""Filters of ADMM-Net: combinations of the non-constant 3 x 3 DCT atoms, and their transfer functions."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional


def dct_atoms() -> Tensor:
    """The 8 non-constant atoms of the orthonormal 3 x 3 DCT, [8, 3, 3].

    In the order of the published weights: the frequency along the rows' index runs fastest.
    """
    grid = torch.arange(3, dtype=torch.float64)
    basis = torch.stack([torch.cos(math.pi * (2 * grid + 1) * k / 6) * math.sqrt(2 / 3) for k in range(3)])
    basis[0] = math.sqrt(1 / 3)
    atoms = torch.einsum("lj,ki->lkij", basis, basis).reshape(9, 3, 3)
    return atoms[1:].float()


def circular_convolution(image: Tensor, kernels: Tensor, offset: Tensor) -> Tensor:
    """Convolve image [B, 1, H, W] circularly with centred 3 x 3 kernels [L, 3, 3], add an offset [B, L, H, W].

    Shifts and one matrix product: for few channels the backward pass is several times faster than conv2d's.
    """
    rows = torch.cat((image.roll(1, -1), image, image.roll(-1, -1)), dim=1)
    neighbours = torch.cat((rows.roll(1, -2), rows, rows.roll(-1, -2)), dim=1)
    weights = kernels.flip([1, 2]).flatten(1).expand(image.shape[0], -1, -1)
    return torch.baddbmm(offset.flatten(2), weights, neighbours.flatten(2)).view_as(offset)


def circular_correlation_sum(images: Tensor, kernels: Tensor) -> Tensor:
    """Adjoint of :func:`circular_convolution`: images [B, L, H, W] to their sum [B, 1, H, W]."""
    weights = kernels.flatten(1).T.expand(images.shape[0], -1, -1)
    planes = torch.bmm(weights, images.flatten(2)).unflatten(2, images.shape[-2:])
    left, middle, right = planes.unflatten(1, (3, 3)).unbind(2)
    rows = left.roll(1, -1).add_(middle).add_(right.roll(-1, -1))
    return rows[:, 0:1].roll(1, -2).add_(rows[:, 1:2]).add_(rows[:, 2:3].roll(-1, -2))


def lag_phases(height: int, width: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Phases of the lags -2 to 2 at the frequencies of an ``rfft2``, for :func:`power_spectrum`.

    Args:
        height: H of the image.
        width: W of the image.
        like: tensor of the dtype and device wanted.

    Returns:
        Cosines beside negative sines [H, 10] and cosines beside sines [W // 2 + 1, 10].
    """
    lag = torch.arange(-2, 3, device=like.device, dtype=like.dtype)
    row = torch.arange(height, device=like.device, dtype=like.dtype)[:, None] * (2 * math.pi / height) * lag
    column = torch.arange(width // 2 + 1, device=like.device, dtype=like.dtype)[:, None]
    column = column * (2 * math.pi / width) * lag
    return torch.cat((row.cos(), -row.sin()), dim=1), torch.cat((column.cos(), column.sin()), dim=1)


def power_spectrum(kernels: Tensor, weights: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """Weighted sum of the squared transfer functions of 3 x 3 kernels on the grid of an ``rfft2``.

    ``sum_l w_l |F h_l|^2`` is the transform of ``sum_l w_l (h_l correlated with itself)``, 25 numbers, so it
    costs two small matrix products and no FFT at the image's size.

    Args:
        kernels: [L, 3, 3].
        weights: [L].
        row: phases of the rows, [H, 10], of :func:`lag_phases`.
        column: phases of the columns, [W // 2 + 1, 10].

    Returns:
        [H, W // 2 + 1], DC at [0, 0].
    """
    weighted = kernels * weights[:, None, None]
    own = functional.conv2d(kernels.unsqueeze(0), weighted.unsqueeze(0), padding=2)[0, 0]
    # own is even, so its transform is real: the cosine of the sum of the two phases
    return torch.matmul(row.unflatten(1, (2, 5)), own).flatten(1) @ column.T
