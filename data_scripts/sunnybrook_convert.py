"""From the files of the Sunnybrook set to arrays, and what tells those arrays apart."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple
from zipfile import BadZipFile, ZipFile

import numpy as np
from matplotlib.path import Path as Polygon
from pydicom import dcmread
from pydicom.config import disable_value_validation
from pydicom.errors import InvalidDicomError

from mdl_monai.errors import InputError

BLOCKS = 8  # the coarse picture is BLOCKS x BLOCKS
CHANGED = "the source has changed, or it is not what this script takes it for; nothing was written"


class Member(NamedTuple):
    """A file in an archive. It is read there: names in archives never become paths, so none can leave the folder."""

    archive: ZipFile
    name: str

    def open(self) -> Any:
        """The file, for reading bytes."""
        return self.archive.open(self.name)

    def __str__(self) -> str:
        return f"{self.archive.filename}, {self.name}"


def read_image(member: Member) -> tuple[np.ndarray, tuple[float, float]]:
    """Stored grey values [X, Y] and the spacing of x and y in mm."""
    try:
        with member.open() as file, disable_value_validation(), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # some identifiers of the source break the standard
            data = dcmread(file)
            between_rows, between_columns = data.PixelSpacing
            return data.pixel_array.T, (float(between_columns), float(between_rows))
    except (InvalidDicomError, AttributeError, BadZipFile) as error:
        raise InputError("not a DICOM image", where=member, found=error, remedy=CHANGED) from error


def read_contour(member: Member) -> np.ndarray:
    """Vertices [N, 2] as x, y in pixels."""
    try:
        with member.open() as file:
            lines = file.read().decode().splitlines()
        points = np.array([line.split() for line in lines if line.strip()], float)
        if points.ndim != 2 or points.shape[1] != 2 or len(points) < 3 or not np.isfinite(points).all():
            raise ValueError(f"an array of shape {points.shape}")
    except (ValueError, BadZipFile) as error:
        expected = "three lines or more of x and y"
        raise InputError(
            "not a contour", where=member, expected=expected, found=error, remedy=CHANGED
        ) from error
    return points


def rasterised(points: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The pixels whose centres lie inside a closed polygon.

    Pixel (i, j) has its centre at x = i, y = j. A centre on an edge belongs to the polygon on its right or, on an
    edge along x, to the one below (towards larger y): so polygons that tile the plane share no pixel and leave none
    out, and areas are unbiased. Vertices come in round numbers about half a pixel apart, so this is no rare case.

    Args:
        points: vertices [N, 2] as x, y; either direction, the last is joined to the first.
        shape: that of the label, (X, Y).

    Returns:
        1 inside, 0 elsewhere; uint8 [X, Y].
    """
    first = np.clip(np.floor(points.min(0)).astype(int), 0, shape)
    stop = np.clip(np.ceil(points.max(0)).astype(int) + 1, first, shape)
    size = stop - first  # of the part that can be inside: looking at all pixels takes long
    centres = first + np.indices(size).reshape(2, -1).T
    just_inside = centres + np.array([1e-6, 1e-9])  # right of, or below, an edge through the centre
    closed = Polygon(np.concatenate([points, points[:1]]), closed=True)
    label = np.zeros(shape, np.uint8)
    label[first[0] : stop[0], first[1] : stop[1]] = closed.contains_points(just_inside).reshape(size)
    return label


def coarse_picture(images: list[np.ndarray]) -> np.ndarray:
    """Mean of the images, each of peak 1, in BLOCKS x BLOCKS parts: what all scalings of the grey values share."""
    parts = []
    for image in images:
        nx, ny = (size // BLOCKS for size in image.shape)
        whole = image[: nx * BLOCKS, : ny * BLOCKS] / max(image.max(), 1)
        parts.append(whole.reshape(BLOCKS, nx, BLOCKS, ny).mean((1, 3)))
    return np.mean(parts, 0)


def likeness(images: list[np.ndarray], picture: str) -> float:
    """Correlation of the images' coarse picture with a known one, 64 bytes in hex."""
    expected = np.frombuffer(bytes.fromhex(picture), np.uint8)
    return float(np.corrcoef(coarse_picture(images).ravel(), expected)[0, 1])


def size_and_place(label: np.ndarray) -> np.ndarray:
    """Radius of the disc of the label's area, and x and y of its centre; in pixels."""
    inside = np.argwhere(label)
    return np.array([np.sqrt(len(inside) / np.pi), *inside.mean(0)])
