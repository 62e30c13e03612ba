from __future__ import annotations

import math

import pytest
import torch

from mdl_monai.losses.uncertainty import UncertaintyLoss, magnitude


def test_it_is_the_gaussian_log_likelihood_of_the_magnitudes_error() -> None:
    pred = torch.tensor([3.0, 4.0, 0.5])[None, :, None, None]  # magnitude 5, sigma 0.5
    label = torch.tensor([0.0, 6.0])[None, :, None, None]
    expected = (6 - 5) ** 2 / (2 * 0.5**2) + math.log(0.5)
    assert UncertaintyLoss()(pred, label).item() == pytest.approx(expected)


@pytest.mark.parametrize("channels", [1, 2])
def test_it_is_smallest_at_the_root_mean_square_of_the_error(channels: int) -> None:
    torch.manual_seed(0)
    label = torch.rand(2, channels, 40, 30) + 1
    image = label + 0.1 * torch.distributions.Laplace(0.0, 1.0).sample(label.shape)  # not Gaussian
    best = (magnitude(image) - magnitude(label)).square().mean().sqrt()

    def loss(sigma: torch.Tensor) -> float:
        return float(UncertaintyLoss()(torch.cat([image, sigma.expand(2, 1, 40, 30)], 1), label))

    assert loss(best) < min(loss(0.9 * best), loss(1.1 * best))


@pytest.mark.parametrize("channels", [2, 4])
def test_a_result_without_a_sigma_is_refused(channels: int) -> None:
    with pytest.raises(ValueError, match="no image and sigma"):
        UncertaintyLoss()(torch.rand(1, channels, 5, 4), torch.rand(1, 2, 5, 4))


def test_a_sigma_of_nothing_counts_as_the_floor() -> None:
    label = torch.rand(1, 1, 5, 4)
    pred = torch.cat([label + 0.1, torch.zeros(1, 1, 5, 4)], 1).requires_grad_()
    loss = UncertaintyLoss(floor=0.01)(pred, label)
    loss.backward()
    assert loss.item() == pytest.approx(50 + math.log(0.01), rel=1e-3)
    assert torch.isfinite(pred.grad).all()
