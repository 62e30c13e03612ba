"""DICOM series that were changed, from 20 seeds, and where their headers say that each of their pixels lies."""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Callable
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
from mutations import ANY, INTEGERS, Rng, flipped, pick, unchanged
from pydicom import Dataset
from pydicom.dataelem import RawDataElement
from pydicom.encaps import encapsulate
from pydicom.tag import Tag
from pydicom.uid import (
    JPEG2000,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    RLELossless,
)

from mdl_monai.transforms.load import LoadInputd

sys.path.insert(0, str(Path(__file__).parents[1] / "io" / "dicom"))
from dicom_files import Stack, oblique_axes, save

N_SEEDS = 20
LOADER = LoadInputd("image")
SYNTAXES = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, RLELossless)
TAGS = (
    "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "SamplesPerPixel",
    "NumberOfFrames", "PhotometricInterpretation", "PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient",
    "SliceThickness", "RescaleSlope", "RescaleIntercept", "InstanceNumber", "ImageType", "SOPClassUID",
    "SeriesInstanceUID", "FrameOfReferenceUID", "Modality", "PixelData", "PerFrameFunctionalGroupsSequence",
    "SharedFunctionalGroupsSequence", "SpecificCharacterSet", "PatientName",
)  # fmt: skip
TEXTS = (
    b"", b"0", b"-1", b"1e308", b"1e-308", b"nan", b"inf\\inf", b"0\\0\\0", b"1\\2\\3\\4\\5\\6", b"1e5\\-1e5\\7",
    b"a", b"\\" * 40, b"9" * 60, b"0.5\\0.5", b"1.2.840.10008.5.1.4.1.1.88.11", b"MONOCHROME1", b"RGB",
    b"\xff\xfe\x00\x80",
)  # fmt: skip
SYNTAX_TEXTS = (
    DeflatedExplicitVRLittleEndian,
    JPEG2000,
    JPEGBaseline8Bit,
    RLELossless,
    "1.2.3",
    "",
    "x" * 64,
)


def images_of(seed: int) -> list[Dataset]:
    """A sound series of a few slices."""
    rng = np.random.default_rng(1000 + seed)
    dtype = (np.uint16, np.int16, np.uint8, np.uint16)[seed % 4]
    values = rng.integers(0, 200, (int(rng.integers(3, 7)), *rng.integers(4, 9, 2))).astype(dtype)
    axes = np.eye(3) if seed % 3 == 0 else oblique_axes(rng)
    tags = {"RescaleSlope": "0.5", "RescaleIntercept": "-100"} if seed % 5 == 1 else {}
    stack = Stack(values, axes, modality=("MR", "CT")[seed % 2], tags=tags)
    images = [stack.enhanced(rng.permutation(len(values)))] if seed % 4 == 3 else stack.datasets()
    syntax = SYNTAXES[seed // 4 % 4]
    for ds in images:
        if syntax == RLELossless:
            ds.compress(RLELossless, generate_instance_uid=False)
        elif syntax == ExplicitVRBigEndian and dtype != np.uint8:
            ds.PixelData = np.frombuffer(ds.PixelData, "<u2").byteswap().tobytes()
        ds.file_meta.TransferSyntaxUID = syntax
    return images


def tag(path: Path, rng: Rng) -> None:
    """An element taken out, or holding something else, of any length."""
    ds = pydicom.dcmread(path)
    keyword = str(pick(rng, TAGS))
    key, little = Tag(keyword), ds.original_encoding[1]
    text = pick(rng, TEXTS)
    if rng.random() < 0.5:
        text = int(pick(rng, INTEGERS)).to_bytes(8, "little" if little else "big", signed=True)[
            : pick(rng, (1, 2, 4))
        ]
    if key in ds:
        del ds[key]
    if rng.random() < 0.8:
        vr = "OW" if keyword == "PixelData" else pydicom.datadict.dictionary_VR(key)
        if keyword == "PixelData" and ds.file_meta.TransferSyntaxUID.is_compressed:
            ds.add_new(key, "OB", encapsulate([text or b"\0\0"]))
        elif vr == "SQ":
            setattr(ds, keyword, [Dataset() for _ in range(int(rng.integers(0, 4)))])
        else:
            ds[key] = RawDataElement(key, vr, len(text), text + b" " * (len(text) % 2), 0, False, little)
    data = path.read_bytes()
    try:
        ds.save_as(path)
    except ValueError:  # pydicom does not write such a value
        path.write_bytes(data)
        anything(path, rng)


def syntax(path: Path, rng: Rng) -> None:
    """Another transfer syntax than that of the content, or a truly deflated content."""
    ds = pydicom.dcmread(path)
    if rng.random() < 0.3 and not ds.file_meta.TransferSyntaxUID.is_compressed and ds.original_encoding[1]:
        ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
        ds.save_as(path, implicit_vr=False, little_endian=True)
        return
    old, data = ds.file_meta.TransferSyntaxUID.encode(), path.read_bytes()
    new = str(pick(rng, SYNTAX_TEXTS)).encode()[: len(old) + len(old) % 2]
    path.write_bytes(data.replace(old + b"\0" * (len(old) % 2), new.ljust(len(old) + len(old) % 2, b"\0"), 1))


def anything(path: Path, rng: Rng) -> None:
    path.write_bytes(pick(rng, ANY)(path.read_bytes(), rng))


def header(path: Path, rng: Rng) -> None:
    path.write_bytes(flipped(path.read_bytes(), rng, 128, 1500, most=3))


def length(path: Path, rng: Rng) -> None:
    """The length of an element says something else."""
    data = bytearray(path.read_bytes())
    places = [
        n
        for n in range(132, len(data) - 8)
        if data[n : n + 2] in (b"\x28\x00", b"\x20\x00", b"\xe0\x7f", b"\xfe\xff")
    ]
    at = int(pick(rng, places)) + int(pick(rng, (4, 6, 8)))
    data[at : at + 4] = pick(
        rng, (b"\xff\xff\xff\xff", b"\xfe\xff\xff\xff", b"\x00\x00\x00\x7f", bytes(4), b"\xff\xff\0\0")
    )
    path.write_bytes(data)


def nested(path: Path, rng: Rng) -> None:
    """Sequences in sequences, as far down as no program follows."""
    level = b"\x40\x00\x00\xa1SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    path.write_bytes(path.read_bytes() + level * int(pick(rng, (10, 500, 5000, 50000))))


def giant(path: Path, rng: Rng) -> None:
    """A small file that says that it is large."""
    ds = pydicom.dcmread(path)
    ds.Rows, ds.Columns = pick(rng, ((65535, 65535), (30000, 30000), (16384, 16384), (1, 65535)))
    ds.save_as(path)


def packed(path: Path, rng: Rng) -> None:
    """Replaces a whole series by a zip of it, which is damaged."""
    target = path.parent.with_suffix(".zip")
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(path.parent.iterdir()):
            archive.write(file, file.name)
        if rng.random() < 0.2:
            archive.writestr("bomb.dcm", bytes(2**28))
    if rng.random() < 0.8:
        target.write_bytes(pick(rng, ANY)(target.read_bytes(), rng))


def series(path: Path, rng: Rng) -> None:
    """A file taken away, there twice, empty or of another format."""
    kind = int(rng.integers(4))
    if kind == 0:
        path.unlink()
    elif kind == 1:
        path.with_name("ZZ.dcm").write_bytes(path.read_bytes())
    else:
        path.write_bytes((b"", b"words")[kind - 2])


EDITS: list[Callable[[Path, Rng], None]] = [
    *[tag] * 8, *[anything] * 5, *[header] * 4, *[length] * 2, syntax, nested, giant, packed, series, unchanged,
]  # fmt: skip


def make(index: int, folder: Path) -> tuple[Path, str]:
    """Write case `index`; its folder or zip, and what was done to it."""
    rng = np.random.default_rng(index)
    at = folder / "series"
    paths = [save(ds, at / f"IM{n:02d}.dcm") for n, ds in enumerate(images_of(index % N_SEEDS))]
    edit = pick(rng, EDITS)
    victims = paths if edit is tag and rng.random() < 0.3 else [pick(rng, paths)]
    state = rng.integers(2**32)
    for path in victims:  # the same in all of them, or in one
        edit(path, np.random.default_rng(state))
    packed_at = at.with_suffix(".zip")
    return packed_at if packed_at.exists() else at, f"{edit.__name__}, seed {index % N_SEEDS}"


def check(path: Path) -> None:
    """Load the series as a bundle does; each pixel must lie where its header says, with the value that it says.

    Raises:
        InputError: it is refused.
        AssertionError: another result.
    """
    image = LOADER({"image": str(path)})["image"]
    values, affine = image.numpy()[0], image.affine.numpy()
    values = values[..., None] if values.ndim == 2 else values
    assert np.isfinite(values).all() and np.isfinite(affine).all() and np.linalg.det(affine) > 0
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            archive.extractall(path.parent / "unpacked")
        path = path.parent / "unpacked"
    expected = [frame for file in sorted(path.iterdir()) for frame in frames_of(file)]
    assert len(expected) == values.shape[-1], "another number of slices"
    to_index = np.linalg.inv(affine)
    for position, pixels in expected:
        index = to_index @ (*(np.array(position) * (-1, -1, 1)), 1)
        assert np.abs(index[:3] - (0, 0, round(index[2]))).max() < 0.15, f"another place: {index}"
        found = values[..., round(index[2])]
        assert found.shape == pixels.T.shape and np.allclose(found, pixels.T, rtol=1e-5), "other values"


def frames_of(file: Path) -> list[tuple[list[float], np.ndarray]]:
    """Position and values of each slice of a file, by pydicom alone."""
    ds = pydicom.dcmread(BytesIO(file.read_bytes()), force=True)  # of a file it makes room for any length
    kind = pydicom.uid.UID("1.2.3")  # what is private or damaged is taken for what it looks like
    with suppress(Exception):
        kind = pydicom.uid.UID(ds.SOPClassUID)
    if kind.name != kind and "Image Storage" not in kind.name:
        return []
    if not ds.get("PerFrameFunctionalGroupsSequence"):
        slope, intercept = float(ds.get("RescaleSlope") or 1), float(ds.get("RescaleIntercept") or 0)
        return [(position_of(ds), ds.pixel_array * slope + intercept)]
    slope, intercept = float(ds.get("RescaleSlope") or 1), float(ds.get("RescaleIntercept") or 0)
    return [
        (position_of(item.PlanePositionSequence[0]), pixels * slope + intercept)
        for item, pixels in zip(ds.PerFrameFunctionalGroupsSequence, ds.pixel_array, strict=True)
    ]


def position_of(ds: Dataset) -> list[float]:
    """By the bytes, whatever the value representation before them has become."""
    value = ds.get_item("ImagePositionPatient").value
    return list(map(float, value.split(b"\\") if isinstance(value, bytes) else value))
