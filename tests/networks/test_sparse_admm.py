"""The two transforms' own suite, and what ADMM does with them."""

from __future__ import annotations

import pytest
import torch
from single_coil import measured, smooth_images

from mdl_monai.networks.sparse_admm import SparseADMM
from mdl_monai.networks.tv_admm import TVReconstruction
from mdl_monai.networks.wavelet_admm import WaveletReconstruction
from mdl_monai.networks.zero_filled import ZeroFilled
from mdl_monai.physics.fourier import fft2c

METHODS = {"tv": TVReconstruction, "wavelet": WaveletReconstruction}
SIZES = [(12, 16), (9, 14), (15, 7)]


@pytest.fixture(params=METHODS)
def method(request: pytest.FixtureRequest) -> SparseADMM:
    return METHODS[request.param]()


@pytest.mark.parametrize("size", SIZES)
def test_synthesis_is_the_adjoint_of_analysis(method: SparseADMM, size: tuple[int, int]) -> None:
    image = torch.randn(2, 1, *size, dtype=torch.float64)
    coefficients = method.analysis(image)
    other = torch.randn_like(coefficients)
    adjoint = method.synthesis(other)
    assert adjoint.shape == image.shape
    torch.testing.assert_close((coefficients * other).sum(), (image * adjoint).sum())


@pytest.mark.parametrize("size", SIZES)
def test_power_spectrum_is_that_of_analysis_and_synthesis(method: SparseADMM, size: tuple[int, int]) -> None:
    image = torch.randn(2, 1, *size, dtype=torch.float64)
    spectrum = torch.fft.rfft2(image)
    expected = torch.fft.rfft2(method.synthesis(method.analysis(image)))
    power = method.power_spectrum(spectrum, size[1])
    torch.testing.assert_close(power * spectrum, expected, atol=1e-4, rtol=0)  # float32 frequencies


def test_differences_of_a_column_are_its_height_and_less_along_diagonals() -> None:
    image = torch.zeros(1, 1, 4, 8)
    image[..., 2:5] = 3.0
    down, right, diagonal, antidiagonal = TVReconstruction().analysis(image)[0, :, 0]
    assert not down.any()
    assert right.tolist() == [0, 3, 0, 0, -3, 0, 0, 0]
    torch.testing.assert_close(diagonal, right / 2**0.5)
    torch.testing.assert_close(antidiagonal, torch.tensor([0, 0, -3.0, 0, 0, 3.0, 0, 0]) / 2**0.5)


def test_total_variation_shortens_differences_without_turning_them() -> None:
    gradient = torch.tensor([3.0, 0.0, -4.0, 0.0]).reshape(1, 4, 1, 1)
    shrunk = TVReconstruction().shrink(gradient, 1.0).flatten()
    torch.testing.assert_close(shrunk, torch.tensor([2.4, 0.0, -3.2, 0.0]))
    assert not TVReconstruction().shrink(gradient, 6.0).any()


def test_wavelet_details_of_a_constant_are_zero_and_the_average_is_free() -> None:
    method = WaveletReconstruction(levels=2)
    coefficients = method.analysis(torch.full((1, 1, 6, 7), 2.5))
    assert not coefficients[:, :-1].any()
    torch.testing.assert_close(method.shrink(coefficients, 1.0), coefficients)


def test_wavelet_transform_follows_a_shift_of_the_image() -> None:
    image, shift = torch.randn(1, 1, 9, 11), (2, -3)
    method = WaveletReconstruction(levels=3)
    moved = method.analysis(image.roll(shift, (-2, -1)))
    torch.testing.assert_close(moved, method.analysis(image).roll(shift, (-2, -1)))


@pytest.mark.parametrize("name", METHODS)
def test_an_image_of_boxes_is_recovered_far_better_than_by_zero_filling(name: str) -> None:
    boxes = torch.zeros(1, 1, 48, 40)
    boxes[..., 8:30, 6:25] = 0.5
    boxes[..., 20:40, 15:35] = 1.0
    image = measured(boxes, ratio=0.45)
    error = (METHODS[name]()(image) - boxes).norm()
    assert error < 0.35 * (ZeroFilled()(image) - boxes).norm()


def test_more_iterations_lower_the_objective() -> None:
    """1/2 ||mask F x - y||^2 + weight TV(x), at a weight that matters."""
    images = smooth_images(20, 17, batch=1)
    image = measured(images, ratio=0.5)
    weight = 0.02

    def objective(iterations: int) -> float:
        method = TVReconstruction(weight, penalty=0.5, iterations=iterations)
        scale = ZeroFilled()(image).abs().max()
        x = method(image)
        data = measured_like(x, image) - image[:, :2]
        return (data.square().sum() / 2 + weight * scale * method.analysis(x).norm(dim=1).sum()).item()

    values = [objective(n) for n in (1, 10, 100, 300)]
    assert values[0] > values[1] > values[2]
    assert values[3] == pytest.approx(values[2], rel=1e-2)


def measured_like(x: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
    """Masked k-space of x [B, 1, H, W] with the mask of a network's input, [B, 2, H, W]."""
    kspace = image[:, 2:] * fft2c(x)
    return torch.cat((kspace.real, kspace.imag), dim=1)


@pytest.mark.parametrize("arguments", [{"weight": 0.0}, {"penalty": -1.0}, {"iterations": 0}])
def test_impossible_settings_are_refused(method: SparseADMM, arguments: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(arguments))):
        type(method)(**arguments)  # type: ignore[arg-type]


def test_no_wavelet_levels_are_refused() -> None:
    with pytest.raises(ValueError, match="levels"):
        WaveletReconstruction(levels=0)
