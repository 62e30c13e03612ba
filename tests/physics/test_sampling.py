"""What is measured: the share that was asked for, drawn anew by the generator, told in words."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mdl_monai.errors import InputError
from mdl_monai.physics.mixture import SamplingMixture
from mdl_monai.physics.orthonormal import BlockGaussian, CodedDiffraction, Fourier, PermutedHadamard
from mdl_monai.physics.sampling import CoefficientSampling, CoilSampling, ratio_range


@pytest.mark.parametrize("kind", [BlockGaussian, PermutedHadamard, CodedDiffraction, Fourier])
@pytest.mark.parametrize("ratio", [0.01, 0.1, 0.25, 0.5, 1.0])
def test_the_ratio_is_reached_within_rounding(kind: type, ratio: float) -> None:
    sampling = CoefficientSampling(kind(), ratio)
    mask = sampling.draw(64, 96, np.random.default_rng(0))
    assert mask.shape == (1, 64, 96) and set(mask.unique().tolist()) <= {0, 1}
    units = 32 * 32 if kind is BlockGaussian else 64 * 96
    assert float(mask.mean()) == pytest.approx(ratio, abs=0.51 / units)
    assert kind.__name__ in sampling.told and f"{ratio:g}" in sampling.told


def test_at_least_one_coefficient_is_measured() -> None:
    mask = CoefficientSampling(CodedDiffraction(), 1e-6).draw(16, 16, np.random.default_rng(0))
    assert mask.sum() == 1


def test_a_generator_repeats_itself_and_draws_anew() -> None:
    sampling = CoefficientSampling(CodedDiffraction(), (0.1, 0.5))
    rng, again = np.random.default_rng(3), np.random.default_rng(3)
    masks = [sampling.draw(32, 40, rng) for _ in range(6)]
    assert all(torch.equal(mask, sampling.draw(32, 40, again)) for mask in masks)
    ratios = [float(mask.mean()) for mask in masks]
    assert len(set(ratios)) == 6 and min(ratios) > 0.09 and max(ratios) < 0.51


@pytest.mark.parametrize("ratio", [0, -0.1, 1.01, 25, (0.3, 0.2), (0.0, 0.5), float("nan")])
def test_a_ratio_that_is_no_share_is_refused(ratio: float) -> None:
    with pytest.raises(InputError, match="(?s)not a share.*--sampling_ratio"):
        ratio_range(ratio)


def test_a_mixture_names_the_operator_in_its_last_channel() -> None:
    kinds = [CodedDiffraction(), Fourier()]
    mixture = SamplingMixture([CoefficientSampling(kinds[0], 0.1), CoefficientSampling(kinds[1], 0.4)])
    assert "CodedDiffraction" in mixture.told and "Fourier" in mixture.told
    rng = np.random.default_rng(0)
    drawn = [mixture.draw(32, 32, rng) for _ in range(20)]
    numbers = [int(sampling[-1].unique().item()) for sampling in drawn]
    assert set(numbers) == {0, 1}
    for number, sampling in zip(numbers, drawn, strict=True):
        assert sampling.shape == (2, 32, 32)
        assert float(sampling[0].mean()) == pytest.approx((0.1, 0.4)[number], abs=1e-3)


@pytest.mark.parametrize("coils", [1, 4])
def test_coils_come_with_a_mask_and_maps_of_energy_one(coils: int) -> None:
    sampling = CoilSampling("random2d", 0.3, coils).draw(24, 30, np.random.default_rng(0))
    assert sampling.shape == (1 + 2 * coils, 24, 30)
    assert float(sampling[0].mean()) == pytest.approx(0.3, abs=1e-3)
    torch.testing.assert_close(sampling[1:].square().sum(0), torch.ones(24, 30), atol=1e-4, rtol=1e-4)


def test_fewer_coils_than_the_most_leave_empty_maps_so_that_draws_batch() -> None:
    sampling, rng = CoilSampling("random2d", 0.3, [1, 3], vary=True), np.random.default_rng(0)
    drawn = torch.stack([sampling.draw(16, 16, rng) for _ in range(12)])
    used = (drawn[:, 1:4].abs() + drawn[:, 4:].abs()).sum((2, 3)) > 0
    assert {int(n) for n in used.sum(1)} == {1, 3}


def test_bad_coils_and_masks_are_refused() -> None:
    with pytest.raises(InputError, match="needs a coil"):
        CoilSampling("random2d", 0.3, 0)
    with pytest.raises(InputError, match="(?s)unknown mask type.*poisson.*spiral"):
        CoilSampling({"spiral": 1.0}, 0.3, 2)
