"""Shift-invariant Haar wavelet reconstruction, a classical baseline of compressive-sensing MRI."""

from __future__ import annotations

import torch
from torch import Tensor

from mdl_monai.networks.sparse_admm import SparseADMM


def haar_split(signal: Tensor, step: int, axis: int) -> tuple[Tensor, Tensor]:
    """Half sum and half difference of each pixel and the one `step` further along the axis, circularly."""
    shifted = signal.roll(-step, axis)
    return (signal + shifted).mul_(0.5), signal.sub(shifted).mul_(0.5)


def haar_merge(low: Tensor, high: Tensor, step: int, axis: int) -> Tensor:
    """Adjoint, and here inverse, of :func:`haar_split`."""
    return (low - high).roll(step, axis).add_(low).add_(high).mul_(0.5)


class WaveletReconstruction(SparseADMM):
    """Sparsity in the undecimated Haar wavelet transform, a tight frame: W^T W = 1.

    Args:
        weight: weight of the detail coefficients, for images of peak 1; the coarsest average is free.
        penalty: ADMM's penalty on W x - v.
        iterations: number of iterations.
        levels: number of scales; level j compares pixels 2^j apart, circularly.
    """

    def __init__(
        self, weight: float = 1e-4, penalty: float = 0.03, iterations: int = 60, levels: int = 4
    ) -> None:
        super().__init__(weight, penalty, iterations)
        if levels < 1:
            raise ValueError(f"levels must be at least 1, found {levels}")
        self.levels = levels

    def analysis(self, image: Tensor) -> Tensor:
        """Details of all levels, finest first, and the last average: [B, 1, H, W] to [B, 3 levels + 1, H, W]."""
        bands = []
        for level in range(self.levels):
            low, high = haar_split(image, 2**level, -1)
            image, low_detail = haar_split(low, 2**level, -2)
            bands += [low_detail, *haar_split(high, 2**level, -2)]
        return torch.cat((*bands, image), dim=1)

    def synthesis(self, coefficients: Tensor) -> Tensor:
        """Adjoint of :meth:`analysis`: [B, 3 levels + 1, H, W] to [B, 1, H, W]."""
        *bands, image = coefficients.split(1, dim=1)
        for level in reversed(range(self.levels)):
            low_detail, high_average, high_detail = bands[3 * level : 3 * level + 3]
            low = haar_merge(image, low_detail, 2**level, -2)
            high = haar_merge(high_average, high_detail, 2**level, -2)
            image = haar_merge(low, high, 2**level, -1)
        return image

    def power_spectrum(self, spectrum: Tensor, width: int) -> Tensor:
        """One at every frequency, a scalar tensor."""
        return torch.ones((), device=spectrum.device)

    def shrink(self, coefficients: Tensor, threshold: float) -> Tensor:
        """Soft threshold of all but the last band."""
        sparse = super().shrink(coefficients, threshold)
        sparse[:, -1] = coefficients[:, -1]
        return sparse
