from __future__ import annotations

import logging
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pytest
from scipy.io import savemat

from mdl_monai.errors import InputError
from mdl_monai.io.mask_file import load_mask

MASK = np.random.default_rng(0).random((6, 9)) < 0.5
MASK[3, 4] = True


@pytest.mark.parametrize("suffix", [".npz", ".npy", ".mat", ".nii.gz", "-v73.mat"])
def test_every_format_gives_the_same_mask(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"mask{suffix}"
    if suffix == ".npz":
        np.savez(path, mask=MASK, other=~MASK)
    elif suffix == ".npy":
        np.save(path, MASK)
    elif suffix == ".mat":
        savemat(path, {"mask": MASK.astype(float), "other": 1.0})
    elif suffix == "-v73.mat":
        with h5py.File(path, "w", userblock_size=512) as file:
            file["mask"] = MASK.T.astype(float)
        with path.open("r+b") as raw:
            raw.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")
    else:
        nib.save(nib.Nifti1Image(MASK.astype(np.uint8), np.eye(4)), path)
    mask = load_mask(path, "mask")
    assert mask.dtype == bool and (mask == MASK).all()


def test_the_only_array_needs_no_name_but_several_do(tmp_path: Path) -> None:
    np.savez(tmp_path / "one.npz", a=MASK)
    assert (load_mask(tmp_path / "one.npz") == MASK).all()
    np.savez(tmp_path / "two.npz", a=MASK, b=MASK)
    with pytest.raises(InputError, match="(?s)several arrays.*one of a, b.*--mask_key"):
        load_mask(tmp_path / "two.npz")
    with pytest.raises(InputError, match="no array 'c'"):
        load_mask(tmp_path / "two.npz", "c")


def test_useless_masks_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "mask.npy"
    for array, message in (
        (np.zeros((4, 4)), "the mask is empty"),
        (np.ones((4, 4, 2)), r"two axes.*\(4, 4, 2\)"),
        (np.full((4, 4), np.nan), "NaN"),
    ):
        np.save(path, array)
        with pytest.raises(InputError, match=f"(?s){message}"):
            load_mask(path)
    with pytest.raises(InputError, match="does not exist"):
        load_mask(tmp_path / "gone.npy")
    (tmp_path / "mask.txt").write_text("1")
    with pytest.raises(InputError, match=r"(?s)unknown format.*\.npz"):
        load_mask(tmp_path / "mask.txt")
    path.write_bytes(b"broken")
    with pytest.raises(InputError, match="not readable"):
        load_mask(path)


def test_a_mask_with_its_dc_in_the_corner_is_pointed_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    corner = np.zeros((8, 8), dtype=bool)
    corner[0, 0] = True
    np.save(tmp_path / "mask.npy", corner)
    with caplog.at_level(logging.WARNING):
        load_mask(tmp_path / "mask.npy")
    assert "fftshift" in caplog.text
