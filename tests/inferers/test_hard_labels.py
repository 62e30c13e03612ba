from __future__ import annotations

import torch

from mdl_monai.inferers.hard_labels import HardLabelInferer, hard_labels


def test_scores_become_the_one_hot_map_of_the_highest() -> None:
    scores = torch.tensor([[[0.2, -1.0], [0.1, 3.0], [-4.0, 2.9]]])
    assert hard_labels(scores).tolist() == [[[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]]


def test_a_one_hot_map_stays_as_it_is() -> None:
    label = torch.nn.functional.one_hot(torch.randint(3, (2, 5, 4, 3)), 3).movedim(-1, 1).float()
    assert torch.equal(hard_labels(label), label)


def test_how_sure_the_segmenter_is_cannot_be_seen() -> None:
    scores = torch.randn(2, 3, 5, 4, 2)
    torch.testing.assert_close(hard_labels(scores), hard_labels(20 * scores), rtol=0, atol=1e-6)


def test_the_gradient_is_that_of_the_softmax() -> None:
    scores, pull = torch.randn(2, 3, 5, 4, requires_grad=True), torch.randn(2, 3, 5, 4)
    (through,) = torch.autograd.grad((hard_labels(scores) * pull).sum(), scores)
    (expected,) = torch.autograd.grad((scores.softmax(1) * pull).sum(), scores)
    torch.testing.assert_close(through, expected)


def test_the_network_is_applied_to_the_hard_labels() -> None:
    scores = torch.randn(2, 3, 5, 4)
    assert torch.equal(HardLabelInferer()(scores, lambda x: 2 * x), 2 * hard_labels(scores))
