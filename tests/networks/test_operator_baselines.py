"""Classical reconstruction by an operator: what each minimises, and that it helps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mdl_monai.metrics.reconstruction import reconstruction_metrics
from mdl_monai.networks.operator_baselines import AdjointImage, LeastSquares, OperatorTV, OperatorWavelet
from mdl_monai.networks.tv_admm import TVReconstruction, differences
from mdl_monai.phantoms.head import head_phantom
from mdl_monai.physics.masked_transform import MaskedTransform
from mdl_monai.physics.orthonormal import Fourier
from mdl_monai.physics.sampling import CoilSampling
from mdl_monai.physics.sense import Sense
from mdl_monai.physics.sensing import from_channels, to_channels


@pytest.fixture(scope="module")
def scan() -> tuple[Tensor, Tensor]:
    """Label [1, 2, H, W] and the network's input of four coils at 30 %."""
    image = head_phantom(0, (64, 60, 1), (3.2, 3.2, 5.0)).mr[..., 0]
    image = image / image.max()
    label = torch.stack([image, 0.5 * image])[None]
    sampling = CoilSampling("cartesian1d", 0.3, 4).draw(64, 60, np.random.default_rng(0))[None]
    operator = Sense()
    adjoint = operator.A_adjoint(operator.A(from_channels(label), sampling), sampling)
    return label, torch.cat([to_channels(adjoint), sampling], 1)


def psnr(network: nn.Module, scan: tuple[Tensor, Tensor]) -> float:
    label, image = scan
    magnitudes = [part.square().sum(1).sqrt() for part in (network(image), label)]
    return reconstruction_metrics(*magnitudes)["psnr"]


def test_each_is_better_than_the_one_that_knows_less(scan: tuple[Tensor, Tensor]) -> None:
    sense = Sense(5)
    adjoint, least = psnr(AdjointImage(sense), scan), psnr(LeastSquares(sense), scan)
    assert least > adjoint + 2
    for better in (OperatorTV(sense, 2e-4, 0.05, 40), OperatorWavelet(sense, 2e-4, 0.05, 40)):
        assert psnr(better, scan) > least + 0.5
    phase = OperatorWavelet(sense, 2e-4, 0.05, 40, phase_width=0.06)
    assert psnr(phase, scan) > psnr(OperatorWavelet(sense, 2e-4, 0.05, 40), scan) + 0.3


@pytest.mark.parametrize("baseline", [LeastSquares, OperatorTV, OperatorWavelet])
def test_a_scaled_measurement_gives_the_scaled_image(
    baseline: type[nn.Module], scan: tuple[Tensor, Tensor]
) -> None:
    network = baseline(Sense(3), iterations=4)  # type: ignore[call-arg]
    scaled = torch.cat([100 * scan[1][:, :2], scan[1][:, 2:]], 1)
    torch.testing.assert_close(network(scaled), 100 * network(scan[1]), atol=1e-2, rtol=1e-3)


def test_tv_finds_the_minimum_that_our_closed_form_solver_finds() -> None:
    """Of the same energy, by another splitting and another code."""
    image = head_phantom(0, (40, 44, 1), (5.0, 5.0, 5.0)).mr[..., 0][None, None]
    image = image / image.max()
    operator = MaskedTransform(Fourier())
    mask = torch.from_numpy(Fourier("pseudo_radial").mask(0.3, 40, 44, np.random.default_rng(0))).float()[
        None, None
    ]
    measurement = operator.A(image, mask)
    adjoint = operator.A_adjoint(measurement, mask)
    peak, weight = adjoint.abs().max(), 1e-2

    def energy(x: Tensor) -> float:
        x = x / peak
        data = 0.5 * (operator.A(x, mask) - measurement / peak).abs().square().sum()
        return float(data + weight * differences(x).square().sum(1).sqrt().sum())

    ours = OperatorTV(operator, weight, 0.2, 400)(torch.cat([adjoint, mask], 1))
    border = torch.cat([measurement.real, measurement.imag, mask], 1)
    theirs = TVReconstruction(weight, 0.2, 800)(border)
    assert energy(ours) == pytest.approx(energy(theirs), rel=2e-3)
    assert energy(ours) < 0.9 * energy(adjoint)


def test_the_phase_of_real_images_is_refused() -> None:
    with pytest.raises(ValueError, match="complex images"):
        OperatorWavelet(MaskedTransform(Fourier()), phase_width=0.04)
