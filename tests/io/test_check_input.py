from __future__ import annotations

import gzip
import struct
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from mdl_monai.errors import InputError
from mdl_monai.io.check_input import check_header, check_input


def save(folder: Path, array: np.ndarray) -> Path:
    path = folder / "image.nii.gz"
    nib.save(nib.Nifti1Image(array, np.eye(4)), path)
    return path


def save_with_nan_affine(folder: Path, array: np.ndarray) -> Path:
    path = save(folder, array)
    raw = bytearray(gzip.decompress(path.read_bytes()))
    struct.pack_into("<f", raw, 280, float("nan"))  # the header's srow_x
    path.write_bytes(gzip.compress(raw))
    return path


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 1), (5, 7, 3), (5, 7, 3, 1)])
def test_slices_and_volumes_pass(tmp_path: Path, shape: tuple[int, ...]) -> None:
    check_header(save(tmp_path, np.zeros(shape, np.float32)))


def test_headers_of_what_is_no_image_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"(?s)wrong number of axes.*2D or 3D.*\(5, 7, 3, 2\)"):
        check_header(save(tmp_path, np.zeros((5, 7, 3, 2), np.float32)))
    colour = np.zeros((5, 7, 3), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    with pytest.raises(InputError, match="in colour"):
        check_header(save(tmp_path, colour))
    with pytest.raises(InputError, match="affine"):
        check_header(save_with_nan_affine(tmp_path, np.zeros((5, 7, 3), np.float32)))
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes(b"not a nifti file")
    with pytest.raises(InputError, match=r"(?s)not a readable NIfTI.*broken\.nii\.gz"):
        check_header(broken)
    with pytest.raises(InputError, match="does not exist"):
        check_header(tmp_path / "gone.nii.gz")


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (torch.rand(3, 5, 7), "wrong shape.*1 channel"),
        (torch.rand(1, 5, 7, 3, 2), "wrong shape"),
        (torch.tensor([[[0.0, float("nan")], [1, 2]]]), "NaN or infinite.*1 of 4"),
        (torch.zeros(1, 5, 7), "empty.*every voxel is 0"),
    ],
)
def test_images_that_would_give_nonsense_are_refused(image: torch.Tensor, message: str) -> None:
    with pytest.raises(InputError, match=f"(?s){message}"):
        check_input(image, where="here")


def test_a_good_image_passes() -> None:
    check_input(torch.rand(1, 5, 7), where="here")
    check_input(torch.rand(1, 5, 7, 2), where="here")
