"""Transforms: orthonormal, seeded, and spread an image over their coefficients."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mdl_monai.errors import InputError
from mdl_monai.physics.fourier import fft2c
from mdl_monai.physics.orthonormal import (
    BLOCK,
    BlockGaussian,
    CodedDiffraction,
    Fourier,
    OrthonormalTransform,
    PermutedHadamard,
)

TRANSFORMS = [BlockGaussian, PermutedHadamard, CodedDiffraction, Fourier]
SHAPE = (64, 96)
every_transform = pytest.mark.parametrize("kind", TRANSFORMS)


def image(*shape: int) -> torch.Tensor:
    return torch.randn(2, 1, *shape, dtype=torch.float64)


@every_transform
def test_the_inverse_is_one_from_both_sides(kind: type[OrthonormalTransform]) -> None:
    transform, x = kind(), image(*SHAPE)
    c = transform(x)
    assert c.shape == x.shape
    torch.testing.assert_close(transform.inverse(c).real, x, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(transform(transform.inverse(c)), c, atol=1e-5, rtol=1e-5)


@every_transform
def test_products_are_kept(kind: type[OrthonormalTransform]) -> None:
    transform, x, y = kind(), image(*SHAPE), image(*SHAPE)
    before, after = (x * y).sum(), (transform(x).conj() * transform(y)).sum().real
    torch.testing.assert_close(after, before, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("kind", [BlockGaussian, PermutedHadamard, CodedDiffraction])
def test_random_transforms_spread_an_image_evenly_and_depend_on_their_seed(
    kind: type[OrthonormalTransform],
) -> None:
    row, column = torch.meshgrid(*(torch.arange(n) for n in SHAPE), indexing="ij")
    x = torch.cos(row / 3 + column / 5)[None, None]  # of which the Fourier transform makes a few points
    c = kind()(x).abs()
    assert c.square().max() < 0.01 * x.square().sum() < Fourier()(x).abs().square().max()
    torch.testing.assert_close(kind(seed=0)(x).abs(), c)
    assert (kind(seed=1)(x).abs() - c).abs().mean() > 0.1  # type: ignore[call-arg]


def test_blocks_do_not_mix() -> None:
    x = torch.zeros(1, 1, 64, 96)
    x[..., 3, 70] = 1
    for transform in (BlockGaussian(), BlockGaussian(seed=5)):
        c = transform(x)
        assert c[..., :BLOCK, 2 * BLOCK :].abs().min() > 0
        c[..., :BLOCK, 2 * BLOCK :] = 0
        assert not c.any()


@pytest.mark.parametrize("kind", [BlockGaussian, PermutedHadamard])
def test_blocks_must_be_whole(kind: type[OrthonormalTransform]) -> None:
    for call in (kind().forward, kind().inverse):
        with pytest.raises(InputError, match="(?s)multiples of 32.*64 x 40.*pad"):
            call(torch.zeros(1, 1, 64, 40))


@every_transform
def test_what_a_real_image_feels_of_a_mask(kind: type[OrthonormalTransform]) -> None:
    transform, x = kind(), image(*SHAPE)
    mask = torch.from_numpy(transform.mask(0.3, *SHAPE, np.random.default_rng(0))).double()[None, None]
    felt = transform.inverse(transform.felt_by_real_images(mask) * transform(x))
    if felt.is_complex():
        assert felt.imag.abs().max() < 1e-9
    torch.testing.assert_close(felt.real, transform.inverse(mask * transform(x)).real, atol=1e-9, rtol=1e-6)


def test_the_fourier_transform_is_the_centred_one_and_prefers_low_frequencies() -> None:
    x = image(31, 44)
    torch.testing.assert_close(Fourier()(x), fft2c(x))
    mask = Fourier().mask(0.2, 64, 64, np.random.default_rng(0))
    assert mask[24:40, 24:40].mean() > 2 * mask.mean()


@pytest.mark.parametrize("mask_type", ["cartesian1d", "pseudo_radial", "poisson"])
def test_the_fourier_transform_takes_every_mask_type(mask_type: str) -> None:
    transform = Fourier(mask_type)
    mask = transform.mask(0.3, 64, 64, np.random.default_rng(0))
    assert mask.mean() == pytest.approx(0.3, abs=0.03)
    assert mask.any(0).mean() > 0.9 or mask_type == "cartesian1d"


def test_every_gaussian_block_has_the_same_rows() -> None:
    mask = BlockGaussian().mask(0.2, 64, 96, np.random.default_rng(0))
    assert (mask == np.tile(mask[:BLOCK, :BLOCK], (2, 3))).all()
