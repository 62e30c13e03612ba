"""From the headers of a series to the order of its slices and an affine; a fault is refused by name."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from mdl_monai.errors import InputError
from mdl_monai.io.affine import check_affine
from mdl_monai.io.dicom.header import SliceHeader, files_in

logger = logging.getLogger(__name__)

ALLOWABLE = ("missing_slice", "doubled_slice", "gantry_tilt", "localizer")
"""Faults that may be allowed by name; each is then told as a warning.

- ``missing_slice``: a gap is filled by linear interpolation, at most a quarter of the slices that there are.
- ``doubled_slice``: of two images at one place the first is kept, by InstanceNumber, then by name.
- ``gantry_tilt``: the affine is sheared as the positions say.
- ``localizer``: localizers among the images of the series are set aside.
"""
SAME_PLACE = 1e-3  # mm, how far apart two images count as one place
OFF_GRID = 0.02  # of the slice spacing, how far a slice may be from its place on the regular grid
OFF_AXIS = 0.1  # of a pixel, how far a slice may be shifted in its plane
SAME_DIRECTION = 1e-4  # how much the direction cosines of two slices may differ: 0.03 mm at 300 mm
UNIT_VECTORS = 1e-3  # how far the direction cosines may be from unit length and a right angle
SAME_SPACING = 1e-4  # of the pixel spacing


class SeriesGeometry(NamedTuple):
    """Where the slices of a series are."""

    order: list[int | None]
    """For each slice of the volume its place among the headers; None for a missing one, to be interpolated."""
    affine: np.ndarray
    """Voxel index (column, row, slice) to right-anterior-superior mm, [4, 4]."""


def series_geometry(
    headers: Sequence[SliceHeader], folder: object = "", allow: Sequence[str] = ()
) -> SeriesGeometry:
    """Order the slices of one series along their normal, and compute the volume's affine.

    Axis 0 of the volume runs along a row, axis 1 down a column, axis 2 along the normal (row x column), in which
    the slices are ordered by position. So index and world are always of the same handedness: the determinant is
    above 0. The slice spacing is that of the positions; SliceThickness (1 mm without) counts for a single slice only.

    Args:
        headers: one for each image, in any order.
        folder: where the files are, for the message.
        allow: faults of `ALLOWABLE` that are put up with.

    Raises:
        InputError: several grids or orientations, a gap, several images at one place, tilt, uneven spacing.
    """
    check_allow(allow)
    for header in headers:
        _check_axes(header, folder)
    for keyword, what, values, tolerance in _shared(headers):
        _check_same(headers, keyword, what, values, tolerance, folder)
    row, column = _axes(headers[0])
    normal = np.cross(row, column)
    down, along = headers[0].spacing
    kept = _one_at_each_place(headers, normal, folder, allow)
    positions = np.stack([headers[i].position for i in kept])
    files = [headers[i].name for i in kept]
    step = normal * (headers[0].thickness or 1.0)
    order: list[int | None] = list(kept)
    if len(kept) > 1:
        tilted = _is_tilted(positions, files, (row, column, normal), min(down, along), folder, allow)
        steps = _slice_steps(positions @ normal, files, folder, allow)
        order = [None] * (int(steps.sum()) + 1)
        for place, index in zip(np.concatenate(([0], np.cumsum(steps))), kept, strict=True):
            order[int(place)] = index
        step = (positions[-1] - positions[0]) / (len(order) - 1)
        if not tilted:
            step = normal * (step @ normal)
    affine = np.eye(4)
    affine[:3] = np.stack((row * along, column * down, step, positions[0]), axis=1)
    check_affine(affine, where=files_in([header.name for header in headers], folder))
    to_ras = np.diag([-1.0, -1.0, 1.0, 1.0])  # DICOM's x and y point left and back
    return SeriesGeometry(order, to_ras @ affine)


def check_allow(allow: Sequence[str]) -> None:
    """Refuse names that are not in `ALLOWABLE`."""
    unknown = [name for name in ([allow] if isinstance(allow, str) else allow) if name not in ALLOWABLE]
    if unknown or isinstance(allow, str):
        raise InputError(
            "allow does not list faults that can be allowed",
            expected=f"a list of some of {', '.join(ALLOWABLE)}",
            found=", ".join(map(repr, unknown)) or repr(allow),
        )


def _shared(headers: Sequence[SliceHeader]) -> Iterator[tuple[str, str, np.ndarray, float]]:
    """What must be equal in all slices: tag, sentence, values [slices, n], tolerance."""
    frames = {header.frame_of_reference: float(n) for n, header in enumerate(headers)}
    reference = np.array([[frames[header.frame_of_reference]] for header in headers])
    yield "FrameOfReferenceUID", "the series mixes frames of reference", reference, 0
    shapes = np.array([header.shape for header in headers], dtype=float)
    yield "Rows, Columns", "the series mixes matrix sizes", shapes, 0
    spacings = np.stack([header.spacing for header in headers])
    yield "PixelSpacing", "the series mixes pixel spacings", spacings, SAME_SPACING * float(spacings.min())
    directions = np.stack([header.orientation for header in headers])
    yield "ImageOrientationPatient", "the series mixes slice orientations", directions, SAME_DIRECTION


def _check_same(
    headers: Sequence[SliceHeader],
    keyword: str,
    what: str,
    values: np.ndarray,
    tolerance: float,
    folder: object,
) -> None:
    unique, counts = np.unique(values.round(4), axis=0, return_counts=True)
    common = values[np.abs(values - unique[counts.argmax()]).max(axis=1).argmin()]
    other = np.flatnonzero(np.abs(values - common).max(axis=1) > tolerance)
    if not len(other):
        return
    odd, expected, found = values[int(other[0])], "", ""
    if keyword == "ImageOrientationPatient":
        cosine = min(common[:3] @ odd[:3], common[3:] @ odd[3:])
        expected, found = "one for all", f"{np.degrees(np.arccos(np.clip(cosine, -1, 1))):.2g} degrees apart"
        if len(other) == 1 and len(headers) > 2:
            what = "a slice is tilted against the others"
    elif keyword != "FrameOfReferenceUID":  # an identifier is not shown
        expected, found = (" x ".join(f"{number:g}" for number in v) for v in (common, odd))
    raise InputError(
        what, where=files_in([headers[int(i)].name for i in other], folder), expected=expected,
        found=f"{keyword}: {found}" if found else keyword,
        remedy="take those images away, or give each kind as a series of its own",
    )  # fmt: skip


def _axes(header: SliceHeader) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors along a row and down a column, at right angles."""
    row, column = header.orientation[:3], header.orientation[3:]
    row = row / np.linalg.norm(row)
    column = column - row * (row @ column)
    return row, column / np.linalg.norm(column)


def _check_axes(header: SliceHeader, folder: object) -> None:
    row, column = header.orientation[:3], header.orientation[3:]
    off = max(abs(np.linalg.norm(row) - 1), abs(np.linalg.norm(column) - 1), abs(row @ column))
    if off > UNIT_VECTORS:
        raise InputError(
            "the orientation of an image is not that of a plane", where=files_in([header.name], folder),
            expected="two unit vectors at a right angle", found=f"ImageOrientationPatient, off by {off:.2g}",
        )  # fmt: skip
    if min(header.spacing) <= 0:
        where = files_in([header.name], folder)
        raise InputError("an image has pixels of no size", where=where, found="PixelSpacing not above 0")


def _one_at_each_place(
    headers: Sequence[SliceHeader], normal: np.ndarray, folder: object, allow: Sequence[str]
) -> list[int]:
    """Indices of the headers by position along the normal, one for each place."""
    height = np.array([header.position @ normal for header in headers])
    places: list[list[int]] = []
    for index in np.argsort(height, kind="stable"):
        if places and height[index] - height[places[-1][0]] <= SAME_PLACE:
            places[-1].append(int(index))
        else:
            places.append([int(index)])
    several = [place for place in places if len(place) > 1]
    if len(several) > len(places) / 2:
        raise InputError(
            "several images at one position: a time series, or several echoes or b-values",
            where=files_in([headers[i].name for i in several[0]], folder), expected="one image at each position",
            found=f"{max(map(len, several))} at one position, {len(headers)} at {len(places)} positions",
            remedy="give one time point, echo or b-value as its own series",
        )  # fmt: skip
    kept = []
    for place in places:
        first, *others = sorted(place, key=lambda i: (headers[i].number, headers[i].name))
        kept.append(first)
        names = [headers[i].name for i in sorted(place)]
        if others and "doubled_slice" not in allow:
            raise InputError(
                "a slice is doubled: two images at the same position", where=files_in(names, folder),
                found=f"{len(place)} images at one position",
                remedy="take one away, or allow doubled_slice to keep the first",
            )  # fmt: skip
        if any(np.linalg.norm(headers[i].position - headers[first].position) > SAME_PLACE for i in others):
            raise InputError("two images lie side by side in one plane", where=files_in(names, folder))
        if others:
            logger.warning("%s: doubled slice, the first is kept", files_in(names, folder))
    return kept


def _is_tilted(
    positions: np.ndarray,
    files: Sequence[str],
    axes: tuple[np.ndarray, np.ndarray, np.ndarray],
    pixel: float,
    folder: object,
    allow: Sequence[str],
) -> bool:
    """Whether each slice is shifted in its plane by the same way, where that is allowed."""
    offset = positions - positions[0]
    in_plane, height = offset @ np.stack(axes[:2], axis=1), offset @ axes[2]
    drift = in_plane[-1] * (height / height[-1])[:, None]
    jitter = np.linalg.norm(in_plane - drift, axis=1)
    if jitter.max() > OFF_AXIS * pixel:
        raise InputError(
            "a slice is shifted in its plane against the others",
            where=files_in([files[int(jitter.argmax())]], folder),
            expected="positions on one line",
            found=f"{jitter.max():.3g} mm off",
        )
    if np.linalg.norm(drift[-1]) <= OFF_AXIS * pixel:
        return False
    angle = np.degrees(np.arctan2(np.linalg.norm(drift[-1]), height[-1]))
    if "gantry_tilt" not in allow:
        raise InputError(
            "gantry tilt: the slices are not stacked along their normal",
            where=files_in([files[0], files[-1]], folder),
            expected="0 degrees",
            found=f"{angle:.3g} degrees",
            remedy="resample it to an upright stack, or allow gantry_tilt to keep a sheared affine",
        )
    logger.warning("%s: gantry tilt of %.3g degrees, the affine is sheared", folder, angle)
    return True


def _slice_steps(
    height: np.ndarray, files: Sequence[str], folder: object, allow: Sequence[str]
) -> np.ndarray:
    """By how many slices each is away from that before it: 1 without a gap."""
    gaps = np.diff(height)
    unit = float(np.sort(gaps)[(len(gaps) - 1) // 2])
    steps = np.rint(gaps / unit)
    missing = int(min(steps.sum(), 1e9)) - len(gaps)
    places = np.concatenate(([0.0], np.cumsum(steps)))
    spacing = (height[-1] - height[0]) / places[-1]
    off = np.abs(height - height[0] - places * spacing)
    if off.max() > OFF_GRID * spacing or steps.min() < 1 or missing > len(files):
        worst = int(np.abs(gaps - unit).argmax())
        raise InputError(
            "the slices are unevenly spaced", where=files_in(files[worst : worst + 2], folder),
            expected=f"{unit:.4g} mm between neighbours", found=f"{gaps[worst]:.4g} mm",
            remedy="give a series of even spacing, or resample it",
        )  # fmt: skip
    if not missing:
        return steps
    after = int(steps.argmax())
    between = files_in(files[after : after + 2], folder)
    if "missing_slice" not in allow or missing > max(1, len(files) // 4):
        raise InputError(
            "a slice is missing", where=f"between {between}",
            expected=f"{unit:.4g} mm between neighbours", found=f"{gaps[after]:.4g} mm; {missing} missing in all",
            remedy="complete the series, or allow missing_slice to interpolate (at most a quarter of the slices)",
        )  # fmt: skip
    logger.warning("between %s: %d slices are missing in all, interpolated", between, missing)
    return steps
