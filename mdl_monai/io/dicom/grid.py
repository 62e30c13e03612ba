"""The grid of a DICOM source in the terms of its headers, and results brought back to it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import numpy as np
from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation
from pydicom import Dataset
from pydicom.valuerep import format_number_as_ds

from mdl_monai.errors import InputError
from mdl_monai.io.dicom.header import slice_headers
from mdl_monai.io.dicom.series import DicomSeries
from mdl_monai.io.label_map import AFFINE_TOLERANCE


class Plane(NamedTuple):
    """A slice of the grid."""

    position: list[str]
    """ImagePositionPatient, mm."""
    dataset: Dataset | None
    """The object that it comes from; None where the source had a gap, which was filled."""
    frame: int | None
    """And its frame there, from 1, where the object has several."""


@dataclass(frozen=True, eq=False)
class SourceGrid:
    """Where the voxels of a source are."""

    affine: np.ndarray
    """Voxel index (column, row, slice) to right-anterior-superior mm, [4, 4]."""
    shape: tuple[int, int, int]
    """Columns, rows, slices."""
    planes: list[Plane]
    geometry: Dataset
    """What all slices have in common: Rows, Columns, ImageOrientationPatient, PixelSpacing, SliceThickness,
    SpacingBetweenSlices."""


def source_grid(source: DicomSeries) -> SourceGrid:
    """The grid of a series; its positions are those of its affine."""
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ source.affine  # DICOM's x and y point left and back
    to_index, found = np.linalg.inv(affine), {}
    for dataset in source.datasets:
        headers = slice_headers(dataset, "the DICOM source")
        for number, header in enumerate(headers, 1):
            index = round((to_index @ [*header.position, 1])[2])
            found[index] = (dataset, number if "PerFrameFunctionalGroupsSequence" in dataset else None)
    n_slices = max(found) + 1
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    right, down, along = (affine[:3, :3] / spacing).T
    geometry = Dataset()
    geometry.Rows, geometry.Columns = headers[0].shape
    geometry.ImageOrientationPatient = _decimals([*right, *down])
    geometry.PixelSpacing = _decimals([spacing[1], spacing[0]])
    between = spacing[2] * float(along @ np.cross(right, down))
    geometry.SpacingBetweenSlices, geometry.SliceThickness = _decimals(
        [between, headers[0].thickness or between]
    )
    planes = [
        Plane(_decimals((affine @ [0, 0, index, 1])[:3]), *found.get(index, (None, None)))
        for index in range(n_slices)
    ]
    return SourceGrid(source.affine, (geometry.Columns, geometry.Rows, n_slices), planes, geometry)


def on_grid(array: np.ndarray, affine: np.ndarray, grid: SourceGrid, *, where: object) -> np.ndarray:
    """A result that lies on its source's grid but for the order and direction of the axes, brought to that order.

    Args:
        array: [X, Y, Z], or [X, Y] for a source of one slice.
        affine: voxel index to right-anterior-superior mm, [4, 4].
        grid: of the source.
        where: the file that is to be written, for the message.

    Returns:
        [columns, rows, slices].

    Raises:
        InputError: another grid.
    """
    affine, gap = np.array(affine, dtype=float), float("nan")
    if array.ndim == 2:  # 2D transforms do not keep where the next slice would lie
        array, affine[:3, 2] = array[..., None], grid.affine[:3, 2]
    if array.ndim == 3 and np.isfinite(affine).all() and np.linalg.det(affine) != 0:
        orientation = io_orientation(np.linalg.inv(grid.affine) @ affine)
        affine = affine @ inv_ornt_aff(orientation, array.shape)
        array = apply_orientation(array, orientation)
        corners = np.array([(*corner, 1) for corner in product(*((0, n - 1) for n in grid.shape))])
        gap = float(np.linalg.norm(corners @ (affine - grid.affine).T, axis=1).max())
    if array.shape != grid.shape or not gap <= AFFINE_TOLERANCE:
        raise InputError(
            "the result does not lie on the grid of its DICOM source",
            where=where,
            expected=f"{' x '.join(map(str, grid.shape))} voxels, corners within {AFFINE_TOLERANCE:g} mm",
            found=f"{' x '.join(map(str, array.shape))} voxels, {gap:.3g} mm away",
            remedy="bring it back to the input's grid (Invertd) before it is written",
        )
    return array


def _decimals(values: Iterable[float]) -> list[str]:
    """Decimal strings, of 16 characters at most; minus zero becomes zero."""
    return [format_number_as_ds(round(float(value), 8) + 0.0) for value in values]
