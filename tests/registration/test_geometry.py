import numpy as np
import pytest
import SimpleITK as sitk
import torch
from warp_cases import FRAMES, direction, grid, linear, rotation, wavy, world

from mdl_monai.registration.geometry import (
    from_sitk_field,
    from_sitk_linear,
    in_voxels,
    points,
    resampled,
    sample,
    to_sitk_affine,
    to_sitk_transform,
    voxel_points,
)

PAIRS = [
    (grid(a, target_shape, target_h, centre), grid(b, shape, h))
    for target_shape, target_h, centre, shape, h in (
        ((14, 17, 9), (1.1, 0.9, 2.0), (3.0, -2.0, 1.0), (19, 12, 16), (0.8, 1.5, 1.2)),
        ((14, 17), (1.1, 0.9), (3.0, -2.0), (19, 12), (0.8, 1.5)),
    )
    for a, b in zip(FRAMES, ("oblique", "RAS", "LPS", "PIR"), strict=True)
]
NAMES = [f"{d}D {frame}" for d in (3, 2) for frame in FRAMES]


def maps(target):
    """An affine map with shear and shift, and a displacement."""
    dims = target.dims
    matrix = rotation([0.1, -0.2, 0.3], dims) @ torch.diag(torch.tensor([1.1, 0.9, 1.05][:dims]).double())
    matrix[0, 1] += 0.1
    return linear(matrix, [1.5, -0.7, 2.0][:dims], dims), wavy(world(target), 1.2, 25.0).float()


def lps_point(point):
    return [-point[0], -point[1], *point[2:]]


@pytest.mark.parametrize(("target", "atlas"), PAIRS, ids=NAMES)
def test_sampled_values_equal_simpleitks(target, atlas):
    values = torch.rand(atlas.values.shape)
    affine, displacement = maps(target)
    image = atlas.with_values(values).to_sitk()
    for u in (None, displacement):
        ours, valid = sample(values[None], atlas.affine, points(target, affine, u))
        transform = to_sitk_transform(target, affine, u)
        theirs = sitk.Resample(image, target.to_sitk(), transform, sitk.sitkLinear, -1.0)
        theirs = torch.from_numpy(sitk.GetArrayFromImage(theirs).T)
        inside = theirs != -1
        assert 0.2 < inside.float().mean() < 1
        assert ((valid > 0) == inside).float().mean() > 0.999  # rounding on the very edge
        # SimpleITK too repeats the outer half voxel
        both = inside & (valid > 0)
        torch.testing.assert_close(ours[0][both], theirs[both], atol=2e-4, rtol=0)


@pytest.mark.parametrize(("target", "atlas"), PAIRS, ids=NAMES)
def test_resampled_puts_the_atlas_on_the_targets_grid(target, atlas):
    affine, _ = maps(target)
    atlas = atlas.with_values(torch.randint(0, 99, tuple(atlas.values.shape)))
    out = resampled(target, atlas, affine)
    assert torch.equal(out.affine, target.affine) and out.values.shape == target.values.shape
    expected, _ = sample(atlas.values[None].float(), atlas.affine, points(target, affine))
    assert torch.equal(out.values, expected[0])


def test_a_shift_by_hand():
    """u of +2 mm to the right shows the target what lies 2 mm to the right in the atlas; LPS axes or not."""
    for frame, step in (("RAS", 1), ("LPS", -1)):
        target = grid(frame, (9, 5, 5), (2.0, 1.0, 1.0)).with_values(torch.rand(9, 5, 5))
        shift = torch.zeros(9, 5, 5, 3)
        shift[..., 0] = 2.0
        seen, valid = sample(target.values[None], target.affine, points(target, linear(), shift))
        torch.testing.assert_close(seen[0, 1:-1], target.values[1 + step : 8 + step])
        assert valid.sum() == 8 * 25
        torch.testing.assert_close(
            in_voxels(shift, target.affine)[..., 0], torch.full((9, 5, 5), float(step))
        )


def test_outside_the_field_of_view_the_nearest_value_and_no_validity():
    atlas = grid("RAS", (4, 3), (1.0, 1.0)).with_values(torch.rand(4, 3))
    corner = world(atlas)[0, 0]
    steps = torch.tensor([[[-0.4, -0.4], [-0.6, 0], [-9, -9]]])
    values, valid = sample(atlas.values[None], atlas.affine, corner + steps)
    assert valid.tolist() == [[1, 0, 0]]
    torch.testing.assert_close(values[0, 0], atlas.values[0, 0].expand(3))


@pytest.mark.parametrize("dims", [2, 3])
def test_affine_there_and_back_and_as_points(dims):
    affine = linear(torch.rand(dims, dims).double() + torch.eye(dims), [3.0, -4.0, 5.0][:dims], dims)
    transform = to_sitk_affine(affine)
    torch.testing.assert_close(from_sitk_linear(transform), affine)
    point = torch.tensor([10.0, 20.0, -30.0][:dims], dtype=torch.float64)
    there = affine[:-1, :-1] @ point + affine[:-1, -1]
    np.testing.assert_allclose(transform.TransformPoint(lps_point(point.tolist())), lps_point(there.tolist()))


@pytest.mark.parametrize("dims", [2, 3])
def test_an_affine_with_another_centre_is_the_same_map(dims):
    transform = sitk.AffineTransform(dims)
    transform.SetCenter([5.0, -6.0, 7.0][:dims])
    transform.SetMatrix(rotation([0.3, 0.2, 0.1], dims).numpy().ravel().tolist())
    transform.SetTranslation([1.0, 2.0, 3.0][:dims])
    back = to_sitk_affine(from_sitk_linear(transform))
    point = [11.0, 12.0, -13.0][:dims]
    np.testing.assert_allclose(back.TransformPoint(point), transform.TransformPoint(point))


@pytest.mark.parametrize(("target", "atlas"), PAIRS, ids=NAMES)
@pytest.mark.parametrize("suffix", ["h5", "tfm", "nii.gz"])
def test_written_transforms_map_the_same_points(tmp_path, target, atlas, suffix):
    """A transform file of ITK, which 3D Slicer loads, holds a map of LPS points from target to atlas."""
    affine, displacement = maps(target)
    path = str(tmp_path / f"transform.{suffix}")
    if suffix == "h5":
        sitk.WriteTransform(to_sitk_transform(target, affine, displacement), path)
        read = sitk.ReadTransform(path)
    elif suffix == "tfm":
        displacement = torch.zeros_like(displacement)
        sitk.WriteTransform(to_sitk_affine(affine), path)
        read = sitk.ReadTransform(path)
    else:
        affine = linear(dims=target.dims)
        parts = to_sitk_transform(target, affine, displacement)
        field = sitk.DisplacementFieldTransform(sitk.CompositeTransform(parts).GetNthTransform(1))
        sitk.WriteImage(field.GetDisplacementField(), path)
        stored = sitk.ReadImage(path)
        torch.testing.assert_close(from_sitk_field(stored), displacement)
        read = sitk.DisplacementFieldTransform(sitk.Cast(stored, sitk.sitkVectorFloat64))
    expected, places = points(target, affine, displacement), world(target)
    for index in ([0] * target.dims, [13, 16, 8][: target.dims], [5, 9, 3][: target.dims]):
        there = read.TransformPoint(lps_point(places[tuple(index)].tolist()))
        np.testing.assert_allclose(there, lps_point(expected[tuple(index)].tolist()), atol=2e-3)


def test_a_displacement_acts_before_the_affine_map():
    target = grid("LPS", (5, 5, 5), (1.0, 1.0, 1.0))
    shift = torch.zeros(5, 5, 5, 3)
    shift[..., 0] = 1.0
    quarter = linear(rotation([0.0, 0.0, torch.pi / 2], 3))  # x to y
    middle = points(target, quarter, shift)[2, 2, 2]
    torch.testing.assert_close(middle, torch.tensor([0.0, 1, 0], dtype=torch.float64))
    there = to_sitk_transform(target, quarter, shift).TransformPoint([0.0, 0.0, 0.0])
    np.testing.assert_allclose(there, [0, -1, 0], atol=1e-6)


def test_voxel_points_and_directions_used_here_are_what_they_say():
    assert voxel_points((2, 3, 4))[1, 2, 3].tolist() == [1, 2, 3]
    for frame in FRAMES:
        for dims in (2, 3):
            axes = direction(frame, dims)
            torch.testing.assert_close(axes @ axes.T, torch.eye(dims, dtype=torch.float64))
