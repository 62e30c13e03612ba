"""A DICOM series as a volume with a checked geometry."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from pydicom import Dataset

from mdl_monai.errors import InputError
from mdl_monai.io.dicom.geometry import check_allow, series_geometry
from mdl_monai.io.dicom.header import files_in, numbers, slice_headers, text_of
from mdl_monai.io.dicom.objects import DicomObject, dicom_images, quiet_pydicom
from mdl_monai.io.dicom.pixels import read_volume

logger = logging.getLogger(__name__)

MODALITIES = ("CT", "MR", "PT", "NM", "US", "CR", "DX", "MG", "XA", "RF", "SC", "OT", "OP", "OPT")


@dataclass(frozen=True, eq=False)
class DicomSeries:
    """A volume and the headers that it came from, which name the patient: they are not shown in its `repr`."""

    datasets: list[Dataset] = field(repr=False)
    """In the order of the slices, without pixel data; one, where it is an enhanced multi-frame object. A slice that
    was interpolated has none."""
    array: np.ndarray | None = field(repr=False)
    """In units of RescaleSlope and RescaleIntercept, float32 [columns, rows, slices]; None if not asked for."""
    affine: np.ndarray
    """Voxel index to right-anterior-superior mm, float64 [4, 4]; see `series_geometry`."""


def load_series(
    path: str | Path,
    series: int | str | None = None,
    allow: Sequence[str] = (),
    pixels: bool = True,
    modality: Sequence[str] = (),
) -> DicomSeries:
    """Load one DICOM series, classic or enhanced multi-frame.

    Messages and warnings name files, tags and geometry, never the value of a text tag or an identifier.

    Args:
        path: a folder (those below it are searched too), a zip of one, or a file; a file of one frame is a volume of
            one slice.
        series: SeriesNumber or SeriesInstanceUID, where there are several series. A series that holds localizers
            only is never meant unless it is named.
        allow: faults that are put up with, of `geometry.ALLOWABLE`.
        pixels: whether the values are read too.
        modality: those that the series may be of ("MR", "CT"); any, if there are none.

    Raises:
        InputError: nothing to read, several series and none named, or a fault of a file (`objects`), of the
            geometry (`geometry`) or of the values (`pixels`).
    """
    check_allow(allow)
    path = Path(path).expanduser()
    folder = path.parent if path.is_file() and path.suffix.lower() != ".zip" else path
    with quiet_pydicom():
        images = _chosen(path, folder, series, allow, pixels)
        _check_modality(images, folder, modality)
        headers = [slice_headers(image.dataset, image.name, folder) for image in images]
        several = [image.name for image, frames in zip(images, headers, strict=True) if len(frames) > 1]
        if several and len(images) > 1:
            raise InputError(
                "the series holds a multi-frame image and others", where=files_in(several, folder),
                expected="one multi-frame image, or images of one frame", remedy="give the one that is meant as path",
            )  # fmt: skip
        order, affine = series_geometry([header for frames in headers for header in frames], folder, allow)
        parsed = [image.dataset for image in images]
        array = read_volume(parsed, headers, order, folder) if pixels else None
    in_order = parsed if several else [parsed[index] for index in order if index is not None]
    return DicomSeries(list(in_order), array, affine)


def _chosen(
    path: Path, folder: Path, series: int | str | None, allow: Sequence[str], pixels: bool
) -> list[DicomObject]:
    """The images of the series that is meant."""
    groups: dict[str, list[DicomObject]] = {}
    meant: set[str] = set()
    for image in dicom_images(path):
        uid = text_of(image.dataset, "SeriesInstanceUID")
        groups.setdefault(uid, []).append(image)
        if series is None:
            is_meant = not _is_localizer(image)
        else:
            is_meant = str(series) in (uid, _integer(image, "SeriesNumber"))
        if is_meant:
            meant.add(uid)
        if not pixels or uid not in meant or (series is None and len(meant) > 1):
            image.dataset.pop("PixelData", None)  # out of memory: it is not needed
    if not groups:
        raise InputError(
            "no DICOM image found", where=path, expected="a folder, a zip or a file of DICOM images"
        )
    if len(meant) == 1:
        return _without_localizers(groups[meant.pop()], folder, allow)
    if series is None:
        what = "there are several series, and none is named" if meant else "there are only localizers"
    else:
        kind = f"the number {series}" if str(series).isdigit() else "that SeriesInstanceUID"
        what = f"several series have {kind}" if meant else f"no series has {kind}"
    raise InputError(
        what, where=path, expected="series: a SeriesNumber, or the SeriesInstanceUID where that is not enough",
        found="; ".join(sorted(_told(groups[uid]) for uid in meant or groups)),
    )  # fmt: skip


def _check_modality(images: list[DicomObject], folder: Path, modality: Sequence[str]) -> None:
    odd = [image.name for image in images if modality and text_of(image.dataset, "Modality") not in modality]
    if odd:
        raise InputError(
            "the series is of another modality", where=files_in(odd, folder), expected=" or ".join(modality),
            found=_modality(next(image for image in images if image.name == odd[0])),
        )  # fmt: skip


def _modality(image: DicomObject) -> str:
    """For a message: text of a tag that is not one of a few words is not shown."""
    return next((m for m in MODALITIES if m == text_of(image.dataset, "Modality")), "other modality")


def _without_localizers(images: list[DicomObject], folder: Path, allow: Sequence[str]) -> list[DicomObject]:
    localizers = [image.name for image in images if _is_localizer(image)]
    if not localizers or len(localizers) == len(images):
        return images
    if "localizer" not in allow:
        raise InputError(
            "there are localizers among the slices of the series", where=files_in(localizers, folder),
            found="ImageType LOCALIZER", remedy="take them away, or allow localizer to leave them out",
        )  # fmt: skip
    logger.warning("%s: localizers, left out", files_in(localizers, folder))
    return [image for image in images if not _is_localizer(image)]


def _is_localizer(image: DicomObject) -> bool:
    return text_of(image.dataset, "ImageType").split("\\")[2:3] == ["LOCALIZER"]


def _told(images: list[DicomObject]) -> str:
    """A series for a list to choose from: no text of its tags."""
    first = images[0].dataset
    modality = _modality(images[0])
    frames = [_integer(image, "NumberOfFrames") for image in images]
    n_images = sum(int(n) if n.isdigit() else 1 for n in frames)
    size = " x ".join(
        str(first[k].value) if isinstance(first[k].value, int) else "?" for k in ("Columns", "Rows")
    )
    kind = ", localizer" if all(map(_is_localizer, images)) else ""
    return f"number {_integer(images[0], 'SeriesNumber')}: {modality}, {n_images} images of {size}{kind}"


def _integer(image: DicomObject, keyword: str) -> str:
    """Digits of a tag of integer text; "none" where it holds something else."""
    with suppress(InputError):
        found = numbers(image.dataset, keyword, 1, image.name)
        if found is not None:
            return str(int(found[0]))
    return "none"
