from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
import torch
from dicom_files import Stack, oblique_axes, save
from dicom_places import moved
from monai.bundle import ConfigParser
from monai.data import DataLoader, Dataset, MetaTensor, decollate_batch
from monai.transforms import (
    Compose,
    CopyItemsd,
    EnsureChannelFirstd,
    Invertd,
    LoadImaged,
    Orientationd,
    ResizeWithPadOrCropd,
    Spacingd,
)

from mdl_monai.errors import InputError, find_input_error
from mdl_monai.io.dicom.reader import DicomSeriesReader
from mdl_monai.io.dicom.series import load_series
from mdl_monai.transforms.save_dicom import SaveDicomd

METADATA = {
    "name": "hippocampus_mri_segmentation",
    "version": "1.2.3",
    "network_data_format": {
        "outputs": {"pred": {"channel_def": {"0": "background", "1": "anterior", "2": "posterior"}}}
    },
}


@pytest.fixture
def made(tmp_path: Path) -> Stack:
    """An oblique series in tmp_path/in/case."""
    values = np.random.default_rng(0).integers(1, 3000, (5, 6, 7)).astype(np.uint16)
    result = Stack(values, oblique_axes(np.random.default_rng(1)), spacing=(1.1, 1.1, 2.2))
    result.save(tmp_path / "in" / "case")
    return result


def image(path: Path, array: np.ndarray, affine: np.ndarray, **meta: Any) -> MetaTensor:
    result = MetaTensor(torch.from_numpy(np.array(array))[None], affine=torch.from_numpy(affine))
    result.meta.update({"filename_or_obj": str(path), "case": "case"} | meta)
    return result


def result_of(path: Path, **meta: Any) -> MetaTensor:
    """The image itself as result."""
    source = load_series(path)
    assert source.array is not None
    return image(path, source.array, source.affine, **meta)


def places(folder: Path, made: Stack) -> np.ndarray:
    """Values of a series on the stack's grid."""
    back = load_series(folder)
    assert back.array is not None
    return moved(back.array, back.affine, made.values.shape[::-1], made.affine)


@pytest.mark.parametrize("kind", ["ct", "mr"])
def test_from_dicom_through_a_networks_grid_and_back_to_dicom(tmp_path: Path, made: Stack, kind: str) -> None:
    preprocessing = Compose(
        [
            LoadImaged("image", reader=DicomSeriesReader),
            EnsureChannelFirstd("image"),
            CopyItemsd("image", names="native"),
            Orientationd("image", axcodes="RAS", labels=None),
            ResizeWithPadOrCropd("image", (9, 9, 9)),
        ]
    )
    data = Dataset([{"image": str(tmp_path / "in" / "case")}], preprocessing)
    batch = next(iter(DataLoader(data, batch_size=1)))
    batch["pred"] = batch["image"].clone() + 5
    postprocessing = Compose(
        [
            Invertd("pred", preprocessing, orig_keys="image", nearest_interp=True),
            SaveDicomd("pred", tmp_path / "out", kind, METADATA),
        ]
    )
    (item,) = decollate_batch(batch)
    postprocessing(item)
    assert [f.name for f in (tmp_path / "out").iterdir()] == ["case"]
    np.testing.assert_array_equal(places(tmp_path / "out" / "case", made), made.values.T + 5.0)
    spaced = Compose([*preprocessing.transforms[:-1], Spacingd("image", (1.0, 1.5, 1.5))])
    item = spaced({"image": str(tmp_path / "in" / "case")})
    item["pred"] = item["image"].clone() * 0 + 100
    postprocessing = Compose(
        [Invertd("pred", spaced, orig_keys="image"), SaveDicomd("pred", tmp_path / "spaced", kind, METADATA)]
    )
    postprocessing(item)
    values = places(tmp_path / "spaced" / "case", made)  # resampling is not exact, the grid is
    assert (values == 100).mean() > 0.5


@pytest.mark.parametrize("source", ["folder", "zip", "file", "multi-frame"])
def test_a_label_map_goes_beside_the_others_under_its_cases_name(
    tmp_path: Path, made: Stack, source: str
) -> None:
    pytest.importorskip("highdicom")
    path = tmp_path / "in" / "case"
    if source == "zip":
        path = Path(shutil.make_archive(str(tmp_path / "packed"), "zip", path))
    elif source == "file":
        path = next(path.iterdir())
    elif source == "multi-frame":
        path = save(made.enhanced(), tmp_path / "multi.dcm")
    series = load_series(path)
    assert series.array is not None
    labels = (series.array % 3).astype(np.uint8)
    pred = image(path, labels, series.affine, case="patient.1.2")
    data = {"pred": pred, "other": 1}
    out = SaveDicomd("pred", tmp_path / "out", "segmentation", METADATA)(data)
    assert out == data
    assert [f.name for f in (tmp_path / "out").iterdir()] == ["patient.1.2.dcm"]
    result = pydicom.dcmread(tmp_path / "out" / "patient.1.2.dcm")
    assert [s.SegmentLabel for s in result.SegmentSequence] == ["anterior", "posterior"]
    assert result.pixel_array.sum() == (labels > 0).sum()


def test_other_labels_and_names_are_taken_from_the_config(tmp_path: Path, made: Stack) -> None:
    pytest.importorskip("highdicom")
    (tmp_path / "metadata.json").write_text(json.dumps(METADATA))
    config = {
        "_target_": "mdl_monai.transforms.save_dicom.SaveDicomd",
        "keys": "pred",
        "output_dir": str(tmp_path / "out"),
        "kind": "segmentation",
        "metadata": str(tmp_path / "metadata.json"),
        "labels": [3, 8],
        "names": {"3": "tumour"},
    }
    save_dicom = ConfigParser({"save": config}).get_parsed_content("save")
    path = tmp_path / "in" / "case"
    series = load_series(path)
    assert series.array is not None
    save_dicom({"pred": image(path, np.where(series.array > 1500, 8, 0), series.affine)})
    result = pydicom.dcmread(tmp_path / "out" / "case.dcm")
    assert [s.SegmentLabel for s in result.SegmentSequence] == ["tumour", "label 8"]
    assert result.SeriesDescription == "Segmentation by hippocampus_mri_segmentation"


def test_the_readers_options_are_used_again(tmp_path: Path, made: Stack) -> None:
    other = Stack(made.values, study=made.study, tags={"SeriesNumber": 9})
    for stack, name in ((made, "a"), (other, "b")):
        stack.save(tmp_path / "study" / name, edit=lambda images: images.pop(2))
    path = tmp_path / "study"
    source = load_series(path, 9, ["missing_slice"])
    assert source.array is not None
    save_dicom = SaveDicomd("pred", tmp_path / "out", "mr", METADATA)
    pred = image(
        path,
        source.array,
        source.affine,
        dicom_series="9",
        dicom_allow="missing_slice",
        derivation="denoised twice",
    )
    data = decollate_batch(next(iter(DataLoader(Dataset([{"pred": pred}])))))[0]
    save_dicom(data)
    images = [pydicom.dcmread(file) for file in (tmp_path / "out" / "case").iterdir()]
    assert len(images) == 5
    assert {ds.FrameOfReferenceUID for ds in images} == {other.frame_of_reference}
    assert all("denoised twice" in ds.DerivationDescription for ds in images)
    for options in ({"dicom_series": ""}, {"dicom_allow": ""}):
        pred.meta.update({"dicom_series": "9", "dicom_allow": "missing_slice"} | options)
        with pytest.raises(InputError, match="several series|slice is missing"):
            save_dicom({"pred": pred})


def test_the_result_of_a_nifti_image_is_refused_with_the_remedy(tmp_path: Path) -> None:
    array = np.ones((3, 4, 5), np.float32)
    nib.save(nib.Nifti1Image(array, np.eye(4)), tmp_path / "a.nii.gz")
    pred = image(tmp_path / "a.nii.gz", array, np.eye(4))
    transform = Compose([SaveDicomd("pred", tmp_path / "out", "mr", METADATA)])
    with pytest.raises(RuntimeError) as caught:
        transform({"pred": pred})
    error = str(find_input_error(caught.value))
    assert "leave --write_dicom out" in error and "a.nii.gz" in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("kind", "path", "output_dir", "case"),
    [
        ("mr", "in/case", "in", "case"),  # the source itself
        ("mr", "in/case", "in/case", "new"),  # within it
        ("mr", "in/case", "", "in"),  # around it
        ("mr", "in/case/IM0000.dcm", "in", "case"),
        ("segmentation", "in/case", "in/case", "new"),
        ("segmentation", "in/case/IM0000.dcm", "in/case", "IM0000"),
    ],
)
def test_nothing_is_written_into_the_source(
    tmp_path: Path, made: Stack, kind: Any, path: str, output_dir: str, case: str
) -> None:
    before = {f: f.read_bytes() for f in tmp_path.rglob("*") if f.is_file()}
    pred = result_of(tmp_path / path, case=case)
    with pytest.raises(InputError, match="its own source"):
        SaveDicomd("pred", tmp_path / output_dir, kind, METADATA)({"pred": pred})
    assert before == {f: f.read_bytes() for f in tmp_path.rglob("*") if f.is_file()}


def test_several_channels_are_refused(tmp_path: Path, made: Stack) -> None:
    pred = result_of(tmp_path / "in" / "case")
    with pytest.raises(InputError, match="several channels"):
        SaveDicomd("pred", tmp_path / "out", "mr", METADATA)({"pred": torch.cat([pred, pred])})


@pytest.mark.parametrize(
    ("kind", "metadata", "match"),
    [
        ("pet", METADATA, "unknown kind"),
        ("mr", "missing.json", "cannot be read"),
        ("mr", {"name": "a"}, "no name or version"),
        ("segmentation", {"name": "a", "version": "1"}, "names no structure"),
    ],
)
def test_a_wrong_configuration_is_refused_before_anything_is_computed(
    kind: Any, metadata: Any, match: str
) -> None:
    with pytest.raises(InputError, match=match):
        SaveDicomd("pred", "out", kind, metadata)


def test_without_highdicom_a_segmentation_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "highdicom", None)
    SaveDicomd("pred", "out", "ct", METADATA)
    with pytest.raises(InputError, match="needs highdicom"):
        SaveDicomd("pred", "out", "segmentation", METADATA)
