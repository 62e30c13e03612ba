from __future__ import annotations

import pytest
import torch

from mdl_monai.losses.nmse import LogNMSELoss, NMSELoss


def test_loss_is_the_mean_ratio_of_norms() -> None:
    label = torch.stack([torch.full((1, 3, 5), 2.0), torch.full((1, 3, 5), 4.0)])
    pred = label + torch.tensor([0.2, 0.8])[:, None, None, None]
    loss = NMSELoss(floor=1e-6)(pred, label)
    assert loss.item() == pytest.approx((0.1 + 0.2) / 2, rel=1e-5)


def test_ten_times_the_error_counts_one_in_the_logarithm_whatever_the_image() -> None:
    label, loss = torch.rand(3, 1, 16, 16), LogNMSELoss(floor=1e-6)
    error = 0.01 * torch.randn(3, 1, 16, 16)
    scale = torch.tensor([1.0, 20.0, 300.0])[:, None, None, None]
    far = loss(scale * (label + 10 * error), scale * label)
    near = loss(scale * (label + error), scale * label)
    assert (far - near).item() == pytest.approx(1, abs=0.01)
    torch.testing.assert_close(
        loss(label + error, label), NMSELoss(1e-6)(label + error, label).log10(), atol=0.02, rtol=0
    )


def test_an_empty_reference_neither_divides_by_zero_nor_dominates() -> None:
    pred = torch.full((1, 1, 4, 4), 0.01, requires_grad=True)
    loss = NMSELoss(floor=0.01)(pred, torch.zeros(1, 1, 4, 4))
    loss.backward()
    assert loss.item() == pytest.approx(1.0, rel=1e-3)
    assert torch.isfinite(pred.grad).all()


def test_a_perfect_prediction_has_a_finite_gradient() -> None:
    label = torch.rand(2, 1, 4, 4)
    pred = label.clone().requires_grad_()
    NMSELoss()(pred, label).backward()
    assert torch.isfinite(pred.grad).all()


def test_half_precision_input_is_summed_in_float32() -> None:
    label = torch.rand(1, 1, 256, 256)
    assert NMSELoss()(label.bfloat16() * 1.1, label.bfloat16()).dtype == torch.float32


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="differ in shape"):
        NMSELoss()(torch.zeros(1, 1, 4, 4), torch.zeros(1, 4, 4))
    with pytest.raises(ValueError, match="floor must be positive"):
        NMSELoss(floor=0)
