from __future__ import annotations

import pytest
import torch

from mdl_monai.inferers.complex_slices import ComplexSlicewise, smooth_phase
from mdl_monai.inferers.slicewise import SlicewiseInferer
from mdl_monai.networks.zero_filled import ZeroFilled
from mdl_monai.physics.fourier import fft2c


def scene(h: int = 30, w: int = 37) -> tuple[torch.Tensor, torch.Tensor]:
    """A smooth magnitude and a phase that turns once and a half over it."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, h), torch.linspace(-1, 1, w), indexing="ij")
    magnitude = torch.exp(-3 * (x**2 + 0.8 * y**2))
    return magnitude, torch.polar(torch.ones_like(x), 3 * x + 1.5 * y**2)


def border(image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    kspace = fft2c(image) * mask
    return torch.stack([kspace.real, kspace.imag, mask])[None]


def test_the_smooth_phase_is_that_of_the_image() -> None:
    magnitude, phase = scene()
    mask = torch.zeros(30, 37)
    mask[7:24, 10:28] = 1
    found = smooth_phase(fft2c(magnitude * phase)[None, None] * mask, mask[None, None])[0, 0]
    inside = magnitude > 0.2
    assert (found * phase.conj()).angle()[inside].abs().max() < 0.1
    assert torch.allclose(found.abs(), torch.ones(30, 37))


def test_fully_sampled_comes_back_as_its_magnitude_whatever_the_network_says() -> None:
    magnitude, phase = scene()
    found = ComplexSlicewise(iterations=3)(
        border(magnitude * phase, torch.ones(30, 37)), lambda b: torch.randn_like(b[:, :1])
    )
    assert torch.allclose(found[0, 0], magnitude, atol=1e-5)


def test_the_network_sees_real_images_of_the_same_mask_and_helps() -> None:
    magnitude, phase = scene()
    generator = torch.Generator().manual_seed(0)
    mask = (torch.rand(30, 37, generator=generator) < 0.4).float()
    mask[11:19, 14:23] = 1
    seen = []

    def perfect(b: torch.Tensor) -> torch.Tensor:
        seen.append(b)
        return magnitude[None, None]

    given = border(magnitude * phase, mask)
    found = ComplexSlicewise(iterations=2)(given, perfect)
    naive = SlicewiseInferer()(given, ZeroFilled())
    assert len(seen) == 2 and all(torch.equal(b[0, 2], mask) for b in seen)
    assert (found[0, 0] - magnitude).norm() < 0.1 * (naive[0, 0].abs() - magnitude).norm()


@pytest.mark.parametrize("depth", [1, 5])
def test_volumes_slice_by_slice(depth: int) -> None:
    magnitude, phase = scene()
    mask = torch.ones(30, 37)
    mask[:, ::5] = 0
    one = border(magnitude * phase, mask)
    volume = torch.stack(
        [(n + 1) * one * torch.tensor([1, 1, 1 / (n + 1)])[:, None, None] for n in range(depth)], -1
    )
    inferer = ComplexSlicewise(slices_per_batch=2)
    found = inferer(volume, ZeroFilled())
    assert found.shape == (1, 1, 30, 37, depth)
    for n in range(depth):
        assert torch.allclose(found[..., n], (n + 1) * inferer(one, ZeroFilled()), rtol=1e-4, atol=1e-5)
