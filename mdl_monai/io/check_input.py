"""The gate that every bundle's images pass before anything is computed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from mdl_monai.errors import InputError
from mdl_monai.io.dicom.objects import is_dicom
from mdl_monai.io.nifti_reader import is_nifti, nifti_header
from mdl_monai.io.png_reader import open_png

DICOM_SUFFIXES = (".zip", ".dcm")
LARGEST_VALUE = 1e15
"""What no scanner gives; float32 holds the squares of smaller values, and the sum of very many of them."""


def check_header(path: str | Path, spatial_dims: Sequence[int] = (2, 3)) -> None:
    """Refuse a file that cannot be an image here, by its header alone.

    Args:
        path: the file; folders, zips and DICOM files are left to their reader, which checks them.
        spatial_dims: allowed numbers of axes.

    Raises:
        InputError: missing, another format, unreadable, wrong number of axes, RGB, a bad affine, too large.
    """
    path = Path(path)
    if not path.exists():
        raise InputError("the image file does not exist", where=path)
    if path.is_dir():
        return
    if not is_nifti(path):
        if path.suffix.lower() == ".png":
            open_png(path).close()
        elif path.suffix.lower() not in DICOM_SUFFIXES and not is_dicom(path):
            kspace = path.suffix.lower() == ".h5"
            raise InputError(
                "the format of the file is not read here", where=path, expected="NIfTI, PNG or DICOM",
                found=f"a name that ends in {path.suffix or 'nothing'}",
                remedy="raw k-space is read with OVERLAY=kspace" if kspace else "convert it",
            )  # fmt: skip
        return
    header = nifti_header(path)
    shape, kind = tuple(header.get_data_shape()), header.get_data_dtype()
    kept = shape
    while len(kept) > max(spatial_dims) and kept[-1] == 1:
        kept = kept[:-1]
    if len(kept) not in spatial_dims:
        raise InputError(
            "the image has the wrong number of axes",
            where=path,
            expected=" or ".join(f"{n}D" for n in spatial_dims),
            found=f"shape {shape}",
            remedy="take one volume or slice out of it",
        )
    if kind.fields is not None:
        raise InputError(
            "the image is in colour",
            where=path,
            expected="one number a voxel",
            found=f"voxels of type {kind}",
            remedy="convert it to grey values",
        )
    if kind.kind == "c":
        raise InputError(
            "the image is complex: only one of its two parts would be read",
            where=path,
            expected="real numbers",
            found=f"voxels of type {kind}",
            remedy="save its magnitude",
        )


def check_input(
    image: Tensor, *, where: object, spatial_dims: Sequence[int] = (2, 3), channels: Sequence[int] = (1,)
) -> None:
    """Refuse an image that would give nonsense.

    Args:
        image: [C, H, W] or [C, H, W, D].
        where: its file, for the message.
        spatial_dims: allowed numbers of spatial axes.
        channels: allowed numbers of channels.

    Raises:
        InputError: wrong number of axes or channels, nothing in it, NaN or infinite values, one value only.
    """
    if image.ndim - 1 not in spatial_dims or image.shape[0] not in channels:
        raise InputError(
            "the image has the wrong shape",
            where=where,
            expected=f"1 channel and {' or '.join(map(str, spatial_dims))} axes",
            found=f"shape {tuple(image.shape)}, channel first",
            remedy="take one grey-value volume or slice out of it",
        )
    if image.numel() == 0:
        raise InputError("the image has no voxels", where=where, found=f"shape {tuple(image.shape)}")
    check_finite(image, "image", where=where)
    if image.min() == image.max():
        raise InputError("the image is empty", where=where, found=f"every voxel is {float(image.max()):g}")


def check_finite(values: Tensor, what: str, *, where: object) -> None:
    """Refuse values that are not finite, or will not be once they are squared and added up.

    Raises:
        InputError: any such value.
    """
    bad = int((~(torch.as_tensor(values).abs() < LARGEST_VALUE)).sum())  # NaN is not less either
    if bad:
        raise InputError(
            f"the {what} holds NaN or infinite values",
            where=where,
            expected=f"finite numbers, below {LARGEST_VALUE:g}",
            found=f"{bad} of {values.numel()}",
            remedy="mend or mask them before, or export it again",
        )
