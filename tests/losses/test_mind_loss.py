import itertools
import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from mdl_monai.losses.mind import mind, nearest_offsets, region_offsets, smoothed, smoothed_adjoint
from mdl_monai.losses.mind_loss import MindLoss

SHAPES = [(11, 14), (7, 6, 9)]


def loop_mind(image: torch.Tensor, offsets: list[tuple[int, ...]]) -> torch.Tensor:
    """The equation, offset by offset and over each sample of the patch: [*spatial] to [offsets, *spatial]."""
    size = image.shape
    voxels = torch.stack(torch.meshgrid(*[torch.arange(n) for n in size], indexing="ij"), -1).numpy()

    def inside(places: np.ndarray) -> np.ndarray:
        return places.clip(0, np.array(size) - 1)

    def at(places: np.ndarray) -> np.ndarray:
        return image.numpy()[tuple(np.moveaxis(inside(places), -1, 0))]

    patch = list(itertools.product(range(-3, 4), repeat=image.ndim))
    weights = np.exp([-sum(q * q for q in p) / (2 * 2.0**2) for p in patch])

    def patch_distance(r: tuple[int, ...]) -> np.ndarray:
        total = np.zeros(size)
        for p, w in zip(patch, weights / weights.sum(), strict=True):
            y = inside(voxels + p)
            total += w * (at(y + r) - at(y)) ** 2
        return total

    variance = np.mean([patch_distance(r) for r in nearest_offsets(image.ndim)], axis=0)
    variance = variance.clip(1e-3 * variance.mean(), 1e3 * variance.mean())
    out = np.exp([-patch_distance(r) / variance for r in offsets])
    return torch.from_numpy(out / out.max(0))


@pytest.mark.parametrize(("dims", "stride", "count"), [(2, 2, 24), (2, 1, 80), (3, 2, 124), (2, 4, 8)])
def test_offsets_cover_the_region_evenly(dims, stride, count):
    offsets = region_offsets(dims, 4, stride)
    assert len(offsets) == len(set(offsets)) == count
    assert {max(map(abs, r)) for r in offsets} == set(range(stride, 5, stride))
    assert {tuple(-s for s in r) for r in offsets} == set(offsets)


def test_a_stride_that_misses_the_centre_is_refused():
    with pytest.raises(ValueError, match="stride 3 does not divide the reach 4"):
        MindLoss(stride=3)


def test_a_step_by_hand():
    """Columns 0 0 ... 0 1 ... 1 against a flat image, whose patches are all alike: its descriptor is 1 everywhere.

    D of an offset to the right is the Gaussian weight of the columns y of a patch for which the step lies between y
    and y + r, to the left likewise, and 0 straight up and down, so V = (D(right by 1) + D(left by 1)) / 4.
    """
    n, step = 31, 15
    image = torch.zeros(1, 1, 31, n).double()
    image[..., step:] = 1
    found = MindLoss(stride=4)(image, torch.zeros_like(image))
    g = torch.exp(-(torch.arange(-3, 4).double() ** 2) / 8)
    g = g / g.sum()

    def weight_between(first, last, x):  # of the patch's columns x - 3 ... x + 3 in [first, last]
        return sum(g[c - x + 3] for c in range(max(first, x - 3), min(last, x + 3) + 1))

    v, rows = [], []
    for x in range(n):
        # a column y differs from y + r where the step lies between them
        right, left = weight_between(step - 1, step - 1, x), weight_between(step, step, x)
        v.append((right + left) / 4)
        rows.append((weight_between(step - 4, step - 1, x), weight_between(step, step + 3, x)))
    v = torch.stack([torch.as_tensor(a).double() for a in v])
    v = v.clamp(1e-3 * v.mean(), 1e3 * v.mean())
    distance = 0
    for x in range(n):  # of 8 offsets 3 go right, 3 left and 2 straight, whose descriptor is 1
        distance += sum(3 * (1 - math.exp(-float(d) / float(v[x]))) for d in rows[x]) / 8
    torch.testing.assert_close(found.item(), distance / n, rtol=1e-12, atol=0)
    assert 0.1 < found < 0.5


@pytest.mark.parametrize(("shape", "stride"), [((9, 6), 2), ((5, 4, 3), 4)])
def test_equals_the_equation_in_a_loop(shape, stride):
    pred, reference = torch.rand(2, 1, 1, *shape, generator=torch.Generator().manual_seed(3)).double()
    mask = torch.rand(1, 1, *shape) > 0.5
    offsets = region_offsets(len(shape), 4, stride)
    a, b = (loop_mind(x[0, 0], offsets) for x in (pred, reference))
    loss = MindLoss(stride)
    torch.testing.assert_close(loss.describe(pred)[0], a, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(loss(pred, reference, mask), (a - b).abs()[:, mask[0, 0]].mean())
    torch.testing.assert_close(loss(pred, reference), (a - b).abs().mean())
    torch.testing.assert_close(loss(pred.float(), reference.float()).double(), (a - b).abs().mean())


@pytest.mark.parametrize("shape", SHAPES)
def test_a_batch_is_the_mean_of_its_images_even_with_a_mask_for_all(shape):
    pred, reference = torch.rand(2, 3, 1, *shape)
    mask = (torch.rand(3, 1, *shape) > 0.4).float()
    mask[2] = 0
    for m in (mask, mask[:1]):
        single = [MindLoss()(pred[k, None], reference[k, None], m[k % len(m), None]) for k in range(3)]
        torch.testing.assert_close(MindLoss()(pred, reference, m), torch.stack(single).mean())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("gain", "offset"), [(2.0, 3.0), (-1.0, 0.5), (1e-3, 0.0)])
def test_a_linear_change_of_contrast_costs_nothing_but_a_shift_does(shape, gain, offset):
    image = torch.rand(1, 1, *shape)
    assert MindLoss()(gain * image + offset, image) < 1e-4
    assert MindLoss()(image.roll(2, dims=-1), image) > 0.02


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("level", [0.0, -1.0, 0.3])
def test_flat_images_have_finite_gradients(shape, level):
    pred = torch.full((1, 1, *shape), level, requires_grad=True)
    loss = MindLoss()(pred, torch.rand(1, 1, *shape))
    loss.backward()
    assert loss.isfinite() and pred.grad.isfinite().all()


def test_a_flat_background_has_finite_gradients_and_half_precision_is_left():
    """Under autocast and with an input in bfloat16, as a generator gives it, distances are still float32's."""
    pred, reference = torch.rand(2, 1, 1, 20, 23)
    pred[..., :12], reference[..., :9] = -1, -1
    half = pred.bfloat16().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = MindLoss()(half, reference)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, MindLoss()(half.detach().float(), reference), rtol=0, atol=0)
    loss.backward()
    assert half.grad.isfinite().all() and half.grad.any()


def test_what_lies_beyond_the_reach_of_the_mask_has_no_gradient():
    pred, reference = torch.rand(2, 1, 1, 30, 27, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(1, 1, 30, 27)
    mask[..., 10:12, 9] = 1
    pred.requires_grad_()
    MindLoss()(pred, reference, mask).backward()
    near = functional.max_pool2d(mask, 15, 1, 7)  # 3 of the patch and 4 of the offset
    assert (pred.grad[near == 0] == 0).all() and (pred.grad[near == 1] != 0).float().mean() > 0.9


def test_the_reference_learns_nothing():
    pred, reference = torch.rand(2, 1, 1, 9, 8, requires_grad=True).unbind()
    reference.retain_grad()
    pred.retain_grad()
    MindLoss()(pred, reference).backward()
    assert reference.grad is None or not reference.grad.any()
    assert pred.grad.any()


@pytest.mark.parametrize("shape", [(6, 5), (3, 4, 3)])
def test_gradients_are_those_of_differences(shape):
    images = torch.rand(2, 1, 1, *shape, generator=torch.Generator().manual_seed(1)).double()
    pred, reference = images.unbind()
    pred.requires_grad_()
    mask = (torch.rand(1, 1, *shape) > 0.3).double()
    assert torch.autograd.gradcheck(lambda x: MindLoss(stride=4)(x, reference, mask), pred)
    assert torch.autograd.gradcheck(lambda x: mind(x, 1, 1.0), pred)


@pytest.mark.parametrize(("shape", "radius"), [((6, 5), 2), ((4, 3, 5), 1), ((7, 1), 3), ((4, 5), 0)])
def test_the_smoothing_and_its_adjoint_fit(shape, radius):
    x, y = torch.rand(2, 2, 3, *shape).double()
    there, back = smoothed(x, radius, 1.3), smoothed_adjoint(y, radius, 1.3)
    assert there.shape == back.shape == x.shape
    torch.testing.assert_close((there * y).sum(), (x * back).sum())
    assert torch.autograd.gradcheck(lambda x: smoothed(x, radius, 1.3), x.requires_grad_())


def test_images_that_do_not_fit_are_refused():
    image = torch.rand(1, 1, 8, 9)
    with pytest.raises(ValueError, match=r"pred \(1, 1, 8, 9\) and reference \(1, 1, 8, 8\)"):
        MindLoss()(image, image[..., :8])
    with pytest.raises(ValueError, match=r"must both be \[B, 1"):
        MindLoss()(image.expand(1, 3, 8, 9), image.expand(1, 3, 8, 9))
    with pytest.raises(ValueError, match=r"mask \(1, 1, 9, 8\) does not fit"):
        MindLoss()(image, image, image.mT)
