from __future__ import annotations

import pytest
import torch

from mdl_monai.losses.masked_l1 import MaskedL1, masked_l1_score


def test_only_the_mask_counts_and_its_size_does_not() -> None:
    draw = torch.Generator().manual_seed(0)
    pred, reference = torch.rand(2, 1, 3, 5, generator=draw), torch.rand(2, 1, 3, 5, generator=draw)
    mask = (torch.rand(2, 1, 3, 5, generator=draw) > 0.5).float()
    found = MaskedL1()(pred, torch.cat((reference, mask), 1))
    assert found == pytest.approx(float((pred - reference).abs()[mask > 0].mean()))
    changed = torch.where(mask > 0, pred, 1e3)
    assert MaskedL1()(changed, torch.cat((reference, mask), 1)) == found


def test_an_empty_mask_costs_nothing_and_has_finite_gradients() -> None:
    pred = torch.rand(1, 1, 3, 4, requires_grad=True)
    loss = MaskedL1()(pred, torch.zeros(1, 2, 3, 4))
    loss.backward()
    assert loss == 0 and pred.grad is not None and (pred.grad == 0).all()


def test_the_score_is_minus_the_mean_over_cases() -> None:
    ones = torch.cat((torch.zeros(1, 2, 2), torch.ones(1, 2, 2)))
    cases = [{"pred": torch.full((1, 2, 2), value), "label": ones} for value in (1.0, -3.0)]
    assert masked_l1_score(cases) == pytest.approx(-2.0)
