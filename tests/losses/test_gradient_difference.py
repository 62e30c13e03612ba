import itertools

import pytest
import torch

from mdl_monai.losses.gradient_difference import GradientDifferenceLoss

SHAPES = [(5, 8), (4, 3, 6)]


def test_a_row_by_hand():
    """Steps of 2 and 3 against 1 and 3 where one falls and one rises: ((2 - 1)^2 + (3 - 3)^2) / 2, none upwards."""
    pred, reference = torch.tensor([[0.0, 2.0, -1.0]]), torch.tensor([[5.0, 4.0, 7.0]])
    loss = GradientDifferenceLoss()
    assert loss(pred.view(1, 1, 1, 3), reference.view(1, 1, 1, 3)) == 0.5
    only_second = torch.tensor([[0.0, 1.0, 1.0]]).view(1, 1, 1, 3)
    assert loss(pred.view(1, 1, 1, 3), reference.view(1, 1, 1, 3), only_second) == 0


@pytest.mark.parametrize("shape", SHAPES)
def test_equals_a_loop(shape):
    pred, reference = torch.randn(2, 2, 3, *shape).double()
    mask = torch.rand(2, 1, *shape) > 0.3
    expected = 0.0
    for axis in range(len(shape)):
        errors = []
        for b, c, *place in itertools.product(range(2), range(3), *map(range, shape)):
            after = list(place)
            after[axis] += 1
            if after[axis] < shape[axis] and mask[(b, 0, *place)] and mask[(b, 0, *after)]:
                dx = pred[(b, c, *after)] - pred[(b, c, *place)]
                dy = reference[(b, c, *after)] - reference[(b, c, *place)]
                errors.append((abs(dx) - abs(dy)) ** 2)
        expected += sum(errors) / len(errors)
    torch.testing.assert_close(GradientDifferenceLoss()(pred, reference, mask), expected)


@pytest.mark.parametrize("shape", SHAPES)
def test_offset_and_sign_cost_nothing_but_blur_does(shape):
    image, loss = torch.randn(1, 1, *shape), GradientDifferenceLoss()
    torch.testing.assert_close(loss(-image + 3, image), torch.tensor(0.0), atol=1e-10, rtol=0)
    assert loss(0.5 * image, image) > 0.1
    assert loss(image.bfloat16(), image).dtype == torch.float32


@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_outside_the_mask_has_no_gradient(shape):
    pred = torch.randn(1, 1, *shape, requires_grad=True)
    mask = torch.zeros(1, 1, *shape)
    mask[..., 1:3, 2:5] = 1
    GradientDifferenceLoss()(pred, torch.randn(1, 1, *shape), mask).backward()
    assert (pred.grad[mask == 0] == 0).all() and (pred.grad[mask == 1] != 0).all()


def test_gradcheck_and_an_empty_mask():
    pred, reference = torch.randn(2, 2, 1, 4, 5).double()
    pred.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: GradientDifferenceLoss()(x, reference), pred)
    assert GradientDifferenceLoss()(pred, reference, torch.zeros(2, 1, 4, 5)) == 0


def test_shapes_that_do_not_fit_are_refused():
    image = torch.rand(1, 1, 4, 5)
    with pytest.raises(ValueError, match=r"pred \(1, 1, 4, 5\) and reference \(1, 1, 4, 4\)"):
        GradientDifferenceLoss()(image, image[..., :4])
    with pytest.raises(ValueError, match="does not fit"):
        GradientDifferenceLoss()(image, image, image.mT)
