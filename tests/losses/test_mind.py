import math

import pytest
import torch

from mdl_monai.losses.mind import MindDistance, mind, nearest_offsets, smoothed


def test_a_row_by_hand():
    """Patches of one voxel: squared differences to the left and right 0, 1 | 1, 4 | 4, 0 and none up and down."""
    row = mind(torch.tensor([[[[0.0, 1.0, 3.0]]]]), radius=0)[0, :, 0]
    left, right = torch.tensor([[0.0, 1, 4], [1, 4, 0]]) / torch.tensor([[0.25, 1.25, 1.0]])
    one = torch.ones(3)
    torch.testing.assert_close(row, torch.stack([one, one, (-left).exp(), (-right).exp()]))


def test_offsets_choose_the_neighbours_and_the_best_is_1():
    row = mind(torch.tensor([[[[0.0, 1.0, 3.0]]]]), radius=0, offsets=[(0, 2), (0, 1)])[0, :, 0]
    far, near = torch.tensor([9.0, 4, 0]), torch.tensor([1.0, 4, 0])
    exponents = -torch.stack([far, near]) / torch.tensor([0.25, 1.25, 1.0])
    torch.testing.assert_close(row, (exponents - exponents.amax(0)).exp())


def test_gaussian_weights_sum_to_1_and_fall_off_as_they_should():
    spike = torch.zeros(1, 1, 7, 9)
    spike[..., 3, 4] = 1
    out = smoothed(spike, radius=2, sigma=0.8)
    torch.testing.assert_close(out.sum(), torch.tensor(1.0))
    torch.testing.assert_close(out[0, 0, 4, 6] / out[0, 0, 3, 4], torch.tensor(math.exp(-5 / (2 * 0.64))))
    assert out[0, 0, 0, 4] == 0


@pytest.mark.parametrize("shape", [(9, 12), (7, 6, 9)])
@pytest.mark.parametrize(("gain", "offset"), [(2.0, 3.0), (-1.0, 0.5), (1e-4, 0.0), (1e6, 0.0)])
def test_a_linear_change_of_grey_values_changes_nothing(shape, gain, offset):
    image = torch.rand(2, 1, *shape)
    torch.testing.assert_close(mind(gain * image + offset), mind(image), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("shape", [(9, 12), (7, 6, 9)])
def test_shape_range_and_dependence_on_the_place(shape):
    image = torch.rand(2, 1, *shape)
    out = mind(image)
    assert out.shape == (2, len(nearest_offsets(len(shape))), *shape)
    torch.testing.assert_close(out.amax(1), torch.ones(2, *shape))
    assert out.amin() > 0 and out.std() > 0.05
    for axis in range(2, image.ndim):  # a mirror image exchanges the two neighbours of its axis
        mirrored = mind(image.flip(axis)).flip(axis)
        swapped = mirrored.clone()
        swapped[:, 2 * (axis - 2)], swapped[:, 2 * axis - 3] = (
            mirrored[:, 2 * axis - 3],
            mirrored[:, 2 * (axis - 2)],
        )
        torch.testing.assert_close(swapped, out)


@pytest.mark.parametrize("shape", [(5, 6), (4, 5, 3), (5, 4, 1)])
def test_a_constant_image_has_ones_and_a_finite_gradient(shape):
    image = torch.full((1, 1, *shape), 0.3, requires_grad=True)
    out = mind(image)
    out.sum().backward()
    assert (out == 1).all() and image.grad.isfinite().all()


def test_distance_is_the_mean_over_the_mask_and_channels():
    one, two = mind(torch.rand(1, 1, 6, 7)), mind(torch.rand(2, 1, 6, 7))
    valid = (torch.rand(2, 1, 6, 7) > 0.4).float()
    found = MindDistance(one, valid)(two)
    for k in range(2):
        torch.testing.assert_close(found[k], (two[k] - one[0]).abs()[:, valid[k, 0] > 0].mean())
    assert (MindDistance(one, valid)(one.expand(2, -1, -1, -1)) == 0).all()
    valid[1] = 0
    assert MindDistance(one, valid)(two)[1] == 0
