import pytest
import torch

from mdl_monai.networks.dct_filters import (
    circular_convolution,
    circular_correlation_sum,
    dct_atoms,
    lag_phases,
    power_spectrum,
)

SIZES = [(6, 9), (7, 8), (5, 3)]


def transfer_functions(kernels: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """FFT of kernels [L, 3, 3] centred on the origin of an H x W grid, [L, H, W]."""
    placed = torch.zeros(len(kernels), height, width, dtype=kernels.dtype)
    placed[:, :3, :3] = kernels
    return torch.fft.fft2(placed.roll((-1, -1), (1, 2)))


def test_atoms_are_orthonormal_and_have_no_mean() -> None:
    atoms = dct_atoms().flatten(1)
    torch.testing.assert_close(atoms @ atoms.T, torch.eye(8))
    torch.testing.assert_close(atoms.sum(1), torch.zeros(8), atol=1e-6, rtol=0)


def test_the_first_atom_varies_along_the_first_axis() -> None:
    first = dct_atoms()[0]
    torch.testing.assert_close(first, first[:, :1].expand(3, 3))
    assert first[0, 0] > 0 > first[2, 0]


@pytest.mark.parametrize("size", SIZES)
def test_convolution_is_the_product_of_the_spectra(size: tuple[int, int]) -> None:
    kernels = torch.randn(4, 3, 3, dtype=torch.float64)
    image = torch.randn(2, 1, *size, dtype=torch.float64)
    offset = torch.randn(2, 4, *size, dtype=torch.float64)
    spectrum = torch.fft.fft2(image) * transfer_functions(kernels, *size)
    expected = torch.fft.ifft2(spectrum).real + offset
    torch.testing.assert_close(circular_convolution(image, kernels, offset), expected)


@pytest.mark.parametrize("size", SIZES)
def test_correlation_sum_is_the_adjoint_of_the_convolution(size: tuple[int, int]) -> None:
    kernels = torch.randn(4, 3, 3, dtype=torch.float64)
    image = torch.randn(2, 1, *size, dtype=torch.float64)
    images = torch.randn(2, 4, *size, dtype=torch.float64)
    forward = circular_convolution(image, kernels, torch.zeros_like(images))
    adjoint = circular_correlation_sum(images, kernels)
    assert adjoint.shape == image.shape
    torch.testing.assert_close((forward * images).sum(), (image * adjoint).sum())


@pytest.mark.parametrize("size", SIZES)
def test_power_spectrum_is_the_weighted_sum_of_squared_transfer_functions(size: tuple[int, int]) -> None:
    kernels = torch.randn(4, 3, 3, dtype=torch.float64)
    weights = torch.rand(4, dtype=torch.float64)
    squares = transfer_functions(kernels, *size).abs().square()
    expected = (weights[:, None, None] * squares).sum(0)[:, : size[1] // 2 + 1]
    phases = lag_phases(*size, like=kernels)
    torch.testing.assert_close(power_spectrum(kernels, weights, *phases), expected)
