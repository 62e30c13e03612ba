from __future__ import annotations

import pytest
import torch

from mdl_monai.losses.error_and_gradient import ErrorAndGradientLoss
from mdl_monai.losses.gradient_difference import GradientDifferenceLoss


def test_it_is_zero_for_the_reference_and_does_not_see_beyond_the_mask() -> None:
    reference = torch.rand(2, 1, 5, 6)
    mask = torch.zeros(2, 1, 5, 6)
    mask[..., 1:4, 2:5] = 1
    label = torch.cat((reference, mask), 1)
    outside = torch.where(mask > 0, reference, 7.0)
    assert ErrorAndGradientLoss()(outside, label) == 0
    assert ErrorAndGradientLoss()(outside + 0.1 * mask, label) == pytest.approx(0.01)


@pytest.mark.parametrize("shape", [(2, 1, 4, 7), (1, 1, 3, 4, 5)])
def test_it_is_the_sum_of_its_parts(shape: tuple[int, ...]) -> None:
    pred, reference = torch.rand(2, *shape)
    mask = (torch.rand(shape) > 0.3).float()
    label = torch.cat((reference, mask), 1)
    error = (pred - reference)[mask > 0].square().mean()
    for weight in (0.0, 2.5):
        expected = error + weight * GradientDifferenceLoss()(pred, reference, mask)
        torch.testing.assert_close(ErrorAndGradientLoss(weight)(pred, label), expected)


def test_an_offset_costs_error_alone_and_blur_costs_gradient_too() -> None:
    reference = torch.tensor([-1.0, -1, 1, 1]).expand(1, 1, 3, 4)
    label = torch.cat((reference, torch.ones(1, 1, 3, 4)), 1)
    assert ErrorAndGradientLoss(5.0)(reference + 0.5, label) == pytest.approx(0.25)
    blurred = torch.tensor([-1.0, -0.5, 0.5, 1]).expand(1, 1, 3, 4)
    assert ErrorAndGradientLoss(1.0)(blurred, label) == pytest.approx(0.125 + (0.25 + 1 + 0.25) / 3)


def test_an_empty_mask_and_half_precision_have_finite_gradients() -> None:
    pred = torch.rand(1, 1, 4, 5, dtype=torch.bfloat16, requires_grad=True)
    loss = ErrorAndGradientLoss()(pred, torch.zeros(1, 2, 4, 5))
    loss.backward()
    assert loss == 0 and loss.dtype == torch.float32
    assert pred.grad is not None and (pred.grad == 0).all()
