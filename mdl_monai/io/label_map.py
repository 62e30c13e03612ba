"""Label maps: which labels a set holds, and whether one fits its image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from mdl_monai.errors import InputError

AFFINE_TOLERANCE = 1e-2  # mm; headers round their numbers


def label_values(label_map: Tensor, *, where: object) -> list[int]:
    """The labels of a map, background 0 left out, ascending.

    Raises:
        InputError: voxels that are no whole number from 0 upwards.
    """
    values = torch.unique(torch.as_tensor(label_map)).double()
    wrong = values[~torch.isfinite(values) | (values != values.round()) | (values < 0)]
    if len(wrong):
        raise InputError(
            "the label map holds values that are no labels",
            where=where,
            expected="whole numbers, 0 for the background",
            found=", ".join(f"{v:g}" for v in wrong[:5].tolist()),
            remedy="save one whole number a structure; probabilities and interpolated maps are none",
        )
    return [int(v) for v in values.tolist() if v != 0]


def check_label_map(
    label_map: Tensor, image: Tensor, labels: Sequence[int], *, where: object, affines: Sequence[np.ndarray]
) -> None:
    """Refuse a reference that does not belong to its image.

    Args:
        label_map, image: [1, H, W(, D)].
        labels: the labels that there are, background left out.
        where: the label map's file, for the message.
        affines: of label map and image, both 4 x 4, in mm.

    Raises:
        InputError: another shape, another place in space, an unknown label.
    """
    check_grid(label_map, image, "label map", where=where, affines=affines)
    check_labels(label_values(label_map, where=where), labels, where=where)


def check_grid(
    other: Tensor, image: Tensor, what: str, *, where: object, affines: Sequence[np.ndarray]
) -> None:
    """Refuse what does not lie on its image, voxel for voxel.

    Args:
        other, image: [1, H, W(, D)].
        what: the other is called in the message.
        where: its file.
        affines: of both, 4 x 4, in mm.

    Raises:
        InputError: another shape, another place in space.
    """
    if other.shape != image.shape:
        raise InputError(
            f"the {what} has another shape than its image",
            where=where,
            expected=tuple(image.shape[1:]),
            found=tuple(other.shape[1:]),
            remedy="resample it to the image, or correct the record",
        )
    gap = float(np.abs(np.asarray(affines[0]) - np.asarray(affines[1])).max())
    if gap > AFFINE_TOLERANCE:
        raise InputError(
            f"the {what} lies elsewhere in space than its image",
            where=where,
            expected=np.round(np.asarray(affines[1]), 3).tolist(),
            found=np.round(np.asarray(affines[0]), 3).tolist(),
            remedy="resample it to the image, or copy the image's header if only that is wrong",
        )


def check_labels(values: Sequence[int], labels: Sequence[int], *, where: object) -> None:
    """Refuse a map whose values are not all among the labels that there are; both without background.

    Raises:
        InputError: an unknown label.
    """
    unknown = sorted(set(values) - set(labels))
    if unknown:
        raise InputError(
            "the label map holds an unknown label",
            where=where,
            expected=f"0 and {', '.join(map(str, labels))}",
            found=", ".join(map(str, unknown[:10])),
            remedy="name all labels with --labels '[1, 2]' or in dataset.json, or correct the map",
        )
