from __future__ import annotations

import logging
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from dicom_files import Stack, oblique_axes, orthogonal_axes, save
from dicom_places import dciodvfy, moved, needs_dciodvfy

from mdl_monai.errors import InputError
from mdl_monai.io.dicom.derived import write_series
from mdl_monai.io.dicom.objects import quiet_pydicom
from mdl_monai.io.dicom.provenance import Software
from mdl_monai.io.dicom.series import DicomSeries, load_series

SOFTWARE = Software("some_bundle", "1.2.3")
UNDERSAMPLED = "Retrospectively undersampled 4-fold, radial mask"
KEPT = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
)
KEPT += ("AccessionNumber", "StudyDescription", "StudyID", "ReferringPhysicianName", "FrameOfReferenceUID")


def stack(axes: np.ndarray | None = None, n_slices: int = 5, **tags: Any) -> Stack:
    values = np.zeros((n_slices, 4, 7), np.uint16)
    return Stack(values, np.eye(3) if axes is None else axes, tags=tags)


def image_of(source: Stack, low: int = -1024, high: int = 3000) -> np.ndarray:
    """[columns, rows, slices], whole numbers."""
    return np.random.default_rng(0).integers(low, high, source.values.shape[::-1]).astype(np.float32)


def loaded(folder: Path, source: Stack) -> DicomSeries:
    source.save(folder, order=np.random.default_rng(1).permutation(len(source.values)))
    return load_series(folder, pixels=False)


def write(
    array: np.ndarray, source: DicomSeries, folder: Path, kind: str, **changes: Any
) -> list[pydicom.Dataset]:
    arguments = {"affine": source.affine, "software": SOFTWARE, "derivation": UNDERSAMPLED} | changes
    write_series(array, source=source, folder=folder, kind=kind, **arguments)
    return [pydicom.dcmread(file) for file in sorted(folder.iterdir())]


def by_itk(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Values and RAS affine as ITK's reader of DICOM series gives them."""
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    image = reader.Execute()
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return sitk.GetArrayFromImage(image).T, np.diag([-1, -1, 1, 1]) @ affine


@pytest.mark.parametrize("oblique", [False, True])
def test_values_keep_their_place_in_the_world_in_all_48_axis_orders(tmp_path: Path, oblique: bool) -> None:
    rng = np.random.default_rng(2)
    for n, axes in enumerate(orthogonal_axes()):
        made = stack(oblique_axes(rng) @ axes if oblique else axes, n_slices=3)
        array, source = image_of(made), loaded(tmp_path / f"in{n}", made)
        canonical = nib.as_closest_canonical(nib.Nifti1Image(array, made.affine))
        folder = tmp_path / f"{n}"
        write_series(canonical.get_fdata(), canonical.affine, source, folder, ("ct", "mr")[n % 2], SOFTWARE)
        back = load_series(folder)
        assert back.array is not None
        for values, affine in ((back.array, back.affine), by_itk(folder)):
            np.testing.assert_array_equal(moved(values, affine, array.shape, made.affine), array)


def test_a_synthetic_ct_is_a_ct_in_hounsfield_units_and_says_what_it_is(tmp_path: Path) -> None:
    made = stack()
    array = image_of(made)
    array[0, 0, 0], array[1, 0, 0], array[2, 0, 0] = -33792, 31743, 99.6  # what 16 bits hold, and a fraction
    for n, ds in enumerate(write(array, loaded(tmp_path / "in", made), tmp_path / "ct", "ct")):
        assert (ds.Modality, ds.SOPClassUID) == ("CT", pydicom.uid.CTImageStorage)
        assert (ds.RescaleSlope, ds.RescaleIntercept, ds.RescaleType) == (1, -1024, "HU")
        assert (ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation) == (16, 16, 15, 1)
        assert ds.ImageType == ["DERIVED", "SECONDARY", "AXIAL", "SYNTHETIC"]
        assert "ynthetic CT" in ds.SeriesDescription and "ynthetic CT" in ds.DerivationDescription
        assert "some_bundle 1.2.3" in ds.DerivationDescription
        np.testing.assert_array_equal(ds.pixel_array.T.astype(float) - 1024, np.rint(array[:, :, n]))


@pytest.mark.parametrize(
    ("scale", "offset"),
    [(1.0, 0.0), (3e-7, 0.0), (0.4, -200.0), (1e12, 0.0), (1e-3, 5e4), (0.0, 0.0), (0.0, 7.3), (0.0, -7.3)],
)
def test_a_reconstruction_is_stored_to_half_a_step(tmp_path: Path, scale: float, offset: float) -> None:
    made = stack()
    array = np.random.default_rng(0).random(made.values.shape[::-1]).astype(np.float32) * scale + offset
    images = write(array, loaded(tmp_path / "in", made), tmp_path / "mr", "mr")
    step = float(images[0].RescaleSlope)
    assert step <= max(np.ptp(array), abs(offset) + scale) / 65535 * (1 + 1e-6) or step == 1
    back = load_series(tmp_path / "mr").array
    assert back is not None
    stored = np.stack([ds.pixel_array.T for ds in images], axis=-1) * step + float(images[0].RescaleIntercept)
    assert np.abs(stored - array).max() <= step * (0.5 + 1e-6)
    np.testing.assert_allclose(back, stored, rtol=1e-6, atol=step * 1e-3)


@pytest.mark.parametrize("low", [0, -300])
def test_whole_numbers_are_stored_as_they_are(tmp_path: Path, low: int) -> None:
    made = stack()
    array = image_of(made, low, 60000)
    images = write(array, loaded(tmp_path / "in", made), tmp_path / "mr", "mr")
    assert images[0].RescaleSlope == 1 and images[0].RescaleIntercept == min(array.min(), 0)
    np.testing.assert_array_equal(load_series(tmp_path / "mr").array, array)


def test_a_reconstruction_is_a_derived_mr_image_with_its_sources_sequence(tmp_path: Path) -> None:
    made = stack(ScanningSequence="GR", SequenceVariant=["SP", "MP"], EchoTime="2.9", RepetitionTime="2300")
    for ds in write(image_of(made), loaded(tmp_path / "in", made), tmp_path / "mr", "mr"):
        assert (ds.Modality, ds.SOPClassUID) == ("MR", pydicom.uid.MRImageStorage)
        assert ds.ImageType[:2] == ["DERIVED", "SECONDARY"]
        assert UNDERSAMPLED in ds.DerivationDescription
        assert (ds.ScanningSequence, ds.SequenceVariant) == ("GR", ["SP", "MP"])
        assert (ds.EchoTime, ds.RepetitionTime) == (2.9, 2300)


def test_patient_study_and_frame_of_reference_are_the_sources_and_the_rest_is_new(tmp_path: Path) -> None:
    made = stack(InstitutionName="Hospital", StationName="Station", OperatorsName="Operator^One")
    made.tags |= {
        "PatientName": "Änne^Größe",
        "SpecificCharacterSet": "ISO_IR 100",
        "StudyDescription": "Kopf",
    }
    made.tags |= {"SeriesDate": "20200102", "AcquisitionDate": "20200102", "ContentDate": "20200102"}
    source = loaded(tmp_path / "in", made)
    before = f"{datetime.now():%Y%m%d}"
    images = write(image_of(made), source, tmp_path / "ct", "ct")
    after = f"{datetime.now():%Y%m%d}"
    for ds in images:
        for keyword in KEPT:
            assert ds[keyword].value == source.datasets[0][keyword].value, keyword
        assert str(ds.PatientName) == "Änne^Größe"
        assert {ds.SeriesDate, ds.ContentDate, ds.InstanceCreationDate} <= {before, after}
        assert ds.Manufacturer == "mdl_monai" and ds.ManufacturerModelName == SOFTWARE.name
        assert not {"InstitutionName", "StationName", "OperatorsName", "AcquisitionDate"} & set(ds.dir())
    assert len({ds.SeriesInstanceUID for ds in images}) == 1 and images[0].SeriesInstanceUID != made.uid
    assert len({ds.SOPInstanceUID for ds in (*images, *source.datasets)}) == 10
    assert {ds.SeriesNumber for ds in images} != {source.datasets[0].SeriesNumber}


def test_each_slice_refers_to_its_source_and_they_are_numbered_along_the_normal(tmp_path: Path) -> None:
    made = stack(oblique_axes(np.random.default_rng(3)))
    source = loaded(tmp_path / "in", made)
    positions = {ds.SOPInstanceUID: np.array(ds.ImagePositionPatient, float) for ds in source.datasets}
    heights = []
    for number, ds in enumerate(write(image_of(made), source, tmp_path / "mr", "mr"), 1):
        place = np.array(ds.ImagePositionPatient, float)
        for reference in (
            ds.SourceImageSequence[0],
            ds.ReferencedSeriesSequence[0].ReferencedInstanceSequence[0],
        ):
            np.testing.assert_allclose(positions[reference.ReferencedSOPInstanceUID], place, atol=1e-6)
        assert ds.ReferencedSeriesSequence[0].SeriesInstanceUID == made.uid
        assert ds.InstanceNumber == number
        assert (ds.SliceThickness, ds.SpacingBetweenSlices) == pytest.approx((1.23, made.spacing[2]))
        heights.append(place @ made.axes[:, 2])
    np.testing.assert_allclose(np.diff(heights), made.spacing[2], atol=1e-6)


@pytest.mark.parametrize("kind", ["ct", "mr"])
def test_a_multi_frame_source_becomes_single_slices(tmp_path: Path, kind: str) -> None:
    made = stack(oblique_axes(np.random.default_rng(5)))
    order = [3, 0, 4, 2, 1]
    save(made.enhanced(order), tmp_path / "in.dcm")
    array = image_of(made)
    images = write(array, load_series(tmp_path / "in.dcm", pixels=False), tmp_path / "out", kind)
    for ds in images:
        frame = ds.SourceImageSequence[0].ReferencedFrameNumber
        np.testing.assert_allclose(made.position(order[frame - 1]), ds.ImagePositionPatient, atol=1e-6)
    back = load_series(tmp_path / "out")
    assert back.array is not None
    np.testing.assert_array_equal(moved(back.array, back.affine, array.shape, made.affine), array)


def test_a_slice_of_its_own_is_written(tmp_path: Path) -> None:
    made = stack(n_slices=1)
    (file,) = made.save(tmp_path / "in")
    array = image_of(made)
    (ds,) = write(array[..., 0], load_series(file, pixels=False), tmp_path / "ct", "ct")
    np.testing.assert_array_equal(ds.pixel_array.T.astype(float) - 1024, array[..., 0])
    np.testing.assert_allclose(ds.ImagePositionPatient, made.origin)


def test_an_interpolated_slice_says_so(tmp_path: Path) -> None:
    made = stack(n_slices=6)
    made.save(tmp_path / "in", edit=lambda images: images.pop(2))
    source = load_series(tmp_path / "in", allow=["missing_slice"], pixels=False)
    images = write(image_of(made), source, tmp_path / "mr", "mr")
    assert ["interpolated" in ds.DerivationDescription for ds in images] == [n == 2 for n in range(6)]
    assert ["SourceImageSequence" in ds for ds in images] == [n != 2 for n in range(6)]
    np.testing.assert_array_equal(load_series(tmp_path / "mr").array, image_of(made))


@pytest.mark.parametrize(
    ("kind", "change", "match"),
    [
        ("ct", lambda array: array * 20, "not in HU"),
        ("ct", lambda array: np.where(array > 0, array, np.nan), "NaN"),
        ("mr", lambda array: np.where(array > 0, array, np.inf), "infinite"),
        ("mr", lambda array: array[:, 1:], "does not lie on the grid"),
    ],
)
def test_what_cannot_be_written_is_refused_and_nothing_is(
    tmp_path: Path, kind: str, change: Any, match: str
) -> None:
    made = stack()
    source = loaded(tmp_path / "in", made)
    with pytest.raises(InputError, match=match):
        write(change(image_of(made)), source, tmp_path / "out" / "a", kind)
    assert not (tmp_path / "out").exists()


def test_a_reconstruction_of_a_ct_is_refused(tmp_path: Path) -> None:
    made = stack()
    made.modality = "CT"
    with pytest.raises(InputError, match="the MR image to write"):
        write(image_of(made), loaded(tmp_path / "in", made), tmp_path / "mr", "mr")


def test_a_series_is_replaced_whole_and_nothing_else_is(tmp_path: Path) -> None:
    long, short = stack(n_slices=6), stack(n_slices=3)
    first, second = loaded(tmp_path / "long", long), loaded(tmp_path / "short", short)
    target = tmp_path / "out" / "case"
    write(image_of(long), first, target, "ct")
    images = write(image_of(short), second, target, "ct")
    assert len({ds.SeriesInstanceUID for ds in images}) == 1 and len(images) == 3
    assert [f.name for f in target.parent.iterdir()] == ["case"]
    own = load_series(target, pixels=False)  # what was written here is now a source
    (tmp_path / "mixed").mkdir()
    (tmp_path / "mixed" / "0001.dcm").write_bytes((target / "0001.dcm").read_bytes())
    (tmp_path / "mixed" / "notes.txt").write_text("mine")
    for source, array, folder in (
        (first, image_of(long), tmp_path / "short"),
        (first, image_of(long), tmp_path / "mixed"),
        (first, image_of(long), tmp_path / "mixed" / "notes.txt"),
        (own, image_of(short), target),
    ):
        before = {f: f.read_bytes() for f in tmp_path.rglob("*") if f.is_file()}
        with pytest.raises(InputError, match="something else"):
            write(array, source, folder, "ct")
        assert before == {f: f.read_bytes() for f in tmp_path.rglob("*") if f.is_file()}


def test_a_failure_in_mid_series_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = stack()
    source = loaded(tmp_path / "in", made)
    write(image_of(made), source, tmp_path / "out" / "a", "ct")
    before = {f.name: f.read_bytes() for f in (tmp_path / "out" / "a").iterdir()}
    whole = pydicom.Dataset.save_as

    def fails(ds: pydicom.Dataset, path: Path, **options: Any) -> None:
        if ds.InstanceNumber == 4:
            raise OSError("disk full")
        whole(ds, path, **options)

    monkeypatch.setattr(pydicom.Dataset, "save_as", fails)
    for name in ("a", "b"):
        with pytest.raises(OSError, match="disk full"):
            write(image_of(made), source, tmp_path / "out" / name, "ct")
    assert [f.name for f in (tmp_path / "out").iterdir()] == ["a"]
    assert {f.name: f.read_bytes() for f in (tmp_path / "out" / "a").iterdir()} == before


@pytest.mark.filterwarnings("error")
def test_nothing_of_a_careless_header_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    values = {"PatientName": "SECRETNAME", "PatientBirthDate": "SECRETBD", "PatientID": "SECRETID" * 20}
    values |= {
        "StudyDate": "SECRETDATE",
        "EchoTime": "1",
        "ScanningSequence": "SECRETSEQUENCE",
        "PatientSex": "SECRET",
    }
    made = stack(**values)
    with quiet_pydicom():
        made.save(tmp_path / "in")
    caplog.set_level(logging.DEBUG)
    source = load_series(tmp_path / "in", pixels=False)
    write_series(image_of(made), source.affine, source, tmp_path / "mr", "mr", SOFTWARE)
    secrets = ["SECRET", made.uid, made.study, *(ds.SOPInstanceUID for ds in source.datasets)]
    assert not [secret for secret in secrets if secret in caplog.text]
    with quiet_pydicom():
        ds = pydicom.dcmread(tmp_path / "mr" / "0001.dcm")
        assert (str(ds.PatientName), ds.PatientID) == ("SECRETNAME", "SECRETID" * 20)


def test_highdicom_is_not_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = stack()
    source = loaded(tmp_path / "in", made)
    monkeypatch.setitem(sys.modules, "highdicom", None)
    assert len(write(image_of(made), source, tmp_path / "ct", "ct")) == 5


@needs_dciodvfy
@pytest.mark.parametrize("kind", ["ct", "mr"])
def test_dciodvfy_finds_no_error(tmp_path: Path, kind: str) -> None:
    made = stack(oblique_axes(np.random.default_rng(6)))
    bare = stack(PatientPosition="HFS", BodyPartExamined="BRAIN", n_slices=1)
    for n, source in enumerate((made, bare)):
        source.save(tmp_path / f"{n}")
        series = load_series(tmp_path / f"{n}", pixels=False)
        write(image_of(source), series, tmp_path / "out" / f"{n}", kind)
        for file in sorted((tmp_path / "out" / f"{n}").iterdir())[:2]:
            told = dciodvfy(file)
            assert f"{kind.upper()}Image" in told and "Error" not in told, told
