"""Centred orthonormal Fourier transforms, and what a real image makes of a mask."""

from __future__ import annotations

import torch
from torch import Tensor


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


def hermitian_mean(mask: Tensor) -> Tensor:
    """Mean of a centred mask [..., H, W] at k and at -k: what a real image feels of the mask."""
    plain = torch.fft.ifftshift(mask, dim=(-2, -1))
    mirrored = torch.roll(torch.flip(plain, dims=(-2, -1)), shifts=(1, 1), dims=(-2, -1))
    return torch.fft.fftshift((plain + mirrored) / 2, dim=(-2, -1))
