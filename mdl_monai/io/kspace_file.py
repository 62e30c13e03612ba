"""Raw k-space from fastMRI's HDF5 layout and from ISMRMRD, Cartesian, with the readout's oversampling removed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import torch
from torch import Tensor

from mdl_monai.errors import InputError
from mdl_monai.io.affine import check_affine
from mdl_monai.io.check_input import check_finite
from mdl_monai.io.hdf5 import own_member, stored_array
from mdl_monai.io.ismrmrd import encoding_of, grid_of_lines
from mdl_monai.io.limits import refuse_large
from mdl_monai.physics.fourier import fftc, ifftc

LARGEST_ENLARGEMENT = 8
"""Columns of the image for each of k-space: no scanner interpolates more."""


@dataclass(frozen=True)
class KSpace:
    """Cartesian k-space as it was acquired.

    Attributes:
        data: [slices, coils, rows, columns] complex64, DC at rows // 2 and columns // 2, orthonormal FFT; readout
            along the rows. What was not acquired is 0.
        mask: [slices, rows, columns] bool, what was acquired.
        size: rows and columns of the image to show, cut out of the middle.
        affine: 4 x 4, from (row, column, slice) to mm, right-anterior-superior if the file says where it lies.
    """

    data: Tensor
    mask: Tensor
    size: tuple[int, int]
    affine: np.ndarray


def load_kspace(path: str | Path) -> KSpace:
    """Read a k-space file.

    fastMRI: an array ``kspace`` [slices, rows, columns] or [slices, coils, rows, columns], perhaps ``mask`` [columns]
    and ``ismrmrd_header``. ISMRMRD: a group with ``xml`` and the acquired lines in ``data``.

    Raises:
        InputError: no HDF5, damaged, links to other files, neither layout, not complex, not finite, too large, not
            Cartesian, several images in one.
    """
    path = Path(path)
    try:
        with h5py.File(path, "r") as file:
            if "kspace" in file:
                return _fastmri(file, path)
            groups = [g for name in file if isinstance(g := own_member(file, name, path), h5py.Group)]
            groups = [g for g in groups if {"xml", "data"} <= g.keys()]
            if len(groups) == 1:
                return _ismrmrd(groups[0], path)
            found = ", ".join(sorted(file)) or "nothing"
    except InputError:
        raise
    except MemoryError as error:
        raise InputError("there is not enough memory for the k-space", where=path) from error
    except Exception as error:  # damaged bytes make h5py and numpy raise a dozen kinds
        raise InputError(
            "the file is no readable HDF5", where=path, found=type(error).__name__, remedy="copy it again"
        ) from error
    raise InputError(
        "the file holds no k-space that is known",
        where=path,
        expected="an array kspace (fastMRI), or one group with xml and data (ISMRMRD)",
        found=found,
    )


def _fastmri(file: h5py.File, path: Path) -> KSpace:
    stored = stored_array(file, "kspace", path)
    if stored is None or stored.ndim not in (3, 4) or stored.dtype.kind != "c" or 0 in stored.shape:
        raise InputError(
            "kspace is no complex array of slices",
            where=path,
            expected="complex [slices, rows, columns] or [slices, coils, rows, columns]",
            found=f"{getattr(stored, 'dtype', type(stored).__name__)} {getattr(stored, 'shape', '')}",
        )
    refuse_large(stored.shape, np.dtype(np.complex64).itemsize, path)
    with np.errstate(over="ignore"):  # what is not finite is refused later
        data = torch.from_numpy(stored[()].astype(np.complex64))
    data = data if data.ndim == 4 else data[:, None]
    acquired = (data != 0).any(1)
    columns = stored_array(file, "mask", path)
    if columns is not None:
        lines = np.asarray(columns[()]).astype(bool).reshape(-1)
        if lines.shape != data.shape[-1:]:
            raise InputError(
                "the mask does not fit the k-space",
                where=path,
                expected=f"{data.shape[-1]} columns",
                found=f"{lines.size}",
            )
        acquired &= torch.from_numpy(lines)
    shape = (data.shape[-2], data.shape[-1])
    header = stored_array(file, "ismrmrd_header", path)
    if header is None:
        return _finished(data, acquired, shape, np.eye(4), path)
    encoding = encoding_of(header[()], path)
    return _finished(data, acquired, encoding.size, np.diag([*encoding.spacing, 1.0]), path)


def _ismrmrd(group: h5py.Group, path: Path) -> KSpace:
    xml, lines = stored_array(group, "xml", path), stored_array(group, "data", path)
    if xml is None or lines is None or xml.size != 1 or not {"head", "data"} <= set(lines.dtype.names or ()):
        raise InputError("the group holds no acquisition", where=path, expected="ISMRMRD's xml and data")
    encoding = encoding_of(xml[()].flat[0] if xml.shape else xml[()], path)
    data, acquired, affine = grid_of_lines(lines, encoding, path)
    return _finished(data, acquired, encoding.size, affine, path)


def _finished(data: Tensor, mask: Tensor, size: tuple[int, int], affine: np.ndarray, path: Path) -> KSpace:
    """Check, and cut the readout's oversampling off.

    The scanner samples a readout more densely than the image needs, so that it shows more rows; they are dropped in
    image space. What of a readout was not acquired stays out.
    """
    check_finite(torch.view_as_real(data), "k-space", where=path)
    data = data * mask[:, None]
    if not bool(mask.any()):
        raise InputError("the k-space is empty", where=path, found="every sample is 0")
    if size[1] > LARGEST_ENLARGEMENT * data.shape[-1]:
        raise InputError(
            "the image to show is far larger than its k-space", where=path,
            expected=f"at most {LARGEST_ENLARGEMENT * data.shape[-1]} columns", found=f"{size[1]}",
        )  # fmt: skip
    full, rows = data.shape[-2], min(size[0], data.shape[-2])
    if rows < full:
        start = full // 2 - rows // 2
        at = (torch.arange(rows) - rows // 2).mul(full / rows).round().long() + full // 2
        mask = mask[:, at.clamp(0, full - 1)]
        data = fftc(ifftc(data, -2)[..., start : start + rows, :], -2) * mask[:, None]
        affine = affine @ np.block([[np.eye(3), np.array([[start], [0], [0]])], [np.zeros(3), 1]])
    check_affine(affine, where=path)
    return KSpace(data.contiguous(), mask, (rows, size[1]), affine)
