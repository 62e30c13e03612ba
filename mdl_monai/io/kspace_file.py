"""Raw k-space from fastMRI's HDF5 layout and from ISMRMRD, Cartesian, with the readout's oversampling removed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import torch
from torch import Tensor

from mdl_monai.errors import InputError
from mdl_monai.io.ismrmrd import encoding_of, grid_of_lines, refuse_large
from mdl_monai.physics.fourier import fftc, ifftc


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
        InputError: no HDF5, neither layout, not complex, not finite, too large, not Cartesian, several images in one.
    """
    path = Path(path)
    try:
        with h5py.File(path, "r") as file:
            if "kspace" in file:
                return _fastmri(file, path)
            groups = [g for g in file.values() if isinstance(g, h5py.Group) and {"xml", "data"} <= g.keys()]
            if len(groups) == 1:
                return _ismrmrd(groups[0], path)
            found = ", ".join(sorted(file)) or "nothing"
    except OSError as error:
        raise InputError("the file is no readable HDF5", where=path, remedy="copy it again") from error
    raise InputError(
        "the file holds no k-space that is known",
        where=path,
        expected="an array kspace (fastMRI), or one group with xml and data (ISMRMRD)",
        found=found,
    )


def _fastmri(file: h5py.File, path: Path) -> KSpace:
    stored = file["kspace"]
    if not isinstance(stored, h5py.Dataset) or stored.ndim not in (3, 4) or stored.dtype.kind != "c":
        raise InputError(
            "kspace is no complex array of slices",
            where=path,
            expected="complex [slices, rows, columns] or [slices, coils, rows, columns]",
            found=f"{getattr(stored, 'dtype', type(stored).__name__)} {getattr(stored, 'shape', '')}",
        )
    refuse_large(stored.shape, path)
    data = torch.from_numpy(np.asarray(stored, dtype=np.complex64))
    data = data if data.ndim == 4 else data[:, None]
    acquired = (data != 0).any(1)
    if "mask" in file:
        lines = np.asarray(file["mask"]).astype(bool).reshape(-1)
        if lines.shape != data.shape[-1:]:
            raise InputError(
                "the mask does not fit the k-space",
                where=path,
                expected=f"{data.shape[-1]} columns",
                found=f"{lines.size}",
            )
        acquired &= torch.from_numpy(lines)
    shape = (data.shape[-2], data.shape[-1])
    if "ismrmrd_header" not in file:
        return _finished(data, acquired, shape, np.eye(4), path)
    encoding = encoding_of(file["ismrmrd_header"][()], path)
    return _finished(data, acquired, encoding.size, np.diag([*encoding.spacing, 1.0]), path)


def _ismrmrd(group: h5py.Group, path: Path) -> KSpace:
    encoding = encoding_of(group["xml"][0], path)
    data, acquired, affine = grid_of_lines(group["data"], encoding, path)
    return _finished(data, acquired, encoding.size, affine, path)


def _finished(data: Tensor, mask: Tensor, size: tuple[int, int], affine: np.ndarray, path: Path) -> KSpace:
    """Check, and cut the readout's oversampling off.

    The scanner samples a readout more densely than the image needs, so that it shows more rows; they are dropped in
    image space. What of a readout was not acquired stays out.
    """
    if not bool(torch.isfinite(torch.view_as_real(data)).all()):
        raise InputError("the k-space holds NaN or infinite values", where=path, remedy="export it again")
    if not bool(mask.any()):
        raise InputError("the k-space is empty", where=path, found="every sample is 0")
    full, rows = data.shape[-2], min(size[0], data.shape[-2])
    if rows < full:
        start = full // 2 - rows // 2
        at = (torch.arange(rows) - rows // 2).mul(full / rows).round().long() + full // 2
        mask = mask[:, at.clamp(0, full - 1)]
        data = fftc(ifftc(data, -2)[..., start : start + rows, :], -2) * mask[:, None]
        affine = affine @ np.block([[np.eye(3), np.array([[start], [0], [0]])], [np.zeros(3), 1]])
    return KSpace(data.contiguous(), mask, (rows, size[1]), affine)
