import math

import pytest
import torch
from warp_cases import (
    CASE_NAMES,
    CASES,
    THIN,
    as_map,
    drawn,
    error,
    grid,
    linear,
    rotation,
    texture,
    world,
)

from mdl_monai.registration.affine import AffineRegistration, shrink_factors
from mdl_monai.registration.volume import RegistrationError

AXES = [(d, axis, sign) for d in (2, 3) for axis in range(d) for sign in (-1, 1)]


def plain(dims):
    return grid("LPS", (30, 27, 26)[:dims], (1.8, 2.0, 2.1)[:dims])


@pytest.mark.parametrize(("dims", "axis", "sign"), AXES)
def test_a_shift_along_each_axis_keeps_its_sign(dims, axis, sign):
    """The target shows what lies 5 mm further along the axis in the atlas, so its map adds 5 mm."""
    shift = [0.0] * dims
    shift[axis] = 5.0 * sign
    atlas = drawn(plain(dims))
    found = AffineRegistration()(drawn(plain(dims), as_map(linear(None, shift, dims))), atlas)
    assert (found[:-1, -1] - torch.tensor(shift)).abs().max() < 0.4


@pytest.mark.parametrize(("target", "atlases"), CASES, ids=CASE_NAMES)
@pytest.mark.parametrize("metric", ["correlation", "mutual_information"])
def test_rotation_scaling_and_shift_are_found_in_any_frame(target, atlases, metric):
    dims = target.dims
    scale = torch.diag(torch.tensor([1.08, 0.92, 1.05][:dims], dtype=torch.float64))
    truth = linear(rotation([0.08, -0.1, 0.15], dims) @ scale, [2.0, -3.0, 1.5][:dims], dims)
    image = drawn(target, as_map(truth))
    for atlas in atlases[: 3 if metric == "correlation" else 1]:
        found = AffineRegistration(metric=metric)(image, drawn(atlas))
        assert error(target, as_map(truth), linear(dims=dims)) > 3
        assert error(target, as_map(truth), found) < (0.35 if metric == "correlation" else 0.8)


def test_a_thin_stack_of_six_slices():
    truth = linear(rotation([0.03, -0.03, 0.2], 3), [3.0, -2.0, 2.0])
    found = AffineRegistration()(
        drawn(THIN, as_map(truth)), drawn(grid("RAS", (36, 34, 40), (1.5, 1.6, 1.4)))
    )
    assert error(THIN, as_map(truth), found) < 0.6
    assert shrink_factors(THIN, 4).tolist() == [4, 4, 1]


@pytest.mark.parametrize("gain", [1e6, 1e-6])
def test_the_scale_of_grey_values_does_not_matter(gain):
    truth = linear(rotation([0.1, 0.0, 0.1], 3), [3.0, -2.0, 2.0])
    target, atlas = drawn(plain(3), as_map(truth)), drawn(grid("oblique", (31, 33, 30), (1.6, 1.6, 1.7)))
    found = AffineRegistration()(target, atlas.with_values(gain * atlas.values))
    assert error(target, as_map(truth), found) < 0.35


def small(place):
    return texture(place * 3)


@pytest.mark.parametrize(("dims", "axis", "sign"), AXES)
def test_several_starts_find_a_structure_a_third_of_a_tight_crop_away(dims, axis, sign):
    """The crops show the structure in different places, so their centres are no help."""
    shape, spacing = (36, 30, 32)[:dims], (1.5, 1.8, 1.7)[:dims]
    target, atlas = grid("LPS", shape, spacing), grid("RAS", shape, spacing)
    shift = torch.zeros(dims, dtype=torch.float64)
    shift[axis] = sign * 54.0 / 3
    image = target.with_values(small(world(target) + shift).float())
    atlas = atlas.with_values(small(world(atlas)).float())
    several = AffineRegistration(starts=7)(image, atlas)
    assert (several[:-1, -1] - shift).norm() < 1.5
    assert (AffineRegistration(starts=1)(image, atlas)[:-1, -1] - shift).norm() > 10


def test_a_start_is_used():
    truth = linear(rotation([0.0, 0.0, math.pi * 0.9], 3))
    target, atlas = drawn(plain(3), as_map(truth)), drawn(plain(3))
    start = linear(rotation([0.05, 0.0, math.pi * 0.85], 3), [2.0, 1.0, 0.0])
    assert error(target, as_map(truth), AffineRegistration()(target, atlas, start)) < 0.35
    assert error(target, as_map(truth), AffineRegistration()(target, atlas)) > 3


def refused(target, atlas, start=None, starts=1):
    with pytest.raises(RegistrationError) as info:
        AffineRegistration(starts=starts)(target, atlas, start)
    reason = str(info.value)
    assert "\n" not in reason and "itk" not in reason.lower() and len(reason) < 80
    return reason


def test_what_cannot_be_registered_is_refused_with_its_reason():
    image, plane = drawn(plain(3)), drawn(plain(2))
    flat = image.with_values(torch.full_like(image.values, 0.1))
    broken = image.with_values(torch.full_like(image.values, torch.nan))
    assert refused(image, plane) == "the target is 3D and the atlas 2D"
    assert refused(flat, image) == "the target is constant"
    assert refused(image, flat) == "the atlas is constant"
    assert refused(image, broken) == "the atlas holds values that are not finite"
    assert refused(image, drawn(grid("RAS", (20, 3, 20), (2, 9, 2)))) == (
        "the atlas has fewer than 4 voxels along an axis"
    )
    for starts in (1, 7):
        reason = refused(image, image, linear(None, [500.0, 0.0, 0.0]), starts)
        assert reason == "the fields of view of target and atlas do not overlap"


def test_fields_of_view_far_apart_are_brought_together_without_a_start():
    far = grid("RAS", (30, 31, 28), (1.9, 1.8, 2.0), (400.0, -900.0, 50.0))
    back = linear(None, [-400.0, 900.0, -50.0])
    found = AffineRegistration()(drawn(far, as_map(back)), drawn(plain(3)))
    assert error(far, as_map(back), found) < 0.35
