"""The lines of an ISMRMRD acquisition, put into Cartesian k-space by h5py alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import h5py
import numpy as np
import torch
from torch import Tensor

from mdl_monai.errors import InputError
from mdl_monai.io.hdf5 import refuse_long_rows
from mdl_monai.io.limits import refuse_large
from mdl_monai.physics.fourier import ifftc

NOISE, CALIBRATION, CALIBRATION_AND_IMAGE, REVERSE = 19, 20, 21, 22
OTHER_PURPOSES = (NOISE, 23, 24, 26, 27, 28, 29)
"""Flags, counted from 1: noise, navigator, phase correction, feedback (2), dummy scan, coil correction."""
LARGEST = 2**20
"""Of a size or a counter that the header tells."""
APART = ("contrast", "phase", "repetition", "set")
"""Counters of which each value is an image of its own."""


@dataclass(frozen=True)
class Encoding:
    """What the XML header says of the first encoding.

    Attributes:
        encoded: samples along readout, phase and slice direction.
        size: rows and columns of the image to show.
        spacing: mm a voxel along the three.
        centre: number of the phase-encoding step through the centre of k-space.
    """

    encoded: tuple[int, int, int]
    size: tuple[int, int]
    spacing: tuple[float, float, float]
    centre: int


def encoding_of(xml: bytes | str, path: Path) -> Encoding:
    """Read an ISMRMRD header.

    Raises:
        InputError: no XML, a part is missing, a trajectory that is not Cartesian.
    """
    text = xml.encode() if isinstance(xml, str) else bytes(xml)
    try:
        if b"<!" in text.replace(b"<!--", b""):  # entities may grow without a limit, and name files
            raise ValueError("a document type")
        root = ElementTree.fromstring(text)
        for element in root.iter():
            element.tag = element.tag.rpartition("}")[2]

        def numbers(place: str) -> list[float]:
            return [float(root.findtext(f"encoding/{place}/{axis}", "")) for axis in "xyz"]

        trajectory = root.findtext("encoding/trajectory", "cartesian").strip().lower()
        if trajectory != "cartesian":
            raise InputError("the trajectory is not Cartesian", where=path, found=trajectory)
        nx, ny, nz = (int(n) for n in numbers("encodedSpace/matrixSize"))
        fov = numbers("encodedSpace/fieldOfView_mm")
        shown = [int(n) for n in numbers("reconSpace/matrixSize")]
        centre = root.findtext("encoding/encodingLimits/kspace_encoding_step_1/center")
        sizes = (nx, ny, nz, *shown)
        if min(sizes) < 1 or not all(0 < mm < LARGEST for mm in fov):
            raise ValueError("a size of 0")
        if max(*sizes, abs(int(centre or 0))) > LARGEST:
            raise InputError("a size in the ISMRMRD header is too large", where=path, found=f"{max(sizes)}")
        return Encoding(
            encoded=(nx, ny, nz),
            size=(shown[0], shown[1]),
            spacing=(fov[0] / nx, fov[1] / ny, fov[2] / nz),
            centre=ny // 2 if centre is None else int(centre),
        )
    except InputError:
        raise
    except (ElementTree.ParseError, ValueError, TypeError, OverflowError) as error:
        raise InputError(
            "the ISMRMRD header does not tell the size of the image",
            where=path,
            expected="encoding with encodedSpace and reconSpace: matrixSize and fieldOfView_mm",
        ) from error


def grid_of_lines(stored: h5py.Dataset, encoding: Encoding, path: Path) -> tuple[Tensor, Tensor, np.ndarray]:
    """Lines to k-space [slices, coils, readout, phase], what of it was acquired [slices, readout, phase], and affine.

    Several averages become their mean. A 3D acquisition has the slices' transform undone.

    Raises:
        InputError: no lines, not one image, lines that do not fit the header.
    """
    refuse_long_rows(stored, path)
    announced = stored.fields("head")[()]
    samples = announced["number_of_samples"].astype(np.int64) * announced["active_channels"]
    if 8 * int(samples.sum()) > path.stat().st_size:  # the samples of a line are never packed
        raise InputError(
            "the lines announce more than the file holds", where=path, expected="a file of more than "
            f"{8 * int(samples.sum())} bytes", found=f"{path.stat().st_size}", remedy="copy it again",
        )  # fmt: skip
    lines = stored[()]
    head, index = lines["head"], lines["head"]["idx"]
    flags = head["flags"].astype(np.uint64)

    def has(flag: int) -> np.ndarray:
        return (flags >> np.uint64(flag - 1)) & np.uint64(1) != 0

    kept = ~np.logical_or.reduce([has(flag) for flag in OTHER_PURPOSES])
    kept &= ~has(CALIBRATION) | has(CALIBRATION_AND_IMAGE)
    if not kept.any():
        raise InputError("the acquisition has no line of an image", where=path, found=f"{len(lines)} lines")
    for name in APART:
        values = np.unique(index[name][kept])
        if len(values) > 1:
            raise InputError(
                "the acquisition is one of several images",
                where=path,
                expected=f"one {name}",
                found=f"{len(values)}",
                remedy="export one of them",
            )
    coils = np.unique(head["active_channels"][kept])
    nx, ny, nz = encoding.encoded
    slices = int(index["slice"][kept].max()) + 1
    if len(coils) > 1 or (slices > 1 and nz > 1):
        raise InputError(
            "the lines are not those of one image",
            where=path,
            expected="one number of coils, and slices or a 3D encoding",
            found=f"{len(coils)} numbers of coils, {slices} slices of {nz} partitions",
        )
    refuse_large((max(slices, nz), int(coils[0]), nx, ny), np.dtype(np.complex64).itemsize, path)
    k = np.zeros((max(slices, nz), int(coils[0]), nx, ny), np.complex64)
    count = np.zeros((max(slices, nz), nx, ny), np.float32)
    for line, reverse in zip(lines[kept], has(REVERSE)[kept], strict=True):
        _place(line, bool(reverse), k, count, encoding, path)
    k /= np.maximum(count, 1)[:, None]
    data, acquired = torch.from_numpy(k), torch.from_numpy(count > 0)
    if nz > 1:
        data, acquired = _undo_partitions(data, acquired, path)
    return data, acquired, _affine(head[kept], index["slice"][kept], encoding, k.shape)


def _place(
    line: Any, reverse: bool, k: np.ndarray, count: np.ndarray, encoding: Encoding, path: Path
) -> None:
    """Add a line to its place; a partial echo lies so that its centre sample is at the centre."""
    head = line["head"]
    samples, centre = int(head["number_of_samples"]), int(head["center_sample"])
    values = np.ascontiguousarray(line["data"]).view(np.complex64)
    nx, ny, nz = encoding.encoded
    start = nx // 2 - (samples - 1 - centre if reverse else centre)
    column = int(head["idx"]["kspace_encode_step_1"]) - encoding.centre + ny // 2
    place = int(head["idx"]["kspace_encode_step_2"]) if nz > 1 else int(head["idx"]["slice"])
    if (
        values.size != samples * k.shape[1]
        or start < 0
        or start + samples > nx
        or not 0 <= column < ny
        or place >= len(k)
    ):
        raise InputError(
            "a line does not fit the header",
            where=path,
            expected=f"{nx} x {ny} x {nz} samples",
            found=f"{samples} samples from {start}, step {column}, slice or partition {place}",
        )
    values = values.reshape(k.shape[1], samples)
    k[place, :, start : start + samples, column] += values[:, ::-1] if reverse else values
    count[place, start : start + samples, column] += 1


def _undo_partitions(data: Tensor, acquired: Tensor, path: Path) -> tuple[Tensor, Tensor]:
    """A 3D acquisition as slices, where every partition has the same samples."""
    if not torch.equal(acquired.any(0), acquired.all(0)):
        raise InputError(
            "the acquisition is undersampled along its partitions too",
            where=path,
            expected="the same samples in each of the partitions, as every slice is reconstructed alone",
        )
    return ifftc(data, 0), acquired


def _affine(head: np.ndarray, slices: np.ndarray, encoding: Encoding, shape: tuple[int, ...]) -> np.ndarray:
    """From (row, column, slice) to mm, right-anterior-superior, if the lines tell where they lie, else their size."""
    first, last = head[np.argmin(slices)], head[np.argmax(slices)]
    axes = np.stack([first[name].astype(float) for name in ("read_dir", "phase_dir", "slice_dir")], 1)
    spacing = np.array(encoding.spacing)
    if not abs(np.linalg.det(axes)) >= 0.99:
        return np.diag([*spacing, 1.0])
    step = axes * spacing
    centre = first["position"].astype(float)
    apart = int(slices.max() - slices.min())
    if apart:
        step[:, 2] = (last["position"].astype(float) - centre) / apart
        middle = np.array([shape[2] // 2, shape[3] // 2, slices.min()], float)
    else:
        middle = np.array([shape[2] // 2, shape[3] // 2, (shape[0] - 1) / 2])
    affine = np.eye(4)
    affine[:3, :3] = step
    affine[:3, 3] = centre - step @ middle
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine  # LPS to RAS
