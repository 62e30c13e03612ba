"""Series that another library wrote: SimpleITK, which is GDCM."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from dicom_files import oblique_axes, orthogonal_axes

from mdl_monai.io.dicom.series import load_series

SPACING = (1.25, 0.8, 3.0)
AXES = [*orthogonal_axes()[::5], *(oblique_axes(np.random.default_rng(seed)) for seed in range(3))]


def written(folder: Path, axes: np.ndarray) -> sitk.Image:
    """A volume as single files, whose names are not in the order of their places."""
    values = np.random.default_rng(3).integers(-900, 3000, (5, 7, 6)).astype(np.int16)
    image = sitk.GetImageFromArray(values)
    image.SetSpacing(SPACING)
    image.SetOrigin((-31.5, 12.25, 40.125))
    image.SetDirection(axes.ravel().tolist())
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    row, column = axes[:, 0], axes[:, 1]
    for n in range(image.GetDepth()):
        cut = image[:, :, n]
        position = image.TransformIndexToPhysicalPoint((0, 0, n))
        tags = {
            "0008|0060": "MR", "0008|0016": "1.2.840.10008.5.1.4.1.1.4", "0020|000d": "1.2.3", "0020|000e": "1.2.3.4",
            "0020|0052": "1.2.3.5", "0020|0032": "\\".join(f"{x:.10g}" for x in position),
            "0020|0037": "\\".join(f"{x:.10g}" for x in (*row, *column)),
        }  # fmt: skip
        for tag, value in tags.items():
            cut.SetMetaData(tag, value)
        writer.SetFileName(str(folder / f"{(n * 3) % 5}.dcm"))
        writer.Execute(cut)
    return image


@pytest.mark.parametrize("axes", AXES)
def test_values_and_places_are_those_that_were_written(axes: np.ndarray, tmp_path: Path) -> None:
    image = written(tmp_path, np.asarray(axes, float))
    found = load_series(tmp_path)
    assert found.array is not None
    values = sitk.GetArrayFromImage(image)  # [slices, rows, columns]
    for index in np.ndindex(*found.array.shape):
        world = found.affine @ [*index, 1]
        there = image.TransformPhysicalPointToIndex((-world[0], -world[1], world[2]))
        assert values[there[::-1]] == found.array[index]
        point = np.array(image.TransformIndexToPhysicalPoint(there)) * (-1, -1, 1)
        assert np.abs(point - world[:3]).max() < 1e-3
