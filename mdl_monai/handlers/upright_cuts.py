"""Axial, coronal and sagittal cuts for pictures, upright whatever the order and direction of an array's axes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.data.utils import to_affine_nd

# RAS+: name, axis across the cut, horizontal axis, vertical axis
PLANES = (("axial", 2, 0, 1), ("coronal", 1, 0, 2), ("sagittal", 0, 1, 2))
SIDES = ("LR", "PA", "IS")  # where each axis begins and ends


@dataclass(frozen=True)
class Cut:
    """One plane through several maps of a case."""

    name: str
    """axial, coronal or sagittal"""
    arrays: dict[str, np.ndarray]
    """each map's [horizontal, vertical]: to the patient's right or front, and to the front or top"""
    size: tuple[float, float]
    """horizontal and vertical, mm"""
    sides: str
    """letters of the left, right, lower and upper edge"""


def upright_cuts(maps: Mapping[str, Any], affine: Any, guide: str) -> list[Cut]:
    """The axial, coronal and sagittal cut where the map `guide` has the most foreground, else the middle ones.

    Args:
        maps: tensors [1, H, W] or [1, H, W, D] of one grid.
        affine: of that grid, to RAS+ in mm; for an oblique one the nearest axes count.
        guide: the key of a label map (or any map with a background of 0).

    Returns:
        Three cuts; of a single slice, the one that it is.
    """
    affine = to_affine_nd(3, torch.as_tensor(affine).cpu().numpy())
    orientation = nib.orientations.io_orientation(affine)
    spacing = nib.affines.voxel_sizes(affine)[np.argsort(orientation[:, 0])]
    volumes = {}
    for key, image in maps.items():
        array = torch.as_tensor(image[0]).cpu().numpy()
        array = array[..., None] if array.ndim == 2 else array
        volumes[key] = nib.orientations.apply_orientation(array, orientation)
    foreground = volumes[guide] != 0
    cuts = []
    for name, across, *inside in PLANES:
        shape = [foreground.shape[axis] for axis in inside]
        if 1 in shape:
            continue
        counts = foreground.sum(axis=tuple(inside))
        at = int(counts.argmax()) if counts.any() else len(counts) // 2
        width, height = (float(n * spacing[axis]) for n, axis in zip(shape, inside, strict=True))
        arrays = {key: volume.take(at, axis=across) for key, volume in volumes.items()}
        cuts.append(Cut(name, arrays, (width, height), SIDES[inside[0]] + SIDES[inside[1]]))
    return cuts
