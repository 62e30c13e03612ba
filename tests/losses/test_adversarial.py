from __future__ import annotations

import pytest
import torch

from mdl_monai.errors import InputError
from mdl_monai.losses.adversarial import DiscriminatorLoss, GeneratorLoss


def test_the_losses_are_those_published() -> None:
    real, fake = torch.randn(2, 1, 3, 5, 4), torch.randn(2, 1, 3, 5, 4)
    expected = 0.5 * (real - 1).square().mean() + 0.5 * fake.square().mean()
    torch.testing.assert_close(DiscriminatorLoss()(real, fake), expected)
    torch.testing.assert_close(GeneratorLoss(0.3)(fake), 0.3 * (fake - 1).square().mean())


def test_each_side_pays_nothing_where_it_wins_and_both_pay_at_chance() -> None:
    zeros, ones = torch.zeros(2, 1, 3, 2), torch.ones(2, 1, 3, 2)
    assert DiscriminatorLoss()(ones, zeros) == 0 and GeneratorLoss()(ones) == 0
    assert DiscriminatorLoss()(ones / 2, ones / 2) == 0.25 and GeneratorLoss()(ones / 2) == 0.25
    assert DiscriminatorLoss()(zeros, ones) == 1 and GeneratorLoss()(zeros) == 1


def test_the_two_sides_pull_the_score_of_a_fake_apart() -> None:
    fake = torch.full((1, 1, 3, 2), 0.4, requires_grad=True)
    (up,) = torch.autograd.grad(GeneratorLoss()(fake), fake)
    (down,) = torch.autograd.grad(DiscriminatorLoss()(torch.ones(1, 1, 3, 2), fake), fake)
    assert (up < 0).all() and (down > 0).all()


def test_of_a_discriminators_features_the_last_alone_counts() -> None:
    scores, feature = torch.randn(2, 1, 3, 2), torch.randn(2, 8, 6, 4)
    assert GeneratorLoss()([feature, scores]) == GeneratorLoss()(scores)
    assert DiscriminatorLoss()([feature, scores], [feature, -scores]) == DiscriminatorLoss()(scores, -scores)


def test_weight_zero_leaves_no_gradient() -> None:
    fake = torch.randn(1, 1, 3, 2, requires_grad=True)
    GeneratorLoss(0)(fake).backward()
    assert fake.grad is not None and not fake.grad.any()


def test_a_negative_weight_is_refused() -> None:
    with pytest.raises(InputError, match="(?s)negative weight.*0 or more.*-0.01"):
        GeneratorLoss(-0.01)
