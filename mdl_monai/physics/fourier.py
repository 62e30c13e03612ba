"""Centred orthonormal Fourier transforms and the masked Fourier operator of single-coil MRI."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def fft2c(image: Tensor) -> Tensor:
    """Centred orthonormal 2D FFT over the last two axes: image [..., H, W] to complex k-space, DC at H//2, W//2."""
    spectrum = torch.fft.fft2(torch.fft.ifftshift(image, dim=(-2, -1)), norm="ortho")
    return torch.fft.fftshift(spectrum, dim=(-2, -1))


def ifft2c(kspace: Tensor) -> Tensor:
    """Inverse (and adjoint) of :func:`fft2c`: k-space [..., H, W], DC at H//2, W//2, to the complex image."""
    image = torch.fft.ifft2(torch.fft.ifftshift(kspace, dim=(-2, -1)), norm="ortho")
    return torch.fft.fftshift(image, dim=(-2, -1))


def fftc(image: Tensor, axis: int) -> Tensor:
    """Centred orthonormal FFT along one axis, DC at n // 2."""
    return torch.fft.fftshift(torch.fft.fft(torch.fft.ifftshift(image, axis), dim=axis, norm="ortho"), axis)


def ifftc(kspace: Tensor, axis: int) -> Tensor:
    """Inverse of :func:`fftc`."""
    return torch.fft.fftshift(torch.fft.ifft(torch.fft.ifftshift(kspace, axis), dim=axis, norm="ortho"), axis)


class MaskedFourier(nn.Module):
    """Single-coil sampling ``A x = mask * F x``, F the centred orthonormal Fourier transform.

    Args:
        mask: sampling mask, bool or float, broadcastable to [B, C, H, W], DC at H//2, W//2. Float masks act as
            weights; for a binary mask the adjoint is the pseudo-inverse (A A^H A = A).
        real_image: the image space holds real images, so the adjoint takes the real part.
    """

    mask: Tensor

    def __init__(self, mask: Tensor, real_image: bool = False) -> None:
        super().__init__()
        if mask.ndim < 2:
            raise ValueError(f"mask needs at least two axes (H, W), found shape {tuple(mask.shape)}")
        self.register_buffer("mask", mask if mask.is_floating_point() else mask.float())
        self.real_image = real_image

    def A(self, image: Tensor) -> Tensor:
        """Measure: image [B, C, H, W], real or complex, to masked complex k-space [B, C, H, W]."""
        return self.mask * fft2c(image)

    def A_adjoint(self, kspace: Tensor) -> Tensor:
        """Zero-filled image of k-space [B, C, H, W]; real if ``real_image``."""
        image = ifft2c(self.mask * kspace)
        return image.real if self.real_image else image

    def A_dagger(self, kspace: Tensor) -> Tensor:
        """Minimum-norm least-squares image of k-space [B, C, H, W].

        For a real image the samples at k and -k are two views of one unknown, so the pseudo-inverse divides
        the adjoint's spectrum by the mean of mask^2 at k and -k.
        """
        if not self.real_image:
            weight = self.mask**2
            inverse = torch.where(weight > 0, 1 / weight.clamp_min(torch.finfo(weight.dtype).tiny), 0)
            return ifft2c(inverse * self.mask * kspace)
        weight = hermitian_mean(self.mask**2)
        inverse = torch.where(weight > 0, 1 / weight.clamp_min(torch.finfo(weight.dtype).tiny), 0)
        return ifft2c(inverse * fft2c(self.A_adjoint(kspace))).real

    def forward(self, image: Tensor) -> Tensor:
        """Same as :meth:`A`."""
        return self.A(image)


def hermitian_mean(mask: Tensor) -> Tensor:
    """Mean of a centred mask [..., H, W] at k and at -k: what a real image feels of the mask."""
    plain = torch.fft.ifftshift(mask, dim=(-2, -1))
    mirrored = torch.roll(torch.flip(plain, dims=(-2, -1)), shifts=(1, 1), dims=(-2, -1))
    return torch.fft.fftshift((plain + mirrored) / 2, dim=(-2, -1))
