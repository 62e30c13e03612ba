from __future__ import annotations

import logging
import re
import shutil
import struct
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from dicom_files import (
    TO_RAS,
    Stack,
    decimals,
    oblique_axes,
    orthogonal_axes,
    put_values,
    random_stack,
    save,
)
from pydicom import Dataset
from pydicom.uid import (
    ComprehensiveSRStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    GrayscaleSoftcopyPresentationStateStorage,
    ImplicitVRLittleEndian,
    JPEGLosslessSV1,
    KeyObjectSelectionDocumentStorage,
    RLELossless,
    SegmentationStorage,
    generate_uid,
)

from mdl_monai.errors import InputError
from mdl_monai.io.dicom import objects
from mdl_monai.io.dicom.geometry import ALLOWABLE
from mdl_monai.io.dicom.series import DicomSeries, load_series


def values(seed: int = 0, shape: tuple[int, int, int] = (6, 5, 4)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 4096, shape).astype(np.uint16)


def check_in_world(affine: np.ndarray, array: np.ndarray, expected: np.ndarray, volume: np.ndarray) -> None:
    """The same value at the same place, to 1e-6 mm: index to index is the identity but for flips."""
    index = np.linalg.inv(expected) @ affine
    turn = index[:3, :3].round()
    np.testing.assert_allclose(index[:3, :3], turn, atol=1e-5)
    assert (np.abs(turn) == np.eye(3)).all()
    for axis in range(3):
        if turn[axis, axis] < 0:
            array, affine = np.flip(array, axis), affine @ flip(axis, array.shape[axis])
    np.testing.assert_allclose(affine, expected, atol=1e-6)
    np.testing.assert_array_equal(array, volume)


def flip(axis: int, size: int) -> np.ndarray:
    matrix = np.eye(4)
    matrix[axis, axis], matrix[axis, 3] = -1, size - 1
    return matrix


def check_stack(series: DicomSeries, stack: Stack) -> None:
    assert series.array is not None and series.array.dtype == np.float32 and series.affine.dtype == np.float64
    check_in_world(series.affine, series.array, stack.affine, stack.values.T)


def by_sitk(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """GDCM's reading: affine to RAS, array [columns, rows, slices]."""
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    image = reader.Execute()
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return TO_RAS @ affine, sitk.GetArrayFromImage(image).T


@pytest.mark.parametrize("oblique", [False, True])
def test_48_axis_orders_lie_in_the_world_as_they_were_made_and_as_gdcm_reads_them(
    tmp_path: Path, oblique: bool
) -> None:
    rng = np.random.default_rng(int(oblique))
    for n, axes in enumerate(orthogonal_axes()):
        stack = Stack(values(n, (3, 4, 2)), oblique_axes(rng) @ axes if oblique else axes)
        folder = tmp_path / str(n)
        stack.save(folder, rng.permutation(3))
        series = load_series(folder)
        check_stack(series, stack)
        affine, array = by_sitk(folder)
        check_in_world(series.affine, series.array, affine, array)


@pytest.mark.parametrize("modality", ["MR", "CT"])
@pytest.mark.parametrize("shared", [True, False])
def test_an_enhanced_multi_frame_image_is_the_same_volume(
    tmp_path: Path, modality: str, shared: bool
) -> None:
    rng = np.random.default_rng(3)
    for n, axes in enumerate([np.eye(3), oblique_axes(rng), orthogonal_axes()[13], orthogonal_axes()[30]]):
        stack = Stack(values(n), axes, modality=modality)
        path = save(stack.enhanced(rng.permutation(6), shared=shared), tmp_path / f"{n}.dcm")
        series = load_series(path)
        check_stack(series, stack)
        assert len(series.datasets) == 1
        stack.save(tmp_path / str(n))
        classic = load_series(tmp_path / str(n))
        np.testing.assert_array_equal(series.affine, classic.affine)
        np.testing.assert_array_equal(series.array, classic.array)


def test_highdicom_sees_an_enhanced_image_in_the_same_place(tmp_path: Path) -> None:
    highdicom = pytest.importorskip("highdicom")
    stack = Stack(values(), oblique_axes(np.random.default_rng(4)))
    path = save(stack.enhanced(np.random.default_rng(5).permutation(6)), tmp_path / "e.dcm")
    volume = highdicom.imread(path).get_volume()  # axes: slices, rows, columns
    affine = TO_RAS @ volume.affine[:, [2, 1, 0, 3]]
    series = load_series(path)
    check_in_world(series.affine, series.array, affine, volume.array.T)


def test_spacing_comes_from_positions_and_datasets_come_in_their_order(tmp_path: Path) -> None:
    stack = Stack(values(), tags={"SliceThickness": "9", "SpacingBetweenSlices": "7"})
    stack.save(tmp_path, [3, 0, 5, 1, 4, 2])
    series = load_series(tmp_path)
    np.testing.assert_allclose(np.linalg.norm(series.affine[:3, :3], axis=0), (0.9, 1.1, 2.5))
    assert [ds.InstanceNumber for ds in series.datasets] == [1, 2, 3, 4, 5, 6]
    assert not any("PixelData" in ds for ds in series.datasets)


def test_one_file_is_one_slice(tmp_path: Path) -> None:
    paths = Stack(values()).save(tmp_path)
    series = load_series(paths[2])
    assert series.array.shape == (4, 5, 1) and len(series.datasets) == 1
    np.testing.assert_array_equal(series.array[..., 0], values()[2].T)
    np.testing.assert_allclose(series.affine[:3, 2], [0, 0, 1.23])


def test_headers_can_be_read_alone(tmp_path: Path) -> None:
    stack = Stack(values())
    stack.save(tmp_path)
    series = load_series(tmp_path, pixels=False)
    assert series.array is None and len(series.datasets) == 6
    assert not any("PixelData" in ds for ds in series.datasets)
    np.testing.assert_allclose(series.affine, stack.affine)


def test_headers_are_not_shown(tmp_path: Path) -> None:
    Stack(values()).save(tmp_path)
    assert "Patient" not in repr(load_series(tmp_path))


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, RLELossless])
@pytest.mark.parametrize("enhanced", [False, True])
def test_other_encodings_give_the_same_values(tmp_path: Path, syntax: str, enhanced: bool) -> None:
    stack = Stack(values())
    images = [stack.enhanced()] if enhanced else stack.datasets()
    for n, ds in enumerate(images):
        if syntax == RLELossless:
            ds.compress(RLELossless, generate_instance_uid=False)
        elif syntax == ExplicitVRBigEndian:
            ds.PixelData = np.frombuffer(ds.PixelData, "<u2").byteswap().tobytes()
        ds.file_meta.TransferSyntaxUID = syntax
        save(ds, tmp_path / f"{n}.dcm")
    check_stack(load_series(tmp_path), stack)


def test_slope_and_intercept_of_each_slice_count(tmp_path: Path) -> None:
    def scale(images: list[Dataset]) -> None:
        for k, ds in enumerate(images):
            ds.RescaleSlope, ds.RescaleIntercept = str(0.5 + k), str(-1024 + 10 * k)

    stack = Stack(values())
    stack.save(tmp_path / "c", edit=scale)
    k = np.arange(6)
    expected = stack.values.T * (0.5 + k) - 1024 + 10 * k
    np.testing.assert_allclose(load_series(tmp_path / "c").array, expected, rtol=1e-6)
    ds = stack.enhanced([5, 4, 3, 2, 1, 0])
    for slice_, frame in zip(range(5, -1, -1), ds.PerFrameFunctionalGroupsSequence, strict=True):
        item = Dataset()
        item.RescaleSlope, item.RescaleIntercept = str(0.5 + slice_), str(-1024 + 10 * slice_)
        frame.PixelValueTransformationSequence = [item]
    np.testing.assert_allclose(load_series(save(ds, tmp_path / "e.dcm")).array, expected, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int32", "uint32"])
def test_signed_and_unsigned_whole_numbers(tmp_path: Path, dtype: str) -> None:
    info = np.iinfo(dtype)
    limits = (max(info.min, -(2**24)), min(info.max, 2**24))
    stack = Stack(np.random.default_rng(0).integers(*limits, (4, 3, 3), endpoint=True).astype(dtype))
    stack.save(tmp_path)
    check_stack(load_series(tmp_path), stack)


@pytest.mark.parametrize("signed", [False, True])
def test_bits_above_those_stored_do_not_count(tmp_path: Path, signed: bool) -> None:
    true = np.random.default_rng(0).integers(-2048 * signed, 4096 - 2048 * signed, (4, 3, 3))
    stored = (true & 0x0FFF | 0x5000).astype(np.uint16)  # an overlay in the unused bits
    tags = {"BitsStored": 12, "HighBit": 11, "PixelRepresentation": int(signed)}
    Stack(stored, tags=tags).save(tmp_path)
    np.testing.assert_array_equal(load_series(tmp_path).array, true.T)


# -- faults ------------------------------------------------------------------------------------------------------


def delete(images: list[Dataset], k: int) -> None:
    del images[k]


def double(images: list[Dataset], k: int) -> None:
    images.append(Stack(values(7)).datasets()[0])
    for keyword in ("SeriesInstanceUID", "FrameOfReferenceUID", "ImagePositionPatient", "Rows", "Columns"):
        setattr(images[-1], keyword, getattr(images[k], keyword))
    images[-1].ImageOrientationPatient, images[-1].PixelSpacing = (
        images[k].ImageOrientationPatient,
        images[k].PixelSpacing,
    )
    put_values(images[-1], np.zeros((images[k].Rows, images[k].Columns), np.uint16))


def tilt(images: list[Dataset], k: int, angle: float = 0.1) -> None:
    row, column = np.reshape([float(v) for v in images[k].ImageOrientationPatient], (2, 3))
    column = np.cos(angle) * column + np.sin(angle) * np.cross(row, column)
    images[k].ImageOrientationPatient = decimals([*row, *column])


def move(images: list[Dataset], rng: np.random.Generator, k: int, along: float, down: float = 0.0) -> None:
    """Move a slice, by a part of the slice spacing along the normal."""
    first, second = (np.array(ds.ImagePositionPatient, dtype=float) for ds in images[:2])
    column = np.array(images[0].ImageOrientationPatient[3:], dtype=float)
    position = np.array(images[k].ImagePositionPatient, dtype=float)
    images[k].ImagePositionPatient = decimals(position + along * (second - first) + down * column)


def shear(images: list[Dataset], angle: float) -> None:
    first, second = (np.array(ds.ImagePositionPatient, dtype=float) for ds in images[:2])
    column = np.array(images[0].ImageOrientationPatient[3:], dtype=float)
    for k, ds in enumerate(images):
        offset = k * np.tan(angle) * np.linalg.norm(second - first) * column
        ds.ImagePositionPatient = decimals(np.array(ds.ImagePositionPatient, dtype=float) + offset)


def resize(ds: Dataset) -> None:
    ds.Rows += 2
    put_values(ds, np.zeros((ds.Rows, ds.Columns), np.uint16))


def turn(images: list[Dataset]) -> None:
    for ds in images[: len(images) // 2]:
        orientation = list(ds.ImageOrientationPatient)
        ds.ImageOrientationPatient = orientation[3:] + orientation[:3]


def again(images: list[Dataset]) -> None:
    for ds in list(images):
        other = pydicom.Dataset(ds)
        other.file_meta, other.SOPInstanceUID = ds.file_meta, generate_uid()
        images.append(other)


FAULTS: dict[str, tuple[str, Callable[[list[Dataset], np.random.Generator, int], object]]] = {
    "missing slice": ("a slice is missing", lambda images, rng, k: delete(images, k)),
    "doubled slice": ("a slice is doubled", lambda images, rng, k: double(images, k)),
    "tilted slice": (
        "a slice is tilted",
        lambda images, rng, k: tilt(images, k, rng.choice([-1, 1]) * rng.uniform(0.01, 0.5)),
    ),
    "gantry tilt": (
        "gantry tilt",
        lambda images, rng, k: shear(images, np.radians(rng.choice([-1, 1]) * rng.uniform(8, 25))),
    ),
    "uneven spacing": (
        "unevenly spaced",
        lambda images, rng, k: move(images, rng, k, rng.choice([-1, 1]) * rng.uniform(0.05, 0.4)),
    ),
    "shifted slice": (
        "shifted in its plane",
        lambda images, rng, k: move(images, rng, k, 0, rng.choice([-1, 1]) * rng.uniform(0.3, 20)),
    ),
    "mixed pixel spacing": (
        "mixes pixel spacings",
        lambda images, rng, k: setattr(images[k], "PixelSpacing", decimals(rng.uniform(2.1, 3, 2))),
    ),
    "mixed matrix": ("mixes matrix sizes", lambda images, rng, k: resize(images[k])),
    "no orientation": ("no orientation", lambda images, rng, k: delattr(images[k], "ImageOrientationPatient")),
    "no position": ("no position", lambda images, rng, k: delattr(images[k], "ImagePositionPatient")),
    "mixed orientations": ("mixes slice orientations", lambda images, rng, k: turn(images)),
    "localizer": (
        "localizers among the slices",
        lambda images, rng, k: setattr(images[k], "ImageType", ["ORIGINAL", "PRIMARY", "LOCALIZER"]),
    ),
    "several images at one position": ("several images at one position", lambda images, rng, k: again(images)),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_30_random_series_of_each_fault_are_refused_by_name_and_file(tmp_path: Path, fault: str) -> None:
    message, spoil = FAULTS[fault]
    for n in range(30):
        rng = np.random.default_rng([n, list(FAULTS).index(fault)])
        stack = random_stack(rng, int(rng.integers(4, 7)))
        k = int(rng.integers(1, len(stack.values) - 1))  # without a slice at an end, there is nothing to see
        paths = stack.save(tmp_path / str(n), edit=lambda images, rng=rng, k=k: spoil(images, rng, k))
        with pytest.raises(InputError, match=message) as caught:
            load_series(tmp_path / str(n))
        named = re.findall(r"IM\d{4}\.dcm", str(caught.value))
        assert named and set(named) <= {path.name for path in paths}
        if fault in ("tilted slice", "shifted slice", "mixed matrix", "no position", "localizer"):
            assert f"IM{k:04d}.dcm" in named
        shutil.rmtree(tmp_path / str(n))


@pytest.mark.parametrize("fault", ["missing slice", "tilted slice", "gantry tilt", "no position", "several"])
def test_frames_of_an_enhanced_image_are_checked_alike(tmp_path: Path, fault: str) -> None:
    stack = Stack(values())
    ds = stack.enhanced([0, 1, 3, 4, 5] if fault == "missing slice" else None, shared=False)
    message = "a slice is missing"
    if fault == "tilted slice":
        plane = ds.PerFrameFunctionalGroupsSequence[2].PlaneOrientationSequence
        tilt(plane, 0)
        message = "(?s)a slice is tilted.*frame 3 of e.dcm"
    elif fault == "gantry tilt":
        classic = stack.datasets()
        shear(classic, 0.2)
        for group, image in zip(ds.PerFrameFunctionalGroupsSequence, classic, strict=True):
            group.PlanePositionSequence[0].ImagePositionPatient = image.ImagePositionPatient
        message = "gantry tilt"
    elif fault == "no position":
        del ds.PerFrameFunctionalGroupsSequence[2].PlanePositionSequence
        message = "(?s)no position.*frame 3 of e.dcm"
    elif fault == "several":
        for frame, group in zip(range(6), ds.PerFrameFunctionalGroupsSequence, strict=True):
            group.PlanePositionSequence[0].ImagePositionPatient = decimals(stack.position(frame // 2))
        message = "(?s)several images at one position.*2 at one position, 6 at 3 positions"
    with pytest.raises(InputError, match=message):
        load_series(save(ds, tmp_path / "e.dcm"))


def test_multi_frame_images_that_are_no_one_volume_are_refused(tmp_path: Path) -> None:
    stack = Stack(values())
    ds = stack.enhanced()
    ds.PerFrameFunctionalGroupsSequence[4].FrameContentSequence[0].StackID = "2"
    with pytest.raises(InputError, match=r"(?s)several stacks.*e.dcm.*2 stacks"):
        load_series(save(ds, tmp_path / "e.dcm"))
    ds = stack.enhanced()
    del ds.PerFrameFunctionalGroupsSequence
    with pytest.raises(InputError, match=r"(?s)have no position.*PerFrameFunctionalGroupsSequence"):
        load_series(save(ds, tmp_path / "e.dcm"))
    ds = stack.enhanced()
    ds.NumberOfFrames = 5
    with pytest.raises(InputError, match="does not describe each of its frames"):
        load_series(save(ds, tmp_path / "e.dcm"))
    for name in "ab":
        save(stack.enhanced(), tmp_path / "two" / name)
    with pytest.raises(InputError, match=r"(?s)a multi-frame image and others.*a, b"):
        load_series(tmp_path / "two")


def test_what_is_allowed_by_name_is_read_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    stack = Stack(values())
    stack.save(tmp_path / "missing", edit=lambda images: delete(images, 2))
    series = load_series(tmp_path / "missing", allow=["missing_slice"])
    expected = stack.values.T.astype(np.float32)
    expected[..., 2] = (expected[..., 1] + expected[..., 3]) / 2
    np.testing.assert_allclose(series.array, expected)
    np.testing.assert_allclose(series.affine, stack.affine)
    assert len(series.datasets) == 5 and "interpolated" in caplog.text

    stack.save(tmp_path / "doubled", edit=lambda images: double(images, 0))
    with pytest.raises(InputError, match="a slice is doubled"):
        load_series(tmp_path / "doubled")

    stack.save(tmp_path / "tilt", edit=lambda images: shear(images, 0.3))
    series = load_series(tmp_path / "tilt", allow=["gantry_tilt"])
    np.testing.assert_allclose(series.affine[:3, 2], [0, -2.5 * np.tan(0.3), 2.5], atol=1e-8)

    def scout(images: list[Dataset]) -> None:
        images.append(Stack(values(1)).datasets()[0])
        images[-1].SeriesInstanceUID = images[0].SeriesInstanceUID
        images[-1].ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]

    stack.save(tmp_path / "scout", edit=scout)
    check_stack(load_series(tmp_path / "scout", allow=["localizer"]), stack)
    assert "IM0006.dcm" in caplog.text


def test_two_missing_slices_are_interpolated_in_steps(tmp_path: Path) -> None:
    stack = Stack(values(shape=(12, 3, 4)))
    stack.save(tmp_path, edit=lambda images: images.__delitem__(slice(4, 6)))
    array = load_series(tmp_path, allow=["missing_slice"]).array
    before, after = stack.values[3].T.astype(float), stack.values[6].T.astype(float)
    np.testing.assert_allclose(array[..., 4], before + (after - before) / 3, rtol=1e-6)
    np.testing.assert_allclose(array[..., 5], before + (after - before) * 2 / 3, rtol=1e-6)


# -- folders of several things -----------------------------------------------------------------------------------


def study(folder: Path) -> tuple[Stack, Stack]:
    """Two series, and a localizer as a series of its own."""
    first, second = Stack(values(0)), Stack(values(1, (4, 3, 7)), modality="CT", tags={"SeriesNumber": 12})
    first.save(folder / "a")
    second.save(folder / "b")
    localizer = {"SeriesNumber": 1, "ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}
    Stack(values(2, (3, 8, 8)), tags=localizer).save(folder / "scout")
    return first, second


def test_a_study_needs_the_name_of_a_series(tmp_path: Path) -> None:
    first, second = study(tmp_path)
    listed = r"(?s)several series.*number 12: CT, 4 images of 7 x 3; number 3: MR, 6 images of 4 x 5"
    with pytest.raises(InputError, match=listed):
        load_series(tmp_path)
    check_stack(load_series(tmp_path, 12), second)
    check_stack(load_series(tmp_path, "3"), first)
    check_stack(load_series(tmp_path, second.uid), second)
    for name in (4, "1.2.3.4"):
        with pytest.raises(
            InputError, match=r"(?s)no series has.*number 1: MR, 3 images of 8 x 8, localizer;"
        ):
            load_series(tmp_path, name)


def test_a_localizer_series_is_meant_only_by_its_name(tmp_path: Path) -> None:
    study(tmp_path)
    shutil.rmtree(tmp_path / "b")
    assert load_series(tmp_path).array.shape == (4, 5, 6)
    assert load_series(tmp_path, 1).array.shape == (8, 8, 3)
    with pytest.raises(InputError, match="only localizers"):
        load_series(tmp_path / "scout")


def test_two_series_of_one_number_are_told_apart_by_their_uid(tmp_path: Path) -> None:
    first, second = Stack(values(0)), Stack(values(1))
    first.save(tmp_path / "a")
    second.save(tmp_path / "b")
    with pytest.raises(InputError, match="several series have the number 3"):
        load_series(tmp_path, 3)
    check_stack(load_series(tmp_path, second.uid), second)


def test_other_objects_and_files_are_passed_over(tmp_path: Path) -> None:
    stack = Stack(values())
    stack.save(tmp_path)
    for n, kind in enumerate((
        ComprehensiveSRStorage, KeyObjectSelectionDocumentStorage,
        GrayscaleSoftcopyPresentationStateStorage, SegmentationStorage,
    )):  # fmt: skip
        ds = stack.header()
        ds.SOPClassUID, ds.SeriesInstanceUID = kind, generate_uid()
        if kind != SegmentationStorage:
            del ds.Rows, ds.Columns
        save(ds, tmp_path / f"other{n}.dcm")
    (tmp_path / "DICOMDIR").write_bytes(bytes(200))
    (tmp_path / ".DS_Store").write_bytes(bytes(200))
    (tmp_path / "__MACOSX").mkdir()
    (tmp_path / "__MACOSX" / "._IM0000.dcm").write_bytes(bytes(200))
    for name in ("notes.txt", "report.xml", "LICENSE"):
        (tmp_path / name).write_text("some text")
    (tmp_path / "picture.png").write_bytes(bytes(range(256)))
    check_stack(load_series(tmp_path), stack)


def test_what_should_be_dicom_and_is_not_is_refused(tmp_path: Path) -> None:
    Stack(values()).save(tmp_path)
    for name, content in (("x.dcm", b"text"), ("y.IMA", b""), ("IM7", bytes(500)), ("1.2.34", bytes(500))):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=rf"(?s)a file is not DICOM.*{re.escape(name)} in"):
            load_series(tmp_path)
        (tmp_path / name).unlink()
    (tmp_path / "x.nii").write_bytes(bytes(500))
    with pytest.raises(InputError, match="the file is not DICOM"):
        load_series(tmp_path / "x.nii")
    with pytest.raises(InputError, match="does not exist"):
        load_series(tmp_path / "gone")
    (tmp_path / "empty" / "below").mkdir(parents=True)
    with pytest.raises(InputError, match="no DICOM image found"):
        load_series(tmp_path / "empty")


# -- hostile and damaged files -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keyword", "value", "message"),
    [
        ("PhotometricInterpretation", "MONOCHROME1", "inverted"),
        ("PhotometricInterpretation", "RGB", "in colour"),
        ("PhotometricInterpretation", "PALETTE COLOR", "in colour"),
        ("SamplesPerPixel", 3, "in colour"),
        ("ModalityLUTSequence", [Dataset()], "lookup table"),
        ("BitsAllocated", 1, "whole numbers"),
        ("HighBit", 7, "whole numbers"),
        ("BitsStored", None, "whole numbers"),
        ("PixelRepresentation", None, "cannot be decoded"),
        ("PixelData", None, "has no PixelData"),
        ("PixelData", bytes(38), "(?s)too short.*40 bytes.*38"),
        ("PixelData", bytes(48), "(?s)too long.*40 bytes.*48"),
        ("Rows", None, "has no Rows"),
        ("Rows", 0, "has no Rows"),
        ("PixelSpacing", None, "no pixel spacing"),
        ("RescaleSlope", "0", "RescaleSlope 0"),
        ("ImageType", ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"], "mosaic"),
    ],
)
def test_an_image_that_cannot_be_read_right_is_named(
    tmp_path: Path, keyword: str, value: object, message: str
) -> None:
    def edit(images: list[Dataset]) -> None:
        if value is None:
            delattr(images[2], keyword)
        else:
            setattr(images[2], keyword, value)

    Stack(values()).save(tmp_path, edit=edit)
    with pytest.raises(InputError, match=message) as caught:
        load_series(tmp_path)
    assert "IM0002.dcm in" in str(caught.value)


@pytest.mark.parametrize("text", [b"1\\2", b"1\\2\\nan", b"1\\2\\1e300", b"1\\2\\x"])
def test_numbers_that_are_none_are_refused_without_their_text(tmp_path: Path, text: bytes) -> None:
    paths = Stack(values()).save(tmp_path)
    data = paths[2].read_bytes()
    start = data.index(b"\x20\x00\x32\x00DS") + 6
    (length,) = struct.unpack("<H", data[start : start + 2])
    paths[2].write_bytes(data[: start + 2] + text.ljust(length) + data[start + 2 + length :])
    with pytest.raises(InputError, match=r"(?s)damaged: ImagePositionPatient.*IM0002.dcm"):
        load_series(tmp_path)


@pytest.mark.parametrize("part", [0.999, 0.9, 0.5, 0.25, 0.15, 0.1])
def test_a_truncated_file_is_refused(tmp_path: Path, part: float) -> None:
    paths = Stack(values(shape=(4, 24, 24))).save(tmp_path)
    data = paths[1].read_bytes()
    paths[1].write_bytes(data[: int(part * len(data))])
    with pytest.raises(InputError, match=r"IM0001\.dcm"):
        load_series(tmp_path)


def test_bytes_turned_over_anywhere_end_in_a_volume_or_the_typed_error(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    stack = Stack(values(shape=(3, 3, 4)))
    paths = [*stack.save(tmp_path / "c"), save(stack.enhanced(), tmp_path / "e" / "e.dcm")]
    whole = {path: path.read_bytes() for path in paths}
    for n in range(100):
        path = paths[n % len(paths)]
        data = bytearray(whole[path])
        for place in rng.integers(128, len(data), rng.integers(1, 4)):
            data[place] = rng.integers(256)
        path.write_bytes(data)
        with suppress(InputError):
            assert np.isfinite(load_series(path.parent).affine).all()
        path.write_bytes(whole[path])


def test_deflated_files_are_refused_unread(tmp_path: Path) -> None:
    paths = Stack(values()).save(tmp_path)
    ds = pydicom.dcmread(paths[1])
    ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    save(ds, paths[1])
    with pytest.raises(InputError, match=r"(?s)Deflated.*IM0001\.dcm.*dcmconv"):
        load_series(tmp_path)
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.add_new(0x00083002, "UI", DeflatedExplicitVRLittleEndian)  # only said to be available
    save(ds, paths[1])
    assert load_series(tmp_path).array.shape == (4, 5, 6)


def test_a_compression_that_cannot_be_decoded_names_the_remedy(tmp_path: Path) -> None:
    ds = Stack(values()).datasets()[0]
    ds.compress(RLELossless, generate_instance_uid=False)
    for syntax, message in ((JPEGLosslessSV1, "JPEG Lossless"), ("1.2.3.4", "unknown transfer syntax")):
        ds.file_meta.TransferSyntaxUID = syntax
        ds.save_as(tmp_path / "x.dcm", enforce_file_format=True, implicit_vr=False, little_endian=True)
        with pytest.raises(
            InputError, match=rf"(?s)cannot be decoded here.*{message}.*pip install pylibjpeg"
        ):
            load_series(tmp_path / "x.dcm")


def test_a_file_whose_class_and_header_are_damaged_is_not_passed_over(tmp_path: Path) -> None:
    """At an end of the series nobody would miss its slice."""
    path = Stack(values()).save(tmp_path)[0]
    data = path.read_bytes()
    at = data.index(b"1.2.840.10008.5.1.4.1.1.4", 300)  # behind the meta information
    path.write_bytes(data[: at + 1] + b"/" + data[at + 2 : at + 40])
    with pytest.raises(InputError, match="does not say what it is|damaged"):
        load_series(tmp_path)


def packed(folder: Path, path: Path, prefix: str = "") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, prefix + file.relative_to(folder).as_posix())
    return path


@pytest.mark.parametrize("prefix", ["", "study/series/"])
def test_a_zip_is_read_like_its_folder_and_leaves_nothing_behind(tmp_path: Path, prefix: str) -> None:
    stack = Stack(values())
    stack.save(tmp_path / "in")
    path = packed(tmp_path / "in", tmp_path / "in.ZIP", prefix)
    before = set(tmp_path.rglob("*"))
    check_stack(load_series(path), stack)
    assert set(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "name", ["../evil.dcm", "/evil.dcm", "a/../../evil.dcm", "..\\evil.dcm", "C:\\evil.dcm"]
)
def test_a_zip_that_climbs_out_is_refused(tmp_path: Path, name: str) -> None:
    paths = Stack(values()).save(tmp_path / "in")
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        archive.write(paths[0], "ok.dcm")
        archive.writestr(zipfile.ZipInfo(name), paths[1].read_bytes())
    with pytest.raises(InputError, match="outside of its folder"):
        load_series(tmp_path / "in.zip")


def test_hostile_and_damaged_zips_are_refused(tmp_path: Path) -> None:
    Stack(values()).save(tmp_path / "in")
    path = packed(tmp_path / "in", tmp_path / "in.zip")
    whole = path.read_bytes()
    locked = bytearray(whole)
    locked[whole.index(b"PK\x01\x02") + 8] |= 1  # the flag of the first entry in the directory
    path.write_bytes(locked)
    with pytest.raises(InputError, match="the zip is encrypted"):
        load_series(path)
    path.write_bytes(whole[:-40])
    with pytest.raises(InputError, match="the zip is damaged"):
        load_series(path)
    flipped = bytearray(whole)
    flipped[whole.index(b"IM0000.dcm") + 60] ^= 0xFF
    path.write_bytes(flipped)
    with pytest.raises(InputError, match=r"(?s)cannot be read.*IM0000\.dcm"):
        load_series(path)


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "ZIP_FLOOR", 2**20)
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.dcm", bytes(5 * 2**20))
    with pytest.raises(InputError, match=r"(?s)far more than its size.*1 MiB.*5 MiB"):
        load_series(path)


def test_all_that_can_be_allowed_changes_nothing_in_a_sound_series(tmp_path: Path) -> None:
    stack = Stack(values(), oblique_axes(np.random.default_rng(8)))
    stack.save(tmp_path)
    check_stack(load_series(tmp_path, allow=ALLOWABLE), stack)
