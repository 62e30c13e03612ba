from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from mdl_monai.physics.fourier import fft2c, hermitian_mean, ifft2c

SHAPES = [(8, 8), (7, 10), (12, 5), (9, 9)]


@pytest.mark.parametrize("shape", SHAPES)
def test_fft_equals_numpys_centred_orthonormal_one(shape: tuple[int, int]) -> None:
    x = torch.randn(2, *shape, dtype=torch.complex128)
    expected = np.fft.fftshift(
        np.fft.fft2(np.fft.ifftshift(x.numpy(), axes=(-2, -1)), norm="ortho"), axes=(-2, -1)
    )
    torch.testing.assert_close(fft2c(x), torch.from_numpy(expected))
    torch.testing.assert_close(ifft2c(fft2c(x)), x)


def test_a_centred_gaussian_has_the_analytic_spectrum() -> None:
    h, w, sigma = 48, 61, 3.0
    y = torch.arange(h, dtype=torch.float64)[:, None] - h // 2
    x = torch.arange(w, dtype=torch.float64)[None, :] - w // 2
    image = torch.exp(-(x**2 + y**2) / (2 * sigma**2))
    exponent = -2 * (math.pi * sigma) ** 2 * ((x / w) ** 2 + (y / h) ** 2)
    expected = 2 * math.pi * sigma**2 / math.sqrt(h * w) * torch.exp(exponent)
    torch.testing.assert_close(fft2c(image).real, expected, atol=1e-6, rtol=1e-6)
    assert fft2c(image).imag.abs().max() < 1e-6


@pytest.mark.parametrize("shape", SHAPES)
def test_hermitian_mean_is_what_a_real_image_sees_of_a_mask(shape: tuple[int, int]) -> None:
    mask = (torch.rand(shape, dtype=torch.float64) < 0.4).double()
    image = torch.randn(shape, dtype=torch.float64)
    seen = ifft2c(mask * fft2c(image)).real
    torch.testing.assert_close(fft2c(seen), hermitian_mean(mask) * fft2c(image))
