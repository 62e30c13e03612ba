"""Whether an affine describes a grid: of NIfTI, DICOM and k-space alike."""

from __future__ import annotations

import numpy as np

from mdl_monai.errors import InputError

VOXEL_MM = (1e-4, 1e4)
"""From electron microscopy to nothing that is a scan."""
FARTHEST_MM = 1e7
LEAST_VOLUME = 1e-3
"""Of the parallelepiped that the axes' unit vectors span: 1 for axes at right angles, 0 for axes in one plane."""


def check_affine(affine: np.ndarray, *, where: object, name: str = "affine") -> None:
    """Refuse an affine, voxel index to mm [4, 4], that is not finite, cannot be inverted or has voxels of no size.

    Raises:
        InputError: any of these.
    """
    affine = np.asarray(affine, dtype=float)
    good = bool(np.isfinite(affine).all()) and bool((np.abs(affine) < FARTHEST_MM).all())
    if good:
        sizes = np.linalg.norm(affine[:3, :3], axis=0)
        good = bool((sizes > VOXEL_MM[0]).all() and (sizes < VOXEL_MM[1]).all())
    if good:
        good = abs(np.linalg.det(affine[:3, :3] / sizes)) > LEAST_VOLUME
    if not good:
        raise InputError(
            "the image's affine does not describe a grid", where=where,
            expected=f"finite values, voxels of {VOXEL_MM[0]:g} to {VOXEL_MM[1]:g} mm, three independent axes",
            found=f"{name} {[[float(f'{v:.4g}') for v in row] for row in affine[:3]]}",
            remedy="export the image again, or correct its header",
        )  # fmt: skip
