from __future__ import annotations

import math

import pytest
import torch
from monai.losses import DiceCELoss
from torch import Tensor
from torch.nn import functional

from mdl_monai.losses.fusion import FusionLoss

SIZES = [(7, 12), (5, 8, 3)]
ANY_SIZE = pytest.mark.parametrize("size", SIZES)


def one_hot(size: tuple[int, ...], n_labels: int = 3) -> Tensor:
    return functional.one_hot(torch.randint(n_labels, (2, *size)), n_labels).movedim(-1, 1).float()


@ANY_SIZE
def test_loss_of_probabilities_is_monais_of_their_logits(size: tuple[int, ...]) -> None:
    label, logits = one_hot(size), torch.randn(2, 3, *size)
    expected = DiceCELoss(softmax=True, squared_pred=True)(logits, label)
    assert FusionLoss()(logits.softmax(dim=1), label).item() == pytest.approx(expected.item(), rel=5e-3)


@ANY_SIZE
def test_a_prior_adds_its_own_loss_by_its_weight(size: tuple[int, ...]) -> None:
    label, fused, prior = one_hot(size), *(torch.randn(2, 3, *size).softmax(dim=1) for _ in range(2))
    loss = FusionLoss(prior_weight=0.3)
    expected = loss(fused, label) + 0.3 * loss(prior, label)
    torch.testing.assert_close(loss(torch.cat((fused, prior), dim=1), label), expected)


@ANY_SIZE
def test_truth_costs_next_to_nothing_and_the_farther_from_it_the_more(size: tuple[int, ...]) -> None:
    label, loss = one_hot(size), FusionLoss()
    costs = [loss(label.lerp(label.roll(1, 1), share), label).item() for share in (0, 0.1, 0.5, 0.9, 1)]
    assert 0 <= costs[0] < 2e-3 and costs == sorted(costs) and costs[-1] > 5


@ANY_SIZE
def test_a_label_that_no_atlas_offers_costs_a_bounded_loss_with_a_finite_gradient(
    size: tuple[int, ...],
) -> None:
    label = one_hot(size)
    pred = label.roll(1, 1).requires_grad_()
    value = FusionLoss()(pred, label)
    value.backward()
    assert value <= 1 + math.log(3 / 0.001) + 1e-4
    assert torch.isfinite(pred.grad).all()
    true = pred.grad[label == 1]
    assert (true < 0).all() and true.abs().sum() < 0.999 / 0.001 * 3.5


def test_half_precision_is_summed_in_float32() -> None:
    label = one_hot((64, 64))
    pred = torch.randn_like(label).softmax(dim=1).bfloat16()
    value = FusionLoss()(pred, label)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, FusionLoss()(pred.float(), label))
