"""Overlap, surface distances and volume of a label map, by label."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

import torch
from monai.data import MetaTensor
from monai.data.utils import affine_to_spacing
from monai.metrics import compute_average_surface_distance, compute_dice, compute_hausdorff_distance
from monai.transforms.utils import generate_spatial_bounding_box
from torch import Tensor

MM3_PER_ML = 1000.0


class SegmentationMetrics:
    """Dice, 95 % Hausdorff distance, average surface distance and volume of each label of one case.

    Dice is 1 where prediction and reference are both empty and 0 where one is. The distances (MONAI's, between the
    centres of the surface voxels) are the larger of the two directed 95th percentiles, and the mean over both
    surfaces; NaN where a label map lacks the label. A volume of one slice is measured as the slice that it is; its
    volume takes the affine's slice spacing.

    Args:
        labels: the foreground label values, as in the label map.

    Raises:
        ValueError: no labels.
    """

    def __init__(self, labels: Sequence[int]) -> None:
        if not labels:
            raise ValueError("there are no foreground labels to measure")
        self.labels = tuple(labels)

    def __call__(self, pred: MetaTensor, label: MetaTensor | None) -> dict[str, float]:
        """Metrics of one case.

        Args:
            pred: predicted label map, [1, H, W] or [1, H, W, D]; its affine gives the spacing in mm.
            label: reference label map on the same grid; None where there is none.

        Returns:
            For each label n ``dice_<n>``, ``hd95_<n>`` and ``asd_<n>`` (mm), ``volume_ml_<n>`` (of the prediction);
            then ``dice_mean`` over the labels. Without reference the volumes alone.

        Raises:
            ValueError: if the shapes differ.
        """
        affine = torch.as_tensor(pred.affine, dtype=torch.float64)
        voxel_ml = abs(torch.linalg.det(affine).item()) / MM3_PER_ML
        if label is None:
            return {f"volume_ml_{n}": int((pred == n).sum()) * voxel_ml for n in self.labels}
        if pred.shape != label.shape:
            raise ValueError(f"pred {tuple(pred.shape)} and label {tuple(label.shape)} differ in shape")
        # a slice's columns of the affine have three components too, so three rows count whatever the axes
        spacing = affine_to_spacing(affine, r=3).tolist()
        x, g = _cropped(pred.as_tensor(), label.as_tensor())
        axes = [axis for axis, size in enumerate(pred.shape[1:]) if size > 1]
        spacing = [spacing[axis] for axis in axes]
        x, g = (map_.reshape([map_.shape[1 + axis] for axis in axes]) for map_ in (x, g))
        metrics: dict[str, float] = {}
        for n in self.labels:
            # [1, 1, ...]: MONAI's batch and channel
            a, b = (x == n)[None, None], (g == n)[None, None]
            metrics[f"dice_{n}"] = compute_dice(a, b, ignore_empty=False).item()
            hd95 = asd = math.nan
            if a.any() and b.any():
                hd95, asd = _surface_distances(a, b, spacing)
            metrics |= {f"hd95_{n}": hd95, f"asd_{n}": asd, f"volume_ml_{n}": int(a.sum()) * voxel_ml}
        metrics["dice_mean"] = sum(metrics[f"dice_{n}"] for n in self.labels) / len(self.labels)
        return metrics


def _surface_distances(pred: Tensor, label: Tensor, spacing: Sequence[float]) -> tuple[float, float]:
    """95 % Hausdorff and average symmetric surface distance, mm, of two masks [1, 1, ...] that hold something."""
    with warnings.catch_warnings():
        # MONAI 1.6 calls itself with an argument that it has deprecated
        warnings.filterwarnings("ignore", message=".*always_return_as_numpy", category=FutureWarning)
        hd95 = compute_hausdorff_distance(
            pred, label, include_background=True, percentile=95, spacing=spacing
        )
        asd = compute_average_surface_distance(
            pred, label, include_background=True, symmetric=True, spacing=spacing
        )
    return hd95.item(), asd.item()


def _cropped(pred: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """Both maps within the bounding box of their foreground, on the CPU: what is outside changes no figure."""
    start, stop = generate_spatial_bounding_box(pred.bool() | label.bool())
    box = (slice(None), *(slice(a, b) for a, b in zip(start, stop, strict=True)))
    return pred[box].cpu(), label[box].cpu()
