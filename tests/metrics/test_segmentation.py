from __future__ import annotations

import math
from itertools import permutations

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from monai.data import MetaTensor

from mdl_monai.metrics.segmentation import SegmentationMetrics

SPACING = (0.7, 1.3, 2.9)
MEASURE = SegmentationMetrics([1, 2])


def grid(spacing: tuple[float, ...] = SPACING, oblique: bool = False) -> torch.Tensor:
    """4 x 4 affine of a grid at that spacing, turned about an axis that is none of the array's if oblique."""
    affine = torch.eye(4, dtype=torch.float64)
    affine[:3, :3] = torch.diag(torch.tensor(spacing, dtype=torch.float64))
    if oblique:
        turn = torch.tensor([[0, -0.3, 0.5], [0.3, 0, -0.7], [-0.5, 0.7, 0]], dtype=torch.float64)
        affine[:3, :3] = torch.linalg.matrix_exp(turn) @ affine[:3, :3]
        affine[:3, 3] = torch.tensor([-20.0, 4.0, 31.0])
    return affine


def on_grid(labels: torch.Tensor, affine: torch.Tensor | None = None) -> MetaTensor:
    return MetaTensor(labels, affine=grid() if affine is None else affine)


def blobs(seed: int, shape: tuple[int, int, int] = (23, 18, 11)) -> torch.Tensor:
    """Label map [1, ...] of two touching ragged bodies, away from the border."""
    rng = np.random.default_rng(seed)
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    radius = np.sqrt(sum(axis**2 for axis in axes)) + rng.normal(0, 0.08, shape)
    labels = np.where(radius < 0.7, 1 + (axes[0] > rng.uniform(-0.2, 0.2)), 0)
    return torch.from_numpy(labels)[None]


def box(start: tuple[int, int, int], size: tuple[int, int, int] = (8, 7, 6)) -> torch.Tensor:
    labels = torch.zeros(1, 26, 21, 16, dtype=torch.int64)
    labels[0][tuple(slice(a, a + n) for a, n in zip(start, size, strict=True))] = 1
    return labels


def test_keys_come_label_by_label_and_the_mean_last() -> None:
    metrics = SegmentationMetrics([3, 1])(on_grid(blobs(0)), on_grid(blobs(1)))
    assert list(metrics) == [
        *("dice_3", "hd95_3", "asd_3", "volume_ml_3"),
        *("dice_1", "hd95_1", "asd_1", "volume_ml_1"),
        "dice_mean",
    ]
    assert all(type(figure) is float for figure in metrics.values())


def test_a_label_map_agrees_with_itself() -> None:
    metrics = MEASURE(on_grid(blobs(0)), on_grid(blobs(0)))
    for n in (1, 2):
        assert [metrics[f"{key}_{n}"] for key in ("dice", "hd95", "asd")] == [1, 0, 0]
    assert metrics["dice_mean"] == 1


def test_only_the_volume_tells_prediction_from_reference() -> None:
    a, b = on_grid(blobs(0)), on_grid(blobs(1))
    forth, back = MEASURE(a, b), MEASURE(b, a)
    assert 0.5 < forth["dice_mean"] < 0.99 and forth["asd_1"] > 0
    for key in forth:
        if key.startswith("volume"):
            assert forth[key] != back[key]
        else:
            assert forth[key] == pytest.approx(back[key], rel=1e-6)


@pytest.mark.parametrize("oblique", [False, True])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_shifted_box_is_as_far_away_as_it_was_shifted_in_mm(axis: int, oblique: bool) -> None:
    affine = grid(oblique=oblique)
    start = [5, 6, 4]
    moved = list(start)
    moved[axis] += 2
    metrics = SegmentationMetrics([1])(on_grid(box(tuple(moved)), affine), on_grid(box(tuple(start)), affine))
    length = (8, 7, 6)[axis]
    assert metrics["hd95_1"] == pytest.approx(2 * SPACING[axis], rel=1e-6)
    assert 0 < metrics["asd_1"] < 2 * SPACING[axis]
    assert metrics["dice_1"] == pytest.approx((length - 2) / length, rel=1e-6)
    assert metrics["volume_ml_1"] == pytest.approx(8 * 7 * 6 * math.prod(SPACING) / 1000, rel=1e-9)


def test_two_single_voxels_are_apart_by_their_distance_in_mm() -> None:
    a, b = (box(start, (1, 1, 1)) for start in ((3, 9, 2), (14, 4, 8)))
    metrics = SegmentationMetrics([1])(on_grid(a), on_grid(b))
    distance = math.hypot(11 * SPACING[0], 5 * SPACING[1], 6 * SPACING[2])
    assert metrics["hd95_1"] == pytest.approx(distance, rel=1e-6)
    assert metrics["asd_1"] == pytest.approx(distance, rel=1e-6)


def test_neither_the_order_of_the_axes_nor_their_direction_matters() -> None:
    pred, label = blobs(0), blobs(1)
    expected = MEASURE(on_grid(pred), on_grid(label))
    for order in permutations(range(3)):
        affine = grid()[:, [*order, 3]]
        affine[:3, 0] *= -1  # the first axis runs backwards
        maps = [m.permute(0, *(1 + axis for axis in order)).flip(1) for m in (pred, label)]
        assert MEASURE(*(on_grid(m, affine) for m in maps)) == pytest.approx(expected, rel=1e-6)


def test_background_around_the_labels_does_not_matter_even_where_they_touch_the_border() -> None:
    inner = (slice(None), slice(6, 17), slice(4, 14), slice(2, 9))
    pred, label = blobs(0)[inner], blobs(1)[inner]
    assert pred[:, 0].any() and label[..., -1].any()
    wide = [torch.nn.functional.pad(m, (9, 4, 3, 8, 2, 7)) for m in (pred, label)]
    assert MEASURE(on_grid(pred), on_grid(label)) == pytest.approx(MEASURE(*map(on_grid, wide)), rel=1e-6)


def test_a_slice_is_the_same_with_and_without_its_axis_of_one() -> None:
    pred, label = blobs(0)[..., 5], blobs(1)[..., 5]
    flat = MEASURE(on_grid(pred), on_grid(label))
    assert flat["asd_1"] > 0
    assert MEASURE(on_grid(pred[..., None]), on_grid(label[..., None])) == pytest.approx(flat, rel=1e-9)
    assert MEASURE(on_grid(pred, grid(oblique=True)), on_grid(label)) == pytest.approx(flat, rel=1e-6)
    n_voxels = int((pred == 1).sum())
    assert flat["volume_ml_1"] == pytest.approx(n_voxels * math.prod(SPACING) / 1000, rel=1e-9)


def test_a_label_that_is_nowhere_agrees_and_one_that_is_missed_does_not() -> None:
    some, none = on_grid(blobs(0)), on_grid(torch.zeros_like(blobs(0)))
    cases = [MEASURE(none, none), MEASURE(none, some), MEASURE(some, none)]
    assert [case["dice_1"] for case in cases] == [1, 0, 0]
    assert [case["dice_mean"] for case in cases] == [1, 0, 0]
    assert all(math.isnan(case[key]) for case in cases for key in ("hd95_1", "asd_1", "hd95_2", "asd_2"))
    assert [case["volume_ml_1"] > 0 for case in cases] == [False, False, True]


def test_one_empty_label_leaves_the_other_as_it_is() -> None:
    pred, label = blobs(0), blobs(1)
    both = MEASURE(on_grid(pred), on_grid(label))
    lacking = MEASURE(on_grid(torch.where(pred == 2, 0, pred)), on_grid(label))
    assert [lacking["dice_2"], lacking["dice_mean"]] == pytest.approx([0, both["dice_1"] / 2])
    assert {k: lacking[k] for k in both if k.endswith("_1")} == {k: both[k] for k in both if k.endswith("_1")}
    assert math.isnan(lacking["hd95_2"])


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.float32])
def test_the_number_type_of_the_label_map_does_not_matter(dtype: torch.dtype) -> None:
    pred, label = blobs(0), blobs(1)
    assert MEASURE(on_grid(pred.to(dtype)), on_grid(label)) == MEASURE(on_grid(pred), on_grid(label))


def surface_distances(pred: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """mm from each surface voxel to the other surface, both ways, by SimpleITK's contours and distance maps."""
    contours = []
    for mask in (pred, label):
        image = sitk.GetImageFromArray(np.pad(mask, 1).astype(np.uint8))
        image.SetSpacing(SPACING[::-1])  # SimpleITK counts axes from the last
        contours.append(sitk.LabelContour(image))
    distances = []
    for here, there in (contours, contours[::-1]):
        to_there = sitk.SignedMaurerDistanceMap(there, squaredDistance=False, useImageSpacing=True)
        distances.append(np.abs(sitk.GetArrayFromImage(to_there))[sitk.GetArrayFromImage(here).astype(bool)])
    return distances[0], distances[1]


@pytest.mark.parametrize("n", [1, 2])
def test_figures_equal_simpleitks(n: int) -> None:
    pred, label = blobs(2), blobs(3)
    metrics = MEASURE(on_grid(pred), on_grid(label))
    masks = [(m[0] == n).numpy() for m in (pred, label)]
    overlap = sitk.LabelOverlapMeasuresImageFilter()
    overlap.Execute(*(sitk.GetImageFromArray(mask.astype(np.uint8)) for mask in masks))
    assert metrics[f"dice_{n}"] == pytest.approx(overlap.GetDiceCoefficient(), rel=1e-6)
    forth, back = surface_distances(*masks)
    assert metrics[f"asd_{n}"] == pytest.approx(np.concatenate([forth, back]).mean(), rel=1e-5)
    assert metrics[f"hd95_{n}"] == pytest.approx(max(np.percentile(d, 95) for d in (forth, back)), rel=1e-5)


def test_maps_of_different_shape_and_no_labels_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(1, 23, 18, 11\) and label \(1, 23, 18, 10\) differ"):
        MEASURE(on_grid(blobs(0)), on_grid(blobs(0)[..., 1:]))
    with pytest.raises(ValueError, match="no foreground labels"):
        SegmentationMetrics([])


def test_without_reference_there_are_volumes_alone() -> None:
    pred = on_grid(blobs(0))
    alone = MEASURE(pred, None)
    assert list(alone) == ["volume_ml_1", "volume_ml_2"]
    assert alone == {k: v for k, v in MEASURE(pred, pred).items() if k in alone}
