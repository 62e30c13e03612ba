"""Sampling masks from the user's own file."""

from __future__ import annotations

import logging
import zipfile
from pathlib import Path

import h5py
import numpy as np
from scipy.io import loadmat, whosmat

from mdl_monai.errors import InputError
from mdl_monai.io.hdf5 import own_member, stored_array
from mdl_monai.io.limits import refuse_large
from mdl_monai.io.nifti_reader import read_nifti

FORMATS = (".npz", ".npy", ".mat", ".nii", ".nii.gz")


def load_mask(path: str | Path, key: str | None = None) -> np.ndarray:
    """Read a sampling mask [H, W], bool, DC at H//2, W//2.

    Args:
        path: .npz, .npy, .mat (also version 7.3) or NIfTI file; anything above 0 is sampled.
        key: name of the array in an .npz or .mat file; may be left out where it holds one array.

    Raises:
        InputError: missing or unreadable file, unknown key, not two axes, nothing sampled.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise InputError(
            "the mask file does not exist", where=path, remedy="set --mask_file to an existing file"
        )
    name = path.name.lower()
    try:
        if name.endswith(".npz"):
            with zipfile.ZipFile(path) as packed:
                refuse_large((sum(entry.file_size for entry in packed.infolist()),), 1, path)
            with np.load(path) as archive:
                array = _pick(dict(archive), key, path)
        elif name.endswith(".npy"):
            array = np.array(np.load(path, mmap_mode="r"))  # which compares the header with the file's size
        elif name.endswith(".mat"):
            array = _pick(_load_mat(path), key, path)
        elif name.endswith((".nii", ".nii.gz")):
            array = np.asarray(read_nifti(path).dataobj)
        else:
            raise InputError("unknown format of the mask file", where=path, expected=" or ".join(FORMATS))
    except InputError:
        raise
    except Exception as error:
        raise InputError("the mask file is not readable", where=path, found=error) from error
    array = np.squeeze(array)
    if array.ndim != 2:
        raise InputError(
            "a sampling mask has two axes", where=path, expected="shape (H, W)", found=f"shape {array.shape}"
        )
    if array.dtype != bool and not np.isfinite(np.abs(array)).all():
        raise InputError("the mask holds NaN or infinite values", where=path)
    mask = np.abs(array) > 0
    if not mask.any():
        raise InputError("the mask is empty: it samples no point", where=path)
    if not mask[mask.shape[0] // 2, mask.shape[1] // 2]:
        logging.getLogger(__name__).warning(
            "%s does not sample the centre of k-space: if its DC is in the corner, shift it (fftshift) first",
            path,
        )
    return mask


def _load_mat(path: Path) -> dict[str, np.ndarray]:
    try:
        for _, shape, _ in whosmat(path):
            refuse_large(shape, 16, path)
        return {k: v for k, v in loadmat(path).items() if not k.startswith("__")}
    except NotImplementedError:  # scipy's: version 7.3 is HDF5, with the axes reversed
        with h5py.File(path) as file:
            names = [k for k in file if isinstance(own_member(file, k, path), h5py.Dataset)]
            return {k: v[()].T for k in names if (v := stored_array(file, k, path)) is not None}


def _pick(arrays: dict[str, np.ndarray], key: str | None, path: Path) -> np.ndarray:
    if key is None and len(arrays) == 1:
        return next(iter(arrays.values()))
    if key not in arrays:
        raise InputError(
            f"the mask file has no array {key!r}" if key else "the mask file holds several arrays",
            where=path,
            expected=f"one of {', '.join(sorted(arrays))}",
            remedy="name it with --mask_key",
        )
    return arrays[key]
