from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from mdl_monai.errors import InputError
from mdl_monai.phantoms.head import head_phantom
from mdl_monai.transforms.load_pair import LoadImageAndCTd

PHANTOM = head_phantom(0, (43, 61, 41), (5.0, 4.0, 5.5))


def save(path: Path, array: np.ndarray, affine: np.ndarray | None = None) -> str:
    nib.save(nib.Nifti1Image(array, PHANTOM.affine.numpy() if affine is None else affine), path)
    return str(path)


def record(folder: Path) -> dict[str, str]:
    mask = (PHANTOM.tissue > 0).numpy().astype(np.uint8)
    return {
        "mr": save(folder / "mr.nii.gz", PHANTOM.mr.numpy()),
        "ct": save(folder / "ct.nii.gz", PHANTOM.ct.numpy()),
        "mask": save(folder / "mask.nii.gz", mask),
    }


def test_ct_stays_in_hu_and_the_mask_is_its_second_channel(tmp_path: Path) -> None:
    loaded = LoadImageAndCTd("mr", "ct", "mask")(record(tmp_path))
    np.testing.assert_array_equal(loaded["image"].numpy()[0], PHANTOM.mr.numpy())
    np.testing.assert_array_equal(loaded["label"].numpy()[0], PHANTOM.ct.numpy())
    np.testing.assert_array_equal(loaded["label"].numpy()[1], (PHANTOM.tissue > 0).numpy())
    assert loaded["label"].meta["case"] == loaded["image"].meta["case"]


def test_without_a_mask_the_head_is_found(tmp_path: Path) -> None:
    found = LoadImageAndCTd("mr", "ct", None)(record(tmp_path))["label"].numpy()[1] > 0
    head = (PHANTOM.tissue > 0).numpy()
    assert 2 * (found & head).sum() / (found.sum() + head.sum()) > 0.92


def test_what_does_not_fit_is_refused_by_its_file(tmp_path: Path) -> None:
    load, good = LoadImageAndCTd("mr", "ct", "mask"), record(tmp_path)
    ct = PHANTOM.ct.numpy()
    cases = {
        "small": (save(tmp_path / "small.nii.gz", ct[:-1]), "CT has another shape"),
        "moved": (save(tmp_path / "moved.nii.gz", ct, np.eye(4)), "CT lies elsewhere"),
        "shifted": (save(tmp_path / "shifted.nii.gz", ct + 1024), "not in HU"),
    }
    for name, (path, what) in cases.items():
        with pytest.raises(InputError, match=rf"(?s){what}.*{name}\.nii\.gz"):
            load({**good, "ct": path})
    two = save(tmp_path / "two.nii.gz", 2 * np.ones(ct.shape, np.uint8))
    with pytest.raises(InputError, match=r"(?s)unknown label.*two\.nii\.gz"):
        load({**good, "mask": two})
