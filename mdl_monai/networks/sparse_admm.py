"""Classical compressive-sensing MRI: ADMM on a transform's sparsity, with the border of our networks."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from mdl_monai.networks.float32_region import float32_region
from mdl_monai.networks.reconstruction_border import real_image_data


class SparseADMM(nn.Module, ABC):
    """Reconstruct a real image by ``min_x 1/2 ||mask F x - y||^2 + weight ||W x||_1`` with ADMM.

    The splitting is v = W x with scaled dual u; the x step is closed-form because W^T W is a circular
    convolution (Boyd et al. 2011, doi:10.1561/2200000016). A subclass gives W, W^T and the spectrum of W^T W.
    The image is scaled by the zero-filled image's peak and back, so the result is homogeneous in the data.

    Args:
        weight: weight of the sparsity, for images of peak 1.
        penalty: ADMM's penalty on W x - v.
        iterations: number of iterations.
    """

    def __init__(self, weight: float, penalty: float, iterations: int) -> None:
        super().__init__()
        if weight <= 0 or penalty <= 0 or iterations < 1:
            raise ValueError(
                f"weight and penalty must be positive and iterations at least 1, "
                f"found {weight}, {penalty} and {iterations}"
            )
        self.weight, self.penalty, self.iterations = weight, penalty, iterations

    @abstractmethod
    def analysis(self, image: Tensor) -> Tensor:
        """W: image [B, 1, H, W] to coefficients [B, K, H, W]."""

    @abstractmethod
    def synthesis(self, coefficients: Tensor) -> Tensor:
        """W^T: coefficients [B, K, H, W] to image [B, 1, H, W]."""

    @abstractmethod
    def power_spectrum(self, spectrum: Tensor, width: int) -> Tensor:
        """Transfer function of W^T W for images of this width, broadcastable to spectrum [B, 1, H, W // 2 + 1]."""

    def shrink(self, coefficients: Tensor, threshold: float) -> Tensor:
        """Proximal map of threshold * ||.||_1: [B, K, H, W] to the same shape."""
        return coefficients - coefficients.clamp(-threshold, threshold)

    @torch.no_grad()
    def forward(self, image: Tensor) -> Tensor:
        """Reconstruct: real and imaginary part of the masked k-space and mask [B, 3, H, W], to [B, 1, H, W]."""
        with float32_region(image.device.type):
            return self._reconstruct(image.float())

    def _reconstruct(self, image: Tensor) -> Tensor:
        spectrum, mask = real_image_data(image)
        size = image.shape[-2:]
        x = torch.fft.irfft2(spectrum, s=size, norm="ortho")
        peak = x.abs().amax(dim=(-2, -1), keepdim=True).clamp_min(torch.finfo(x.dtype).tiny)
        x, spectrum = x / peak, spectrum / peak
        power = self.power_spectrum(spectrum, size[1])
        inverse = 1 / (mask + self.penalty * power).clamp_min(1e-6)
        sampled, prior = spectrum * inverse, inverse * self.penalty
        dual: Tensor | float = 0.0
        for _ in range(self.iterations):
            coefficients = self.analysis(x) + dual
            sparse = self.shrink(coefficients, self.weight / self.penalty)
            dual = coefficients - sparse
            update = torch.fft.rfft2(self.synthesis(sparse - dual), norm="ortho")
            x = torch.fft.irfft2(sampled + prior * update, s=size, norm="ortho")
        return x * peak
