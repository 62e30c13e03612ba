"""The phase that the low frequencies tell."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from mdl_monai.physics.phase import low_frequency_phase

SIZES = [(40, 52), (41, 35), (48, 33)]


def magnitude(h: int, w: int) -> Tensor:
    """A bright body with fine texture, positive everywhere."""
    row, column = torch.linspace(-1, 1, h)[:, None], torch.linspace(-1, 1, w)
    return 0.2 + (row**2 + column**2 < 0.7).float() + 0.1 * torch.rand(h, w)


def smooth(h: int, w: int) -> Tensor:
    row, column = torch.linspace(-1, 1, h)[:, None], torch.linspace(-1, 1, w)
    angle = 0.7 + 1.5 * row - column + 0.5 * row * column
    return torch.polar(torch.ones(h, w), angle)


@pytest.mark.parametrize("size", SIZES)
def test_a_smooth_phase_is_found(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    image = torch.stack([magnitude(*size), magnitude(*size)])[:, None] * smooth(*size)
    found = low_frequency_phase(image, 0.08)
    assert found.shape == image.shape
    torch.testing.assert_close(found.abs(), torch.ones(image.shape), atol=1e-5, rtol=0)
    error = (found * smooth(*size).conj()).angle()[..., 4:-4, 4:-4]  # the edges wrap round
    assert error.abs().max() < 0.25
    flat = image * found.conj()
    assert flat.imag.square().sum() < 0.02 * flat.real.square().sum()


@pytest.mark.parametrize("size", SIZES)
def test_a_turned_and_scaled_image_has_the_turned_phase(size: tuple[int, int]) -> None:
    image = torch.randn(2, 1, *size, dtype=torch.complex64)
    turn = complex(math.cos(1.1), math.sin(1.1))
    expected = turn * low_frequency_phase(image, 0.1)
    torch.testing.assert_close(low_frequency_phase(30 * turn * image, 0.1), expected, atol=1e-4, rtol=1e-4)


def test_a_wide_window_gives_the_pixels_own_phase() -> None:
    image = torch.randn(1, 1, 9, 12, dtype=torch.complex128)
    torch.testing.assert_close(low_frequency_phase(image, 1e4), image / image.abs())


def test_nothing_has_the_phase_of_one_and_no_gradient_goes_through() -> None:
    assert torch.equal(low_frequency_phase(torch.zeros(1, 1, 8, 6) + 0j, 0.1), torch.ones(1, 1, 8, 6) + 0j)
    assert not low_frequency_phase(torch.ones(1, 1, 8, 6, requires_grad=True) + 0j, 0.1).requires_grad
