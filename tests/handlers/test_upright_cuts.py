from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
import torch

from mdl_monai.handlers.upright_cuts import Cut, upright_cuts

SHAPE, SPACING = (7, 10, 5), (0.5, 1.5, 4.0)


def maps(label_at: tuple[int, int, int] | None = (2, 8, 3)) -> dict[str, torch.Tensor]:
    """Volumes in RAS+; the label map is a cross with most foreground in the three slices through its centre."""
    label = torch.zeros(1, *SHAPE)
    if label_at is not None:
        x, y, z = label_at
        label[0, x, y - 1 : y + 2, z - 1 : z + 2] = 1
        label[0, x - 1 : x + 2, y, z - 1 : z + 2] = 2
        label[0, x - 1 : x + 2, y - 1 : y + 2, z] = 3
    return {"image": torch.rand(1, *SHAPE), "label": label}


def affine() -> np.ndarray:
    return np.diag([*SPACING, 1.0])


def assert_equal(ours: list[Cut], expected: list[Cut]) -> None:
    assert [(cut.name, cut.sides) for cut in ours] == [(cut.name, cut.sides) for cut in expected]
    for a, b in zip(ours, expected, strict=True):
        assert a.size == pytest.approx(b.size)
        for key in b.arrays:
            np.testing.assert_array_equal(a.arrays[key], b.arrays[key])


def test_each_cut_goes_through_the_slice_with_the_most_foreground() -> None:
    volumes = maps()
    axial, coronal, sagittal = upright_cuts(volumes, affine(), "label")
    for key, volume in volumes.items():
        np.testing.assert_array_equal(axial.arrays[key], volume[0, :, :, 3])
        np.testing.assert_array_equal(coronal.arrays[key], volume[0, :, 8, :])
        np.testing.assert_array_equal(sagittal.arrays[key], volume[0, 2, :, :])
    assert [cut.name for cut in (axial, coronal, sagittal)] == ["axial", "coronal", "sagittal"]
    assert [cut.sides for cut in (axial, coronal, sagittal)] == ["LRPA", "LRIS", "PAIS"]
    assert [cut.size for cut in (axial, coronal, sagittal)] == [(3.5, 15), (3.5, 20), (15, 20)]


def test_without_foreground_the_middle_slices_are_cut() -> None:
    volumes = maps(None)
    axial, coronal, sagittal = (cut.arrays["image"] for cut in upright_cuts(volumes, affine(), "label"))
    image = volumes["image"][0]
    for cut, expected in ((axial, image[:, :, 2]), (coronal, image[:, 5]), (sagittal, image[3])):
        np.testing.assert_array_equal(cut, expected)


def test_the_order_and_direction_of_the_arrays_axes_do_not_matter() -> None:
    volumes = maps()
    expected = upright_cuts(volumes, affine(), "label")
    for order, flips in product(permutations(range(3)), product((False, True), repeat=3)):
        of = affine()[:, [*order, 3]]
        turned = {key: v.permute(0, *(1 + axis for axis in order)) for key, v in volumes.items()}
        for axis, flip in enumerate(flips):
            if flip:
                turned = {key: v.flip(1 + axis) for key, v in turned.items()}
                of[:3, axis] *= -1
        assert_equal(upright_cuts(turned, of, "label"), expected)


def test_an_oblique_grid_is_shown_along_its_nearest_axes_at_its_own_spacing() -> None:
    angle = np.deg2rad(20)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    volumes = maps()
    assert_equal(upright_cuts(volumes, turn @ affine(), "label"), upright_cuts(volumes, affine(), "label"))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_slice_is_the_cut_that_it_is(axis: int) -> None:
    thin = {key: v.narrow(1 + axis, 3, 1) for key, v in maps().items()}
    (cut,) = upright_cuts(thin, affine(), "label")
    assert cut.name == ("sagittal", "coronal", "axial")[axis]
    np.testing.assert_array_equal(cut.arrays["image"], thin["image"][0].squeeze(axis))


def test_a_slice_without_third_axis_takes_two_columns_of_the_affine() -> None:
    flat = {key: v[..., 3] for key, v in maps().items()}
    expected = upright_cuts({key: v[..., None] for key, v in flat.items()}, affine(), "label")
    assert_equal(upright_cuts(flat, affine(), "label"), expected)
    assert_equal(upright_cuts(flat, np.diag([*SPACING[:2], 1.0]), "label"), expected)
