import pytest
import torch
from monai.losses import LocalNormalizedCrossCorrelationLoss

from mdl_monai.losses.lncc import LocalCorrelation, box_sum


def slow_correlation(x, y, valid, radius, contrast):
    """One window after the other, by the definition. [*spatial] each, to [*spatial]."""
    out = torch.zeros_like(x)
    y = y - y.mean()
    for place in torch.cartesian_prod(*[torch.arange(n) for n in x.shape]):
        window = tuple(slice(max(0, int(p) - radius), int(p) + radius + 1) for p in place)
        seen = valid[window] > 0
        a, b = x[window][seen], y[window][seen]
        if not len(a):
            continue
        cross = ((a - a.mean()) * (b - b.mean())).sum()
        floor = (contrast**2 * y.var() * len(a)).square().clamp_min(1e-12)
        out[tuple(place)] = cross**2 / (a.var(correction=0) * len(a) * b.var(correction=0) * len(b) + floor)
    return out


def case(shape, images=2, dtype=torch.float64):
    reference = torch.rand(1, 1, *shape, dtype=dtype)
    valid = (torch.rand(images, 1, *shape) > 0.3).to(dtype)
    return torch.rand(images, 1, *shape, dtype=dtype), reference, valid


@pytest.mark.parametrize("shape", [(7, 10), (6, 5, 7)])
def test_box_sum_is_its_own_adjoint(shape):
    x, y = torch.rand(2, 1, 1, *shape, dtype=torch.float64).unbind()
    torch.testing.assert_close((box_sum(x, 2) * y).sum(), (x * box_sum(y, 2)).sum())


@pytest.mark.parametrize("shape", [(7, 10), (6, 5, 7)])
def test_value_and_gradient_equal_those_of_the_definition(shape):
    images, reference, valid = case(shape)
    images.requires_grad_(True)
    fast = LocalCorrelation(reference, valid, radius=2)(images)
    slow = torch.stack(
        [
            1 - (slow_correlation(x[0], reference[0, 0], v[0], 2, 0.05) * v[0]).sum() / v.sum()
            for x, v in zip(images, valid, strict=True)
        ]
    )
    torch.testing.assert_close(fast, slow)
    scale = torch.tensor([1.0, -3.0], dtype=torch.float64)
    torch.testing.assert_close(
        torch.autograd.grad((fast * scale).sum(), images), torch.autograd.grad((slow * scale).sum(), images)
    )


@pytest.mark.parametrize("shape", [(6, 5), (4, 3, 5)])
def test_gradient_equals_finite_differences(shape):
    images, reference, valid = case(shape)
    assert torch.autograd.gradcheck(LocalCorrelation(reference, valid, radius=1), images.requires_grad_(True))


@pytest.mark.parametrize(("gain", "offset"), [(1.0, 7.0), (-1.0, 0.0), (3.0, -2.0)])
def test_a_linear_change_of_grey_values_costs_nothing(gain, offset):
    images, reference, valid = case((9, 8, 6))
    distance = LocalCorrelation(reference, valid, contrast=0.0)
    torch.testing.assert_close(distance(gain * images + offset), distance(images))
    torch.testing.assert_close(distance(gain * reference + offset), torch.zeros(2, dtype=torch.float64))


def test_masked_voxels_change_neither_the_value_nor_the_gradient():
    images, reference, valid = case((9, 8, 6))
    other = torch.where(valid > 0, images, images + 100 * torch.rand_like(images))
    distance, gradients = LocalCorrelation(reference, valid), []
    for version in (images, other):
        version.requires_grad_(True)
        distance(version).sum().backward()
        gradients.append(version.grad)
    torch.testing.assert_close(distance(images), distance(other))
    torch.testing.assert_close(gradients[0], gradients[1])
    assert not gradients[1][valid == 0].any() and gradients[1][valid > 0].all()


def test_an_image_out_of_view_is_wholly_unlike_and_has_no_gradient():
    images, reference, valid = case((9, 8))
    valid[1] = 0
    images.requires_grad_(True)
    distances = LocalCorrelation(reference, valid)(images)
    distances.sum().backward()
    assert distances[1] == 1 and not images.grad[1].any() and images.grad[0].any()


@pytest.mark.parametrize("shape", [(15, 18), (11, 12, 13)])
def test_equal_to_monais_loss_away_from_the_border(shape):
    """MONAI's windows at the border hold zeros; a texture in the middle of a flat image shows it none of them."""
    inner = (slice(None), slice(None), *[slice(5, -5) for _ in shape])
    inside = torch.zeros(1, 1, *shape)
    inside[inner] = 1
    images, reference, _ = case(shape, dtype=torch.float32)
    around = box_sum(inside, 2) > 0
    images, reference = images * inside, reference * inside
    ours = LocalCorrelation(reference, torch.ones_like(images), radius=2, contrast=0.0)
    ours.weight = around.float() / around.sum()
    monai = LocalNormalizedCrossCorrelationLoss(
        spatial_dims=len(shape), kernel_size=5, kernel_type="rectangular", reduction="none", smooth_dr=1e-9
    )
    theirs = 1 + (monai(images, reference.expand_as(images)) * around).flatten(1).sum(1) / around.sum()
    torch.testing.assert_close(ours(images), theirs, atol=2e-4, rtol=0)


def test_flat_windows_count_less_than_structured_ones():
    reference = torch.rand(1, 1, 20, 20)
    reference[..., 10:] = 0.5 + 1e-4 * torch.rand(20, 10)
    flat_only = torch.zeros_like(reference)
    flat_only[..., 13:] = 1
    assert LocalCorrelation(reference, flat_only)(reference) > 0.99
    assert LocalCorrelation(reference, 1 - flat_only)(reference) < 0.3
