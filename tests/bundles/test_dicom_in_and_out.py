"""DICOM in and DICOM out through the bundles' own configs: places, secrets, and the same results as from NIfTI."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
import torch
from dicom_studies import (
    BUNDLES,
    KEPT,
    SECRETS,
    Blob,
    Stack,
    all_of,
    centroids,
    drawn,
    infer,
    middle,
    oblique_axes,
    orthogonal_axes,
    plant,
    pointwise_network,
    told_in,
)
from monai.bundle import ConfigParser
from PIL import Image, PngImagePlugin

from mdl_monai.errors import InputError, find_input_error
from mdl_monai.networks.mask_adaptive_admm_net import MaskAdaptiveADMMNet
from mdl_monai.networks.vnet import VNet

highdicom = pytest.importorskip("highdicom")
pytestmark = pytest.mark.filterwarnings("ignore")

Run = Callable[..., subprocess.CompletedProcess[str]]
SEGMENTATION, SYNTHESIS = "hippocampus_mri_segmentation", "brain_mr_to_ct_synthesis"
MULTI_COIL = "brain_mri_multicoil_admm_reconstruction"
RECONSTRUCTION = "brain_mri_admm_reconstruction"
FUSION = ("hippocampus_mri_fusion_segmentation", "cardiac_mri_fusion_segmentation")
TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
ORDERS = orthogonal_axes()
NEAR = 0.25  # voxels; half of one is what is asked for


# -- places

# Label 1 is dark and label 2 bright, so that none has a rim of the other. Two sizes each; not on one plane.
SEGMENTED = [
    Blob((-8.0, 5.0, -9.5), 3.4, -500), Blob((9.5, -6.5, 4.0), 4.6, -500),
    Blob((5.0, 10.0, 9.0), 3.4, 500), Blob((-9.0, -4.0, 7.0), 4.6, 500),
]  # fmt: skip
BRIGHT = [
    Blob((-14.0, 9.0, -12.0), 4.5, 700), Blob((17.0, -8.0, -6.0), 5.3, 700), Blob((4.0, 14.0, 16.0), 6.2, 700),
    Blob((-9.0, -17.0, 8.0), 7.2, 700),
]  # fmt: skip


def segmented_places(folder: Path, case: str) -> np.ndarray:
    """Of the blobs in the order of `SEGMENTED`, RAS mm, as highdicom reads the object."""
    volume = highdicom.seg.segread(folder / f"{case}.dcm").get_volume(combine_segments=True)
    return np.concatenate([centroids(volume.array == n, TO_RAS @ volume.affine, 2) for n in (1, 2)])


def bright_places(folder: Path, case: str) -> np.ndarray:
    """Of the blobs in the order of `BRIGHT`, RAS mm, as GDCM reads the series."""
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder / case)))
    image = reader.Execute()
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    values = sitk.GetArrayFromImage(image).T.astype(float)
    head = np.median(values[values > -1000])
    return centroids((values - (head + values.max()) / 2).clip(0), TO_RAS @ affine, len(BRIGHT))


CHAINS: dict[str, dict[str, Any]] = {
    SEGMENTATION: {
        "stack": Stack(np.zeros((15, 24, 35)), spacing=(1.3, 1.9, 3.1), origin=(31.5, -20.25, 7.0)),
        "drawing": {"blobs": SEGMENTED, "base": 500},
        "network": {"weights": [0, -1.5, 1.5], "biases": [0, -3, -3], "dims": 3},
        "options": {},
        "places": segmented_places,
    },
    SYNTHESIS: {
        "stack": Stack(np.zeros((15, 27, 34)), spacing=(2.3, 2.9, 5.3), origin=(-131.5, 20.25, 77.0)),
        "drawing": {"blobs": BRIGHT, "base": 300, "head": 33},
        "network": {"weights": [1], "biases": [0], "dims": 2},
        "options": {"spacing": [3.0, 3.2, 2.8]},  # for time; a head must have the size of one
        "places": bright_places,
    },
}


def round_trips(bundle: str, oblique: bool, folder: Path) -> dict[str, Stack]:
    """48 series by case; the DICOM that the bundle makes of them goes to the folder's ``out/dicom``."""
    chain, rng, stacks = CHAINS[bundle], np.random.default_rng(7), {}
    for n, axes in enumerate(ORDERS):
        turned = oblique_axes(rng) @ axes if oblique else axes
        stacks[f"{n}"] = drawn(replace(chain["stack"], axes=turned), **chain["drawing"])
        stacks[f"{n}"].save(folder / "in" / f"{n}", rng.permutation(len(chain["stack"].values)))
    network = pointwise_network(folder / "model.pt", **chain["network"])
    infer(
        bundle, dataset_dir=folder / "in", output_dir=folder / "out", write_dicom=True, n_pictures=0,
        **network, **chain["options"],
    )  # fmt: skip
    return stacks


def truth(bundle: str, stack: Stack, turned: np.ndarray | None = None) -> np.ndarray:
    """Places of the blobs, RAS mm; turned about the volume's middle, those of a wrong chain."""
    offsets = np.array([blob.place for blob in CHAINS[bundle]["drawing"]["blobs"]])
    return middle(stack) + offsets @ (np.eye(3) if turned is None else turned.T)


def voxels_away(found: np.ndarray, expected: np.ndarray, stack: Stack) -> float:
    """The largest distance along an axis of the source, in its voxels."""
    return float(np.abs(np.linalg.solve(stack.affine[:3, :3], (found - expected).T)).max())


@pytest.mark.parametrize("oblique", [False, True])
@pytest.mark.parametrize("bundle", CHAINS)
def test_48_axis_orders_come_back_to_their_places(
    bundle: str, oblique: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.fsync", lambda file: None)  # the disk takes longer than the rest
    stacks = round_trips(bundle, oblique, tmp_path)
    found = {case: CHAINS[bundle]["places"](tmp_path / "out" / "dicom", case) for case in stacks}
    away = {case: voxels_away(found[case], truth(bundle, stack), stack) for case, stack in stacks.items()}
    assert len(away) == 48 and max(away.values()) < NEAR, {c: v for c, v in away.items() if v >= NEAR}
    # and any other order or direction of the axes would have been noticed
    for case, stack in list(stacks.items())[::7]:
        for wrong in ORDERS:
            if not np.array_equal(wrong, np.eye(3)):
                assert voxels_away(found[case], truth(bundle, stack, wrong), stack) > 1


# -- secrets


def head(**changes: Any) -> Stack:
    """An oblique series that all bundles take."""
    axes = oblique_axes(np.random.default_rng(3))
    stack = Stack(np.zeros((13, 18, 23)), axes, spacing=(3.7, 4.6, 6.1), **changes)
    return drawn(stack, BRIGHT, base=300, head=34)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, object]]:
    """By bundle, options for a network that is quick."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    torch.save(VNet(3, 1, 3, (4, 8)).state_dict(), folder / "vnet.pt")
    torch.save(MaskAdaptiveADMMNet(2, 8, 8, 8).state_dict(), folder / "admm.pt")
    sizes = {"network_def#stages": 2, "network_def#features": 8, "network_def#deep_features": 8}
    return {
        SEGMENTATION: {"ckpt_path": folder / "vnet.pt", "features": [4, 8], "spacing": [3, 3, 3]},
        RECONSTRUCTION: {"ckpt_path": folder / "admm.pt", **sizes},
        SYNTHESIS: pointwise_network(folder / "point.pt", [1], [0], dims=2) | {"spacing": [3, 3, 3]},
    }


def as_a_user(
    run_bundle: Run, bundle: str, options: dict[str, object], **further: object
) -> dict[str, bytes]:
    """Run inference with progress, logging and all warnings: what was printed."""
    ended = run_bundle(
        bundle, ["inference"], progress="true", warnings="always",
        logging_file=BUNDLES / bundle / "configs" / "logging.conf", **options, **further,
    )  # fmt: skip
    return {"stdout": ended.stdout.encode(), "stderr": ended.stderr.encode()}


@pytest.mark.parametrize("bundle", [SEGMENTATION, RECONSTRUCTION, SYNTHESIS])
def test_of_whom_the_study_is_is_told_in_the_dicom_alone(
    bundle: str, small: dict[str, dict[str, object]], run_bundle: Run, tmp_path: Path
) -> None:
    assert len(SECRETS) > 40
    plant(head(), tmp_path / "in" / "case")
    before = all_of(tmp_path / "in")
    assert set(told_in(before)) == set(SECRETS), "all of them are there to be found"
    out = tmp_path / "out"
    printed = as_a_user(
        run_bundle, bundle, small[bundle], launcher=("-m", "monai.bundle"), dataset_dir=tmp_path / "in",
        output_dir=out, write_dicom="true",
    )  # fmt: skip
    assert all_of(tmp_path / "in") == before
    written = all_of(out)
    assert {"dicom", "pictures", "predictions"} <= {Path(name).parts[0] for name in written}
    result = {name: text for name, text in written.items() if name.startswith("dicom/")}
    assert not told_in(printed | {name: text for name, text in written.items() if name not in result})
    told = told_in(result)
    assert set(told) == set(KEPT), "patient and study, but no institution, person or device of the source"
    assert all(set(names) == set(result) for names in told.values())
    for name in result:
        made = pydicom.dcmread(out / name)
        for keyword in ("PatientName", "PatientID", "StudyInstanceUID", "FrameOfReferenceUID", "StudyID"):
            assert str(made[keyword].value) == SECRETS[keyword]
        assert made.Manufacturer == "mdl_monai" and "InstitutionName" not in made
        for keyword in ("SeriesInstanceUID", "SOPInstanceUID"):
            assert not made[keyword].value.startswith(SECRETS[keyword])


@pytest.mark.parametrize("bundle", [SEGMENTATION, RECONSTRUCTION, SYNTHESIS])
def test_another_patient_gives_the_same_pictures_and_files(
    bundle: str, small: dict[str, dict[str, object]], tmp_path: Path
) -> None:
    """So no name is drawn either."""
    plant(head(), tmp_path / "a" / "case")
    head(tags={"PatientName": "Other^One", "InstitutionName": "Elsewhere"}).save(tmp_path / "b" / "case")
    results = []
    for name in ("a", "b"):
        out = tmp_path / f"out_{name}"
        infer(bundle, dataset_dir=tmp_path / name, output_dir=out, **small[bundle])
        # but for the time that it took, and the hour
        results.append({k: v for k, v in all_of(out).items() if not k.startswith(("metrics", "run"))})
    assert results[0] == results[1] and any(name.endswith(".png") for name in results[0])


def test_secrets_are_found_wherever_they_are(tmp_path: Path) -> None:
    """In what the other tests search."""
    name, day, uid = SECRETS["OperatorsName"], SECRETS["StudyDate"], SECRETS["DeviceUID"]
    assert not told_in({"a.png": b"no", "b": b"\0" * 99})
    image = nib.Nifti1Image(np.zeros((2, 3, 4)), np.eye(4))
    image.header["descrip"] = name.encode()
    nib.save(image, tmp_path / "packed.nii.gz")
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", f"on {day[:4]}-{day[4:6]}-{day[6:]}", zip=True)
    Image.new("L", (4, 5)).save(tmp_path / "told.png", pnginfo=text)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / f"{uid}.txt").write_text("its name")
    (tmp_path / "wide.bin").write_bytes(name.lower().encode("utf-16-le"))
    assert told_in(all_of(tmp_path)) == {
        "OperatorsName": ["packed.nii.gz", "wide.bin"],
        "StudyDate": ["told.png"],
        "DeviceUID": [f"folder/{uid}.txt"],
    }


def take_one_away(files: list[Path]) -> None:
    files[5].unlink()


def space_one_otherwise(files: list[Path]) -> None:
    with pydicom.config.disable_value_validation():
        ds = pydicom.dcmread(files[5])
        ds.PixelSpacing = [4.6, 3.9]
        ds.save_as(files[5])


def cut_one_short(files: list[Path]) -> None:
    files[5].write_bytes(files[5].read_bytes()[:-300])


@pytest.mark.parametrize(
    ("bundle", "break_it", "sentence"),
    [
        (SEGMENTATION, take_one_away, "a slice is missing"),
        (RECONSTRUCTION, space_one_otherwise, "spacing"),
        (SYNTHESIS, cut_one_short, "too short"),
    ],
)
def test_a_faulty_study_ends_with_one_sentence_that_names_no_patient(
    bundle: str, break_it: Callable[[list[Path]], None], sentence: str,
    small: dict[str, dict[str, object]], run_bundle: Run, tmp_path: Path,
) -> None:  # fmt: skip
    plant(head(), tmp_path / "in" / "case")
    break_it(sorted((tmp_path / "in" / "case").iterdir()))
    printed = as_a_user(
        run_bundle, bundle, small[bundle], dataset_dir=tmp_path / "in", output_dir=tmp_path / "out",
        write_dicom="true", code=2,
    )  # fmt: skip
    told = (printed["stderr"] + printed["stdout"]).decode()
    assert told.count("InputError:") == 1 and "Traceback" not in told
    error = told[told.index("InputError:") :]
    assert sentence in error.splitlines()[0] and "in/case" in error
    assert not told_in(printed)
    assert set(all_of(tmp_path / "out")) <= {"run.json"}, "something was written"


# -- the same results as from NIfTI


def result(folder: Path, case: str) -> nib.Nifti1Image:
    return nib.load(folder / "predictions" / f"{case}.nii.gz")


def agree(found: nib.Nifti1Image, expected: nib.Nifti1Image) -> None:
    """On the same grid, and the same but for what rounding the affine makes of it."""
    assert found.shape == expected.shape and found.get_data_dtype() == expected.get_data_dtype()
    np.testing.assert_allclose(found.affine, expected.affine, atol=1e-4)
    differences = np.abs(found.get_fdata() - expected.get_fdata())
    extent = np.ptp(expected.get_fdata())
    assert extent > 0 and (differences > 1e-3 * extent).mean() < 1e-3, differences.max()


@pytest.mark.parametrize("bundle", [SEGMENTATION, RECONSTRUCTION, SYNTHESIS])
def test_a_folder_a_zip_and_a_series_itself_give_what_their_nifti_gives(
    bundle: str, small: dict[str, dict[str, object]], tmp_path: Path
) -> None:
    stack = head()
    for folder in ("nifti", "studies"):
        (tmp_path / folder).mkdir()
    nib.save(
        nib.Nifti1Image(stack.values.T.astype(np.float32), stack.affine), tmp_path / "nifti" / "x.nii.gz"
    )
    stack.save(tmp_path / "studies" / "one.series", np.random.default_rng(0).permutation(13))
    shutil.make_archive(str(tmp_path / "studies" / "packed"), "zip", tmp_path / "studies" / "one.series")
    for name, dataset, dicom in (
        ("x", "nifti", False), ("both", "studies", True), ("itself", "studies/one.series", True)
    ):  # fmt: skip
        infer(
            bundle, dataset_dir=tmp_path / dataset, output_dir=tmp_path / name, write_dicom=dicom, n_pictures=0,
            **small[bundle],
        )  # fmt: skip
    expected = result(tmp_path / "x", "x")
    for folder, case in (("both", "one.series"), ("both", "packed"), ("itself", "one.series")):
        agree(result(tmp_path / folder, case), expected)
        series = tmp_path / folder / "dicom" / (f"{case}.dcm" if bundle == SEGMENTATION else case)
        assert series.exists()
    assert not (tmp_path / "x" / "dicom").exists()


def test_of_a_mixed_study_the_named_series_is_taken(
    small: dict[str, dict[str, object]], tmp_path: Path
) -> None:
    meant = head(tags={"SeriesNumber": 7})
    other = replace(meant, values=meant.values[:-2, ::-1].copy(), uid="1.2.3.9", tags={"SeriesNumber": 9})
    (tmp_path / "nifti").mkdir()
    nib.save(
        nib.Nifti1Image(meant.values.T.astype(np.float32), meant.affine), tmp_path / "nifti" / "x.nii.gz"
    )
    study = tmp_path / "in" / "study"
    for name, stack in (("b", other), ("a", meant)):
        stack.save(tmp_path / name)
        for file in (tmp_path / name).iterdir():  # all in one folder, by turns
            study.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, study / f"{file.stem}{name}")
    infer(SEGMENTATION, dataset_dir=tmp_path / "nifti", output_dir=tmp_path / "x", **small[SEGMENTATION])
    for named in (7, meant.uid):
        out = tmp_path / f"out{named}"
        infer(
            SEGMENTATION, dataset_dir=tmp_path / "in", output_dir=out, dicom_series=named, write_dicom=True,
            **small[SEGMENTATION],
        )  # fmt: skip
        agree(result(out, "study"), result(tmp_path / "x", "x"))
        made = pydicom.dcmread(out / "dicom" / "study.dcm")
        assert made.ReferencedSeriesSequence[0].SeriesInstanceUID == meant.uid
    with pytest.raises(Exception) as caught:
        infer(SEGMENTATION, dataset_dir=tmp_path / "in", output_dir=tmp_path / "none", **small[SEGMENTATION])
    error = str(find_input_error(caught.value))
    assert "several series" in error and "number 7" in error and "number 9" in error
    written = all_of(tmp_path / "none")
    assert set(written) == {"run.json"} and meant.uid not in error + written["run.json"].decode()


@pytest.mark.parametrize("bundle", [SEGMENTATION, RECONSTRUCTION, SYNTHESIS, *FUSION, MULTI_COIL])
def test_ct_for_an_mr_bundle_is_refused_by_name_unless_it_is_asked_for(bundle: str, tmp_path: Path) -> None:
    config = ConfigParser()
    config.read_config([BUNDLES / bundle / "configs" / f"{name}.yaml" for name in ("common", "inference")])
    n_slices = 1 if config.get("spatial_dims") == 2 else 5
    values = np.random.default_rng(0).integers(1, 99, (n_slices, 6, 7)).astype(np.uint16)
    records = {}
    for modality in ("MR", "CT"):
        Stack(values, modality=modality).save(tmp_path / modality)
        records[modality] = {config["image_key"]: str(tmp_path / modality), "case": modality}
    loaded = config.get_parsed_content("preprocessing#transforms#0")(records["MR"])
    assert loaded["image"].shape[1:] == values.T.shape[: loaded["image"].ndim - 1]
    with pytest.raises(InputError, match="(?s)series is of another modality.*expected: MR.*found: CT"):
        config.get_parsed_content("preprocessing#transforms#0")(records["CT"])
    for asked in ("CT", ["MR", "CT"], []):
        config["modality"] = asked
        config.parse(reset=True)
        assert config.get_parsed_content("preprocessing#transforms#0")(records["CT"])["image"].max() > 0


def test_dicom_of_a_nifti_image_is_refused_in_one_sentence(
    small: dict[str, dict[str, object]], run_bundle: Run, tmp_path: Path
) -> None:
    stack = head()
    (tmp_path / "in").mkdir()
    nib.save(nib.Nifti1Image(stack.values.T.astype(np.float32), stack.affine), tmp_path / "in" / "x.nii.gz")
    printed = as_a_user(
        run_bundle, RECONSTRUCTION, small[RECONSTRUCTION], dataset_dir=tmp_path / "in",
        output_dir=tmp_path / "out", write_dicom="true", code=2,
    )  # fmt: skip
    told = (printed["stderr"] + printed["stdout"]).decode()
    assert told.count("InputError:") == 1 and "Traceback" not in told
    assert (
        "an input that is no DICOM cannot be written as DICOM" in told and "leave --write_dicom out" in told
    )
    assert not (tmp_path / "out" / "dicom").exists()
