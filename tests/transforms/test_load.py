from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from mdl_monai.errors import InputError
from mdl_monai.transforms.load import LoadInputd, case_file_name


def save(path: Path, array: np.ndarray) -> str:
    nib.save(nib.Nifti1Image(array, np.diag([2.0, 3.0, 4.0, 1.0])), path)
    return str(path)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((9, 6), (1, 9, 6)),
        ((9, 6, 1), (1, 9, 6, 1)),
        ((9, 6, 4), (1, 9, 6, 4)),
        ((9, 6, 4, 1), (1, 9, 6, 4)),
    ],
)
def test_images_come_channel_first_with_their_case(
    tmp_path: Path, shape: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    array = np.random.default_rng(0).random(shape).astype(np.float32)
    file = save(tmp_path / "a.b.nii.gz", array)
    image = LoadInputd("image")({"image": file})["image"]
    assert tuple(image.shape) == expected and image.meta["case"] == "a.b"
    np.testing.assert_allclose(image.numpy().ravel(), array.ravel())
    named = LoadInputd("image")({"image": file, "case": "patient_a.b"})["image"]
    assert case_file_name(named.meta, None) == {"subject": "patient_a.b", "idx": None}


def test_bad_files_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"(?s)wrong number of axes.*film\.nii\.gz"):
        LoadInputd("image")({"image": save(tmp_path / "film.nii.gz", np.ones((4, 4, 2, 3), np.float32))})
    holes = np.ones((4, 4), np.float32)
    holes[1, 1] = np.nan
    with pytest.raises(InputError, match=r"(?s)NaN.*holes\.nii\.gz.*1 of 16"):
        LoadInputd("image")({"image": save(tmp_path / "holes.nii.gz", holes)})
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(InputError, match=r"(?s)cannot be read.*text\.png"):
        LoadInputd("image")({"image": str(tmp_path / "text.png")})
