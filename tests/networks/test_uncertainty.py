"""The head beside the reconstruction: it leaves the image alone, follows its scale, and learns."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mdl_monai.losses.uncertainty import UncertaintyLoss
from mdl_monai.networks.operator_admm_net import OperatorADMMNet
from mdl_monai.networks.uncertainty import FIRST_SIGMA, UncertaintyHead, WithUncertainty
from mdl_monai.physics.masked_transform import MaskedTransform
from mdl_monai.physics.orthonormal import Fourier
from mdl_monai.physics.sensing import SensingOperator, to_channels

COMPLEX = MaskedTransform(Fourier("cartesian1d"), complex_image=True)
REAL = MaskedTransform(Fourier())


def network_of(operator: SensingOperator) -> WithUncertainty:
    torch.manual_seed(0)
    network = OperatorADMMNet(operator, stages=3, features=6, deep_features=8, levels=2)
    for prior in network.priors:  # as if trained: the CNN says something
        torch.nn.init.normal_(prior.tail.weight, std=0.02)
    return WithUncertainty(network, UncertaintyHead(3, 6, 8))


def measured(operator: SensingOperator, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    parts = torch.rand(2, 2 if operator.complex_image else 1, *size, generator=generator)
    image = torch.complex(*parts.split(1, 1)) if operator.complex_image else parts
    mask = (torch.rand(2, 1, *size, generator=generator) < 0.4).float()
    adjoint = operator.A_adjoint(operator.A(image, mask), mask)
    return torch.cat([to_channels(adjoint), mask], 1), parts


@pytest.mark.parametrize("operator", [COMPLEX, REAL])
@pytest.mark.parametrize("size", [(21, 26), (16, 20)])
def test_the_image_is_the_networks_own_and_sigma_starts_at_a_constant(
    operator: SensingOperator, size: tuple[int, int]
) -> None:
    both, (border, image) = network_of(operator), measured(operator, size)
    pred = both(border)
    channels = image.shape[1]
    assert pred.shape == (2, channels + 1, *size)
    assert torch.equal(pred[:, :channels], both.network(border))
    peak = border[:, :channels].square().sum(1).sqrt().amax((1, 2))
    torch.testing.assert_close(pred[:, -1], (FIRST_SIGMA * peak)[:, None, None].expand(2, *size))


def test_sigma_has_the_scale_of_the_image() -> None:
    both, (border, _) = network_of(COMPLEX), measured(COMPLEX, (20, 24))
    torch.nn.init.normal_(both.head.cnn.tail.weight, std=0.1)
    louder = border.clone()
    louder[:, :2] *= 50
    torch.testing.assert_close(both(louder), 50 * both(border), atol=1e-3, rtol=1e-3)


def test_training_moves_the_head_alone_and_lowers_the_loss() -> None:
    both, (border, image) = network_of(COMPLEX), measured(COMPLEX, (20, 24))
    before = {name: value.clone() for name, value in both.network.state_dict().items()}
    optimizer = torch.optim.Adam([p for p in both.parameters() if p.requires_grad], lr=0.003)
    losses = []
    for _ in range(40):
        loss = UncertaintyLoss()(both(border), image)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 1
    assert all(torch.equal(value, before[name]) for name, value in both.network.state_dict().items())
