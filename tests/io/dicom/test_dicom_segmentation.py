from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
from dicom_files import Stack, oblique_axes, orthogonal_axes, save
from dicom_places import dciodvfy, moved, needs_dciodvfy, voxels_at

from mdl_monai.errors import InputError
from mdl_monai.io.dicom.objects import quiet_pydicom
from mdl_monai.io.dicom.provenance import Software
from mdl_monai.io.dicom.segmentation import write_segmentation
from mdl_monai.io.dicom.segments import Segment, segments_of
from mdl_monai.io.dicom.series import DicomSeries, load_series

highdicom = pytest.importorskip("highdicom")

SOFTWARE = Software("hippocampus_mri_segmentation", "1.2.3")
METADATA = {
    "name": SOFTWARE.name,
    "network_data_format": {
        "outputs": {"pred": {"channel_def": {"0": "background", "1": "anterior", "2": "posterior"}}}
    },
}
SEGMENTS = segments_of(METADATA)
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


def labels_of(source: Stack) -> np.ndarray:
    """[columns, rows, slices]; nothing in the second slice, if there are several."""
    labels = np.random.default_rng(0).integers(0, 3, source.values.shape[::-1])
    labels[:, :, 1:2] = 0
    return labels


def loaded(folder: Path, source: Stack, **options: Any) -> DicomSeries:
    source.save(folder, order=np.random.default_rng(1).permutation(len(source.values)))
    return load_series(folder, pixels=False, **options)


def write(labels: np.ndarray, source: DicomSeries, path: Path, **changes: Any) -> pydicom.Dataset:
    arguments = {"affine": source.affine, "segments": SEGMENTS, "software": SOFTWARE} | changes
    write_segmentation(labels, source=source, path=path, **arguments)
    return pydicom.dcmread(path)


def read(result: pydicom.Dataset, shape: tuple[int, ...], affine: np.ndarray) -> np.ndarray:
    """Segment numbers of an object on a grid, by the places that its frames' headers give."""
    shared = result.SharedFunctionalGroupsSequence[0]
    orientation = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float).reshape(2, 3)
    down, right = map(float, shared.PixelMeasuresSequence[0].PixelSpacing)
    frames = result.pixel_array.reshape(-1, result.Rows, result.Columns)
    labels = np.zeros(shape, int)
    rows, columns = np.indices(frames.shape[1:]).reshape(2, -1)
    for frame, group in zip(frames, result.PerFrameFunctionalGroupsSequence, strict=True):
        position = np.array(group.PlanePositionSequence[0].ImagePositionPatient, float)
        lps = position + np.outer(columns * right, orientation[0]) + np.outer(rows * down, orientation[1])
        number = (
            group if "SegmentIdentificationSequence" in group else shared
        ).SegmentIdentificationSequence[0]
        labels[voxels_at(lps * [-1, -1, 1], affine, shape)] += (
            frame[rows, columns] * number.ReferencedSegmentNumber
        )
    return labels


@pytest.mark.parametrize("oblique", [False, True])
def test_labels_keep_their_place_in_the_world_in_all_48_axis_orders(tmp_path: Path, oblique: bool) -> None:
    rng = np.random.default_rng(2)
    for n, axes in enumerate(orthogonal_axes()):
        made = stack(oblique_axes(rng) @ axes if oblique else axes, n_slices=3)
        labels, source = labels_of(made), loaded(tmp_path / f"{n}", made)
        canonical = nib.as_closest_canonical(nib.Nifti1Image(labels.astype(np.uint8), made.affine))
        result = write(np.asarray(canonical.dataobj), source, tmp_path / f"{n}.dcm", affine=canonical.affine)
        np.testing.assert_array_equal(read(result, labels.shape, made.affine), labels)
        if n % 8 == 0:
            volume = highdicom.seg.segread(tmp_path / f"{n}.dcm").get_volume(combine_segments=True)
            affine = np.diag([-1, -1, 1, 1]) @ volume.affine
            np.testing.assert_array_equal(moved(labels, made.affine, volume.shape, affine), volume.array)


def test_each_frame_refers_to_the_slice_where_it_lies(tmp_path: Path) -> None:
    made = stack(oblique_axes(np.random.default_rng(3)))
    source = loaded(tmp_path / "in", made)
    result = write(labels_of(made), source, tmp_path / "out.dcm")
    positions = {ds.SOPInstanceUID: np.array(ds.ImagePositionPatient, float) for ds in source.datasets}
    assert len(result.PerFrameFunctionalGroupsSequence) == 8  # 2 labels in 4 of the 5 slices
    for group in result.PerFrameFunctionalGroupsSequence:
        reference = group.DerivationImageSequence[0].SourceImageSequence[0]
        place = np.array(group.PlanePositionSequence[0].ImagePositionPatient, float)
        np.testing.assert_allclose(positions[reference.ReferencedSOPInstanceUID], place, atol=1e-6)
    series = result.ReferencedSeriesSequence[0]
    assert series.SeriesInstanceUID == made.uid
    measures = result.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert (measures.SliceThickness, measures.SpacingBetweenSlices) == pytest.approx((1.23, made.spacing[2]))
    assert {item.ReferencedSOPInstanceUID for item in series.ReferencedInstanceSequence} == set(positions)


def test_patient_study_and_frame_of_reference_are_the_sources_and_the_rest_is_new(tmp_path: Path) -> None:
    made = stack(InstitutionName="Hospital", StationName="Station", OperatorsName="Operator^One")
    made.tags |= {
        "PatientName": "Änne^Größe",
        "SpecificCharacterSet": "ISO_IR 100",
        "StudyDescription": "Kopf",
    }
    source = loaded(tmp_path / "in", made)
    first, second = (write(labels_of(made), source, tmp_path / f"{n}.dcm") for n in "ab")
    for keyword in KEPT:
        assert first[keyword].value == source.datasets[0][keyword].value, keyword
    assert str(first.PatientName) == "Änne^Größe"
    uids = [ds[k].value for ds in (first, second) for k in ("SOPInstanceUID", "SeriesInstanceUID")]
    assert len({*uids, made.uid, *(ds.SOPInstanceUID for ds in source.datasets)}) == 4 + 1 + 5
    assert first.SeriesNumber != source.datasets[0].SeriesNumber
    assert first.Manufacturer == "mdl_monai" and first.ManufacturerModelName == SOFTWARE.name
    assert SOFTWARE.version in first.SoftwareVersions
    assert not {"InstitutionName", "StationName", "OperatorsName"} & set(first.dir())


def test_structures_have_names_codes_and_an_algorithm(tmp_path: Path) -> None:
    made = stack()
    result = write(labels_of(made), loaded(tmp_path / "in", made), tmp_path / "out.dcm")
    anterior, posterior = result.SegmentSequence
    assert (anterior.SegmentLabel, posterior.SegmentLabel) == ("anterior", "posterior")
    kind = anterior.SegmentedPropertyTypeCodeSequence[0]
    assert (kind.CodeValue, kind.CodingSchemeDesignator) == ("5366008", "SCT")  # hippocampal structure
    assert kind.SegmentedPropertyTypeModifierCodeSequence[0].CodeValue == "255549009"
    assert anterior.SegmentAlgorithmType == "AUTOMATIC"
    algorithm = anterior.SegmentationAlgorithmIdentificationSequence[0]
    assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == SOFTWARE


def test_label_values_need_not_be_consecutive_and_unknown_names_get_a_private_code(tmp_path: Path) -> None:
    made = stack()
    labels = np.array([0, 7, 300])[labels_of(made)]
    segments = segments_of(METADATA, [7, 300], {"300": "Übergang \\ zone"})
    assert segments == [Segment(7, "label 7"), Segment(300, "Übergang \\ zone")]
    result = write(labels, loaded(tmp_path / "in", made), tmp_path / "out.dcm", segments=segments)
    assert [s.SegmentLabel for s in result.SegmentSequence] == ["label 7", "Ubergang / zone"]
    assert [s.SegmentDescription for s in result.SegmentSequence] == ["label 7", "label 300"]
    code = result.SegmentSequence[1].SegmentedPropertyTypeCodeSequence[0]
    assert code.CodeValue == "300" and code.CodingSchemeDesignator.startswith("99")
    np.testing.assert_array_equal(read(result, labels.shape, made.affine), labels_of(made))


def test_a_structures_code_needs_its_organ() -> None:
    prostate = METADATA | {"name": "prostate_mri_segmentation"}
    assert [s.structure for s in segments_of(prostate)] == [None, None]
    heart = segments_of({"name": "cardiac_mri"}, [1], {"1": "endocardium"})
    assert heart[0].structure is not None and heart[0].structure.value == "87878005"  # left ventricle
    with pytest.raises(InputError, match="names no structure"):
        segments_of({"name": "synthesis"})


@pytest.mark.parametrize("present", [[], [2]])
def test_a_segment_without_a_voxel_is_declared(tmp_path: Path, present: list[int]) -> None:
    made = stack()
    labels = labels_of(made) * np.isin(labels_of(made), present)
    result = write(labels, loaded(tmp_path / "in", made), tmp_path / "out.dcm")
    assert [s.SegmentNumber for s in result.SegmentSequence] == [1, 2]
    np.testing.assert_array_equal(read(result, labels.shape, made.affine), labels)


@pytest.mark.parametrize("flat", [True, False])
def test_a_single_slice_is_written(tmp_path: Path, flat: bool) -> None:
    made = stack(oblique_axes(np.random.default_rng(4)), n_slices=1)
    labels = np.random.default_rng(0).integers(0, 3, (7, 4, 1))
    (file,) = made.save(tmp_path / "in")
    source = load_series(file, pixels=False)
    affine = source.affine.copy()
    if flat:
        affine[:3, 2] = affine[:3, 0]  # 2D transforms do not keep it
    result = write(labels[..., 0] if flat else labels, source, tmp_path / "out.dcm", affine=affine)
    np.testing.assert_array_equal(read(result, labels.shape, made.affine), labels)


@pytest.mark.parametrize("shared", [True, False])
def test_a_multi_frame_source_is_referred_to_by_frame(tmp_path: Path, shared: bool) -> None:
    made = stack(oblique_axes(np.random.default_rng(5)))
    order = [3, 0, 4, 2, 1]
    save(made.enhanced(order, shared=shared), tmp_path / "in.dcm")
    source = load_series(tmp_path / "in.dcm", pixels=False)
    labels = labels_of(made)
    result = write(labels, source, tmp_path / "out.dcm")
    np.testing.assert_array_equal(read(result, labels.shape, made.affine), labels)
    for group in result.PerFrameFunctionalGroupsSequence:
        frame = group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedFrameNumber
        place = np.array(group.PlanePositionSequence[0].ImagePositionPatient, float)
        np.testing.assert_allclose(made.position(order[frame - 1]), place, atol=1e-6)


@pytest.mark.parametrize("fault", ["missing_slice", "doubled_slice", "gantry_tilt"])
def test_a_fault_that_was_allowed_is_written(tmp_path: Path, fault: str) -> None:
    made = stack(n_slices=6)
    if fault == "gantry_tilt":
        made.axes[1, 2] = 0.3

    def spoil(images: list[pydicom.Dataset]) -> None:
        if fault == "missing_slice":
            images.pop(2)
        elif fault == "doubled_slice":
            images.append(made.datasets()[2])

    made.save(tmp_path / "in", edit=spoil)
    source = load_series(tmp_path / "in", allow=[fault], pixels=False)
    labels = labels_of(made)
    result = write(labels, source, tmp_path / "out.dcm")
    np.testing.assert_array_equal(read(result, labels.shape, made.affine), labels)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda labels, affine: (labels[1:], affine), "does not lie on the grid"),
        (lambda labels, affine: (labels, affine + np.outer([1, 0, 0, 0], [0, 0, 0, 0.1])), "does not lie on"),
        (lambda labels, affine: (labels, affine @ np.diag([1.01, 1, 1, 1])), "does not lie on the grid"),
        (lambda labels, affine: (labels, affine * np.nan), "does not lie on the grid"),
        (lambda labels, affine: (labels + (labels == 2), affine), "unknown label"),
        (lambda labels, affine: (labels * 0.5, affine), "values that are no labels"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_written(tmp_path: Path, change: Any, match: str) -> None:
    made = stack()
    source = loaded(tmp_path / "in", made)
    labels, affine = change(labels_of(made), source.affine)
    with pytest.raises(InputError, match=match):
        write(labels, source, tmp_path / "out" / "a.dcm", affine=affine)
    assert not (tmp_path / "out").exists()


def test_only_what_was_written_here_is_replaced(tmp_path: Path) -> None:
    made = stack()
    source = loaded(tmp_path / "in", made)
    target = tmp_path / "a.dcm"
    first = write(labels_of(made), source, target)
    assert write(labels_of(made), source, target).SOPInstanceUID != first.SOPInstanceUID
    inputs = {file: file.read_bytes() for file in (tmp_path / "in").iterdir()}
    (tmp_path / "notes.dcm").write_text("mine")
    for other in (*inputs, tmp_path / "notes.dcm", tmp_path / "in"):
        with pytest.raises(InputError, match="something else"):
            write(labels_of(made), source, other)
    assert inputs == {file: file.read_bytes() for file in (tmp_path / "in").iterdir()}
    assert (tmp_path / "notes.dcm").read_text(encoding="utf-8") == "mine"


def test_a_failure_in_mid_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = stack()
    source = loaded(tmp_path / "in", made)
    write(labels_of(made), source, tmp_path / "out" / "a.dcm")
    before = (tmp_path / "out" / "a.dcm").read_bytes()

    def half(_: object, path: Path, **__: object) -> None:
        Path(path).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(pydicom.Dataset, "save_as", half)
    with pytest.raises(OSError, match="disk full"):
        write(labels_of(made), source, tmp_path / "out" / "a.dcm")
    assert [f.name for f in (tmp_path / "out").iterdir()] == ["a.dcm"]
    assert (tmp_path / "out" / "a.dcm").read_bytes() == before


@pytest.mark.filterwarnings("error")
def test_a_careless_header_is_carried_over_and_nothing_of_it_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture
) -> None:
    values = {
        "PatientName": "SECRETNAME", "PatientBirthDate": "SECRETBD", "PatientSex": "SECRET",
        "StudyTime": "SECRETTIME", "PatientID": "SECRETID" * 20, "StudyDate": "SECRETDATE",
        "PatientAge": "SECRETAGE", "SeriesNumber": None,
    }  # fmt: skip
    made = stack()

    def careless(images: list[pydicom.Dataset]) -> None:
        for ds in images:
            for keyword in ("StudyID", "AccessionNumber", "ReferringPhysicianName", "FrameOfReferenceUID"):
                delattr(ds, keyword)
            for keyword, value in values.items():
                setattr(ds, keyword, value)

    with quiet_pydicom():
        made.save(tmp_path / "in", edit=careless)
    caplog.set_level(logging.DEBUG)
    source = load_series(tmp_path / "in", pixels=False)
    write_segmentation(labels_of(made), source.affine, source, tmp_path / "out.dcm", SEGMENTS, SOFTWARE)
    told = caplog.text + "".join(capsys.readouterr())
    uids = [made.uid, made.study, *(ds.SOPInstanceUID for ds in source.datasets)]
    assert not [secret for secret in ("SECRET", *uids) if secret in told]
    with quiet_pydicom():
        result = pydicom.dcmread(tmp_path / "out.dcm")
        for keyword in ("PatientName", "PatientID", "PatientSex", "StudyTime", "PatientBirthDate"):
            assert str(result[keyword].value) == values[keyword]
        assert result.StudyID in ("", None) and result.FrameOfReferenceUID


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SOPInstanceUID"])
def test_a_source_that_cannot_be_referred_to_is_refused(tmp_path: Path, keyword: str) -> None:
    made = stack()
    source = loaded(tmp_path / "in", made)
    delattr(source.datasets[-1], keyword)
    with pytest.raises(InputError, match=keyword):
        write(labels_of(made), source, tmp_path / "out.dcm")


def test_a_private_kind_of_object_is_refused(tmp_path: Path) -> None:
    made = stack(SOPClassUID="1.2.3.4.5")
    with pytest.raises(InputError, match="SOPClassUID"):
        write(labels_of(made), loaded(tmp_path / "in", made), tmp_path / "out.dcm")


def test_without_highdicom_the_remedy_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = stack()
    source = loaded(tmp_path / "in", made)
    monkeypatch.setitem(sys.modules, "highdicom", None)
    with pytest.raises(InputError, match=r"mdl_monai\[dicom\]"):
        write(labels_of(made), source, tmp_path / "out.dcm")


@needs_dciodvfy
def test_dciodvfy_finds_no_error(tmp_path: Path) -> None:
    own = segments_of(METADATA, [1, 2], {"1": "something else"})
    for n, made in enumerate((stack(), stack(oblique_axes(np.random.default_rng(6)), n_slices=1))):
        labels = np.random.default_rng(0).integers(0, 3, made.values.shape[::-1])
        made.save(tmp_path / f"{n}")
        source = load_series(tmp_path / f"{n}", pixels=False)
        for name, array, segments in (
            ("a", labels, SEGMENTS),
            ("b", labels * 0, SEGMENTS),
            ("c", labels, own),
        ):
            path = tmp_path / f"{n}{name}.dcm"
            write(array, source, path, segments=segments)
            told = dciodvfy(path)
            assert "Segmentation" in told and "Error" not in told, told
