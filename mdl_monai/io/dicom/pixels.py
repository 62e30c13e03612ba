"""The values of a DICOM series as one array."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from pydicom import FileDataset
from pydicom.pixels import get_decoder
from pydicom.pixels.decoders.base import Decoder
from pydicom.uid import UID

from mdl_monai.errors import InputError
from mdl_monai.io.dicom.header import SliceHeader, cut_short, files_in, text_of, value_of
from mdl_monai.io.limits import refuse_large

REMEDY = (
    "pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg, or decompress it first (dcmdjpeg, gdcmconv)"
)


def read_volume(
    datasets: Sequence[FileDataset],
    headers: Sequence[Sequence[SliceHeader]],
    order: Sequence[int | None],
    folder: object = "",
) -> np.ndarray:
    """Decode the pixel data into one volume, in units of each slice's RescaleSlope and RescaleIntercept.

    The pixel data is taken out of the data sets, so that no more than one of them is in memory twice.

    Args:
        datasets: objects of one frame each, or one of several.
        headers: for each object those of its frames.
        order: for each slice of the volume its place among all headers; None: interpolated between its neighbours.
        folder: where the files are, for the message.

    Returns:
        float32 [columns, rows, slices]; its memory is that of [slices, rows, columns].

    Raises:
        InputError: too large, colour, inverted grey values, a modality lookup table, no pixel data, too
            little or too much of it, a compression that cannot be decoded here.
    """
    rows, columns = headers[0][0].shape
    refuse_large((columns, rows, len(order)), np.dtype(np.float32).itemsize, folder)
    decoders = [
        _checked(dataset, (len(frames), rows, columns), files_in([frames[0].name], folder))
        for dataset, frames in zip(datasets, headers, strict=True)
    ]
    slot = {index: k for k, index in enumerate(order) if index is not None}
    volume = np.empty((len(order), rows, columns), dtype=np.float32)
    first = 0
    for decoder, dataset, frames in zip(decoders, datasets, headers, strict=True):
        pixels = decoder.iter_array(dataset, view_only=True)
        for index, header in enumerate(frames, first):
            frame = _next_frame(pixels)
            if frame is None or frame.shape != header.shape:
                raise InputError(
                    "the pixel data of an image cannot be decoded", where=files_in([header.name], folder),
                    remedy=REMEDY,
                )  # fmt: skip
            if index in slot:
                _scaled(frame, header, volume[slot[index]])
        del dataset.PixelData
        first += len(frames)
    _interpolate(volume, [k for k, index in enumerate(order) if index is None])
    return volume.T


def _checked(dataset: FileDataset, shape: tuple[int, int, int], where: str) -> Decoder:
    """The decoder of an object's pixel data, which is one number a voxel.

    Args:
        dataset: the object.
        shape: frames, rows, columns.
        where: its file, for the message.
    """
    colour = text_of(dataset, "PhotometricInterpretation")
    if colour == "MONOCHROME1":
        raise InputError(
            "the grey values of an image are inverted", where=where, expected="MONOCHROME2", found="MONOCHROME1",
            remedy="convert it first",
        )  # fmt: skip
    if colour not in ("", "MONOCHROME2") or value_of(dataset, "SamplesPerPixel", where) not in (None, 1):
        raise InputError(
            "an image is in colour", where=where, expected="one number a voxel: MONOCHROME2",
            remedy="take it away, or convert it to grey values",
        )  # fmt: skip
    if value_of(dataset, "ModalityLUTSequence", where):
        raise InputError(
            "the values of an image are behind a lookup table", where=where,
            expected="RescaleSlope and RescaleIntercept", found="ModalityLUTSequence",
        )  # fmt: skip
    allocated, stored, high = (
        value_of(dataset, keyword, where) for keyword in ("BitsAllocated", "BitsStored", "HighBit")
    )
    if (
        allocated not in (8, 16, 32) or not isinstance(stored, int) or not 0 < stored <= allocated
        or high not in (None, stored - 1)
    ):  # fmt: skip
        raise InputError(
            "the bits of an image are not laid out as whole numbers", where=where,
            expected="BitsAllocated 8, 16 or 32, HighBit one below BitsStored",
        )  # fmt: skip
    found = len(value_of(dataset, "PixelData", where) or b"")
    if found == 0:
        raise cut_short("PixelData", where)
    decoder = _decoder(text_of(dataset.file_meta, "TransferSyntaxUID"), where)
    row = shape[2] * allocated // 8
    expected = row * shape[1] * shape[0]
    if decoder.is_native and not expected <= found < expected + row:
        what = "short" if found < expected else "long"
        raise InputError(
            f"the pixel data of an image is too {what} for its size", where=where, expected=f"{expected} bytes",
            found=f"{found}", remedy="the file may be damaged: export it again",
        )  # fmt: skip
    return decoder


def _decoder(syntax: str, where: str) -> Decoder:
    uid = UID(syntax)
    with suppress(NotImplementedError):  # pydicom's, for a transfer syntax that it has no decoder for
        if (decoder := get_decoder(uid)).is_available:
            return decoder
    raise InputError(
        "the compression of an image cannot be decoded here", where=where,
        found=uid.name if uid.name != uid else "an unknown transfer syntax", remedy=REMEDY,
    )  # fmt: skip


def _next_frame(frames: Iterator[tuple[np.ndarray, Any]]) -> np.ndarray | None:
    try:
        return next(frames)[0]
    except Exception:  # of any kind, for damaged data; its message may quote values
        return None


def _scaled(frame: np.ndarray, header: SliceHeader, out: np.ndarray) -> None:
    out[...] = frame
    if header.slope != 1:
        out *= header.slope
    if header.intercept != 0:
        out += header.intercept


def _interpolate(volume: np.ndarray, missing: Sequence[int]) -> None:
    """Fill the missing of the slices [slices, rows, columns] linearly; the first and the last are never missing."""
    for k in missing:
        after = next(n for n in range(k + 1, len(volume)) if n not in missing)
        volume[k] = volume[k - 1] + (volume[after] - volume[k - 1]) / (after - k + 1)
