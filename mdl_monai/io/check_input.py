"""The gate that every bundle's images pass before anything is computed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from torch import Tensor

from mdl_monai.errors import InputError


def check_header(path: str | Path, spatial_dims: Sequence[int] = (2, 3)) -> None:
    """Refuse a NIfTI file that cannot be an image here, by its header alone.

    nibabel silently loads NaN affines, zero-size axes and RGB voxels, so they are looked for.

    Args:
        path: the file; other formats than NIfTI, and folders (DICOM), are left to their readers.
        spatial_dims: allowed numbers of axes.

    Raises:
        InputError: missing, unreadable, wrong number of axes, RGB, a bad affine.
    """
    path = Path(path)
    if not path.exists():
        raise InputError("the image file does not exist", where=path)
    if not path.name.lower().endswith((".nii", ".nii.gz")):
        return
    try:
        image: Any = nib.load(path)
    except Exception as error:
        raise InputError(
            "the file is not a readable NIfTI image", where=path, found=error, remedy="export it again"
        ) from error
    shape = tuple(image.shape)
    while len(shape) > max(spatial_dims) and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) not in spatial_dims or 0 in shape:
        raise InputError(
            "the image has the wrong number of axes",
            where=path,
            expected=" or ".join(f"{n}D" for n in spatial_dims),
            found=f"shape {tuple(image.shape)}",
            remedy="take one volume or slice out of it",
        )
    if image.get_data_dtype().fields is not None:
        raise InputError(
            "the image is in colour",
            where=path,
            expected="one number a voxel",
            found=f"voxels of type {image.get_data_dtype()}",
            remedy="convert it to grey values",
        )
    if image.get_data_dtype().kind == "c":
        raise InputError(
            "the image is complex: only one of its two parts would be read",
            where=path,
            expected="real numbers",
            found=f"voxels of type {image.get_data_dtype()}",
            remedy="save its magnitude",
        )
    if not np.isfinite(image.affine).all() or np.linalg.det(image.affine[:3, :3]) == 0:
        raise InputError(
            "the image's affine does not describe a grid",
            where=path,
            expected="finite values, three independent axes",
            found=np.asarray(image.affine).tolist(),
        )


def check_input(image: Tensor, *, where: object, spatial_dims: Sequence[int] = (2, 3)) -> None:
    """Refuse an image that would give nonsense.

    Args:
        image: [C, H, W] or [C, H, W, D].
        where: its file, for the message.
        spatial_dims: allowed numbers of spatial axes.

    Raises:
        InputError: wrong number of axes or channels, nothing in it, NaN or infinite values, one value only.
    """
    if image.ndim - 1 not in spatial_dims or image.shape[0] != 1:
        raise InputError(
            "the image has the wrong shape",
            where=where,
            expected=f"1 channel and {' or '.join(map(str, spatial_dims))} axes",
            found=f"shape {tuple(image.shape)}, channel first",
            remedy="take one grey-value volume or slice out of it",
        )
    if image.numel() == 0:
        raise InputError("the image has no voxels", where=where, found=f"shape {tuple(image.shape)}")
    bad = int((~torch.isfinite(torch.as_tensor(image))).sum())
    if bad:
        raise InputError(
            "the image holds NaN or infinite values",
            where=where,
            expected="finite numbers",
            found=f"{bad} of {image.numel()} voxels",
            remedy="mend or mask them before",
        )
    if image.min() == image.max():
        raise InputError("the image is empty", where=where, found=f"every voxel is {float(image.max()):g}")
