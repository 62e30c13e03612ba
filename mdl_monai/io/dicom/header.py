"""What one slice's header says of its place and values: a classic image, or one frame of an enhanced multi-frame."""

from __future__ import annotations

from collections.abc import Sequence as AnySequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from pydicom import Dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag, Tag

from mdl_monai.errors import InputError

MACROS = (
    "PlanePositionSequence",
    "PlaneOrientationSequence",
    "PixelMeasuresSequence",
    "PixelValueTransformationSequence",
)
LARGEST = 1e9  # what no number of a sound header reaches


@dataclass(frozen=True, eq=False)
class SliceHeader:
    """Header of one slice; its numbers are finite."""

    name: str
    """File (and frame), for messages."""
    shape: tuple[int, int]
    """Rows, columns."""
    position: np.ndarray
    """Centre of the first voxel in DICOM's axes (left, posterior, superior), mm, [3]."""
    orientation: np.ndarray
    """Directions along a row and down a column, [6]."""
    spacing: np.ndarray
    """Between rows, between columns, mm, [2]."""
    thickness: float | None = None
    slope: float = 1.0
    intercept: float = 0.0
    number: float = 0.0
    """InstanceNumber, or the number of the frame."""
    frame_of_reference: str = ""


def slice_headers(dataset: Dataset, name: str, folder: object = "") -> list[SliceHeader]:
    """Headers of the slices of one object, in the order of its frames.

    Args:
        dataset: the object.
        name: its file, relative to the folder.
        folder: where that is, for messages.

    Raises:
        InputError: something that the geometry needs is absent or no number, several stacks, a mosaic.
    """
    where = files_in([name], folder)
    if "MOSAIC" in text_of(dataset, "ImageType").split("\\"):
        raise InputError(
            "an image is a mosaic of slices", where=where, found="ImageType MOSAIC",
            remedy="convert it to NIfTI (dcm2niix)",
        )  # fmt: skip
    shape = (_size(dataset, "Rows", where), _size(dataset, "Columns", where))
    reference = text_of(dataset, "FrameOfReferenceUID")
    n_frames = numbers(dataset, "NumberOfFrames", 1, where)
    frames = _items(dataset, "PerFrameFunctionalGroupsSequence", where)
    if not frames:
        if n_frames is not None and n_frames[0] > 1:
            raise InputError(
                "the frames of a multi-frame image have no position", where=where,
                expected="PerFrameFunctionalGroupsSequence",
            )  # fmt: skip
        number = numbers(dataset, "InstanceNumber", 1, where)
        return [
            _header([dataset], name, folder, shape, 0.0 if number is None else float(number[0]), reference)
        ]
    if n_frames is None or n_frames[0] != len(frames):
        raise InputError(
            "a multi-frame image does not describe each of its frames", where=where,
            expected="an item of PerFrameFunctionalGroupsSequence for each of NumberOfFrames",
            found=f"{len(frames)} items",
        )  # fmt: skip
    shared = _items(dataset, "SharedFunctionalGroupsSequence", where)[:1]
    contents = [item for frame in frames for item in _items(frame, "FrameContentSequence", where)[:1]]
    stacks = {text_of(item, "StackID") for item in contents}
    if len(stacks) > 1:
        raise InputError(
            "a multi-frame image holds several stacks", where=where, expected="one StackID",
            found=f"{len(stacks)} stacks", remedy="give one stack as its own image",
        )  # fmt: skip
    result = []
    for n, frame in enumerate(frames, 1):
        macros = [
            next((i for group in (frame, *shared) for i in _items(group, m, where)), None) for m in MACROS
        ]
        sources = [macro for macro in macros if macro is not None]
        result.append(
            _header([*sources, dataset], f"frame {n} of {name}", folder, shape, float(n), reference)
        )
    return result


def _header(
    sources: list[Dataset],
    name: str,
    folder: object,
    shape: tuple[int, int],
    number: float,
    frame_of_reference: str,
) -> SliceHeader:
    """Header of one slice; a tag is taken from the first of the data sets that holds it."""
    where = files_in([name], folder)

    def read(keyword: str, count: int) -> np.ndarray | None:
        return next((v for s in sources if (v := numbers(s, keyword, count, where)) is not None), None)

    def required(keyword: str, count: int, what: str) -> np.ndarray:
        found = read(keyword, count)
        if found is None:
            raise InputError(
                f"an image has no {what}", where=where, expected=f"{keyword}", found="nothing",
                remedy="take it away if it is no slice of the volume; else export the series again",
            )  # fmt: skip
        return found

    def scale(keyword: str, default: float) -> float:
        found = read(keyword, 1)
        return default if found is None else float(found[0])

    slope = scale("RescaleSlope", 1.0)
    if slope == 0:
        raise InputError("an image cannot be scaled to its unit", where=where, found="RescaleSlope 0")
    thickness = read("SliceThickness", 1)
    return SliceHeader(
        name=name,
        shape=shape,
        position=required("ImagePositionPatient", 3, "position"),
        orientation=required("ImageOrientationPatient", 6, "orientation"),
        spacing=required("PixelSpacing", 2, "pixel spacing"),
        thickness=float(thickness[0]) if thickness is not None and thickness[0] > 0 else None,
        slope=slope,
        intercept=scale("RescaleIntercept", 0.0),
        number=number,
        frame_of_reference=frame_of_reference,
    )


def numbers(dataset: Dataset, keyword: str, count: int, where: str) -> np.ndarray | None:
    """Finite numbers of a tag of decimal or integer text, [count]; None where it is absent or empty.

    Raises:
        InputError: not so many, or no finite numbers.
    """
    text = text_of(dataset, keyword)
    if not text:
        return None
    try:
        found = np.array([float(part) for part in text.split("\\")])
        good = found.shape == (count,) and bool((np.abs(found) < LARGEST).all())
    except ValueError:
        good = False
    if not good:
        raise InputError(
            f"a header is damaged: {keyword}", where=where, expected=f"{count} number{'s' * (count > 1)}",
            found="something else",
        )  # fmt: skip
    return found


def text_of(dataset: Dataset, keyword: str) -> str:
    """Text of a tag, several values parted by a backslash; "" where it is absent.

    It is taken as it was read: pydicom's conversion is slow, and quotes the values that it complains of.
    """
    value: Any = "?"  # for what pydicom cannot make sense of
    with suppress(Exception):
        element = dataset.get_item(_tag(keyword))
        value = None if element is None else element.value
    if isinstance(value, bytes):
        return value.decode("ascii", "replace").strip(" \0")
    if isinstance(value, MultiValue):
        return "\\".join(map(str, value))
    return "" if value is None else str(value)


def value_of(dataset: Dataset, keyword: str, where: str) -> Any:
    """Value of a tag that is not text, None where it is absent.

    Raises:
        InputError: pydicom cannot make sense of it; its own message would quote the value.
    """
    if _tag(keyword) not in dataset:
        return None
    with suppress(Exception):
        return dataset[_tag(keyword)].value
    raise InputError(f"a header is damaged: {keyword}", where=where, remedy="export it again")


def _size(dataset: Dataset, keyword: str, where: str) -> int:
    value = value_of(dataset, keyword, where)
    if not isinstance(value, int) or value < 1:
        raise cut_short(keyword, where)
    return value


@cache
def _tag(keyword: str) -> BaseTag:
    """pydicom's search for it takes longer than that for the value."""
    return Tag(keyword)


def cut_short(keyword: str, where: str) -> InputError:
    """The error for an image without what each must have."""
    return InputError(
        f"an image is damaged or cut short: it has no {keyword}", where=where, remedy="export it again"
    )


def _items(dataset: Dataset, keyword: str, where: str) -> list[Dataset]:
    value = value_of(dataset, keyword, where)
    if value is not None and not isinstance(value, Sequence):
        raise InputError(f"a header is damaged: {keyword}", where=where, expected="a sequence")
    return list(value or ())


def files_in(names: AnySequence[str], folder: object) -> str:
    """Names of files, the first three of them, and of their folder."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more + (f" in {folder}" if str(folder) else "")
