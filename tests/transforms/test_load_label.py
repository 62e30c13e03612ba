from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from mdl_monai.errors import InputError
from mdl_monai.transforms.load_label import LoadImageAndLabeld


def save(path: Path, array: np.ndarray, affine: np.ndarray | None = None) -> str:
    nib.save(nib.Nifti1Image(array, np.diag([2.0, 3.0, 4.0, 1.0]) if affine is None else affine), path)
    return str(path)


def test_image_and_label_come_with_one_case_and_unchanged_values(tmp_path: Path) -> None:
    image = np.random.default_rng(0).random((5, 6, 3)).astype(np.float32) * 1.7e6
    label = np.zeros((5, 6, 3), np.int16)
    label[1:3] = 300
    record = {
        "t1": save(tmp_path / "a.nii.gz", image),
        "seg": save(tmp_path / "b.nii.gz", label),
        "case": "p1",
        "age": 7,
    }
    loaded = LoadImageAndLabeld("t1", "seg", [1, 300])(record)
    assert set(loaded) == {"image", "label"}
    assert loaded["image"].meta["case"] == loaded["label"].meta["case"] == "p1"
    np.testing.assert_array_equal(loaded["image"].numpy()[0], image)
    np.testing.assert_array_equal(loaded["label"].numpy()[0], label)


def test_a_map_of_background_alone_is_no_error(tmp_path: Path) -> None:
    image = np.random.default_rng(0).random((5, 6, 3)).astype(np.float32)
    record = {
        "image": save(tmp_path / "a.nii.gz", image),
        "label": save(tmp_path / "b.nii.gz", np.zeros((5, 6, 3), np.uint8)),
    }
    assert not LoadImageAndLabeld("image", "label", [1])(record)["label"].any()


def test_what_does_not_fit_is_refused_by_its_file(tmp_path: Path) -> None:
    image = save(tmp_path / "a.nii.gz", np.random.default_rng(0).random((5, 6, 3)).astype(np.float32))
    load = LoadImageAndLabeld("image", "label", [1], spatial_dims=(3,))
    with pytest.raises(InputError, match=r"(?s)no reference.*a\.nii\.gz"):
        load({"image": image})
    small = save(tmp_path / "small.nii.gz", np.ones((5, 6, 2), np.uint8))
    with pytest.raises(InputError, match=r"(?s)another shape.*small\.nii\.gz"):
        load({"image": image, "label": small})
    moved = save(tmp_path / "moved.nii.gz", np.ones((5, 6, 3), np.uint8), np.eye(4))
    with pytest.raises(InputError, match=r"(?s)elsewhere in space.*moved\.nii\.gz"):
        load({"image": image, "label": moved})
    film = save(tmp_path / "film.nii.gz", np.ones((5, 6, 3, 2), np.uint8))
    with pytest.raises(InputError, match=r"(?s)wrong number of axes.*film\.nii\.gz"):
        load({"image": image, "label": film})
