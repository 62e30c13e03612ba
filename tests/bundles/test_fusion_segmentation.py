"""The label fusion bundles through the command that a user types, on phantom heads and slices with round labels."""

from __future__ import annotations

import csv
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from mdl_monai.phantoms.anatomy import Tissue
from mdl_monai.phantoms.head import head_phantom

Run = Callable[..., subprocess.CompletedProcess[str]]
HIPPOCAMPUS, CARDIAC = "hippocampus_mri_fusion_segmentation", "cardiac_mri_fusion_segmentation"
FAST = {"n_atlases": 2, "spacing": "[6.0, 6.0, 6.0]", "stages#torch#iterations": "[2, 2, 1]"}
FAST_2D = {
    "n_atlases": 3,
    "spacing": "[3.0, 3.0]",
    "crop_size": "[40, 44]",
    "stages#torch#iterations": "[2, 2, 2, 1]",
}
Pair = tuple[nib.Nifti1Image, nib.Nifti1Image]


def head(subject: int) -> Pair:
    """A whole head, left-posterior-superior; labels 1 and 2 are its ventricles and deep grey matter."""
    phantom = head_phantom(subject, (30, 36, 34), (6.0, 6.0, 6.0))
    label = torch.zeros_like(phantom.tissue)
    for value, tissue in ((1, Tissue.VENTRICLE), (2, Tissue.DEEP_GREY)):
        label[phantom.tissue == tissue] = value
    affine = phantom.affine.numpy() @ np.diag([-1, -1, 1, 1])
    return nib.Nifti1Image(phantom.mr.numpy() * 900, affine), nib.Nifti1Image(label.numpy(), affine)


def disc(subject: int) -> Pair:
    """An axial slice whose ventricles are a disc, as bright as a heart's chamber."""
    head = head_phantom(subject, (60, 70, 1), (3.0, 3.0, 3.0))
    x, y = (np.arange(n) - (n - 1) / 2 for n in (60, 70))
    label = np.hypot(x[:, None] - 1, y[None] + 2) < 7 + 0.5 * subject
    values = np.where(label, 1.1, head.mr[..., 0].numpy()) + 0.02 * (
        head.tissue[..., 0].numpy() == Tissue.CSF
    )
    affine = head.affine.numpy()
    return nib.Nifti1Image(values.astype(np.float32) * 700, affine), nib.Nifti1Image(
        label.astype(np.uint8), affine
    )


def save(folder: Path, make: Callable[[int], Pair]) -> Path:
    """Four atlases and one target of other patients."""
    listing: dict[str, list[dict[str, str]]] = {"train": [], "test": []}
    for subject in range(5):
        image, label = make(subject)
        nib.save(image, folder / f"s{subject}.nii.gz")
        nib.save(label, folder / f"s{subject}_label.nii.gz")
        record = {
            "image": f"s{subject}.nii.gz",
            "label": f"s{subject}_label.nii.gz",
            "patient": f"p{subject}",
        }
        listing["test" if subject == 4 else "train"].append(record)
    (folder / "dataset.json").write_text(json.dumps(listing))
    return folder


@pytest.fixture(scope="module")
def heads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("heads"), head)


@pytest.fixture(scope="module")
def discs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("discs"), disc)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_volumes_are_registered_fused_and_compared_with_a_baseline(
    heads: Path, run_bundle: Run, tmp_path: Path
) -> None:
    run_bundle(
        HIPPOCAMPUS, ["inference", "evaluate"], dataset_dir=heads, atlas_dir=heads, output_dir=tmp_path / "out",
        cache_dir=tmp_path / "cache", baselines="true", save_transforms="true", similarity="deep", **FAST,
    )  # fmt: skip
    out = tmp_path / "out"
    written = sorted(p.relative_to(out).as_posix() for p in out.rglob("*.*"))
    report = rows(out / "registration" / "s4.csv")
    transforms = sorted(f"registration/s4/{row['atlas']}.h5" for row in report)
    assert written == [
        "baselines_summary.json", "metrics.csv", "metrics_summary.json", "pictures/s4.png", "predictions/s4.nii.gz",
        "registration/s4.csv", *transforms,
    ]  # fmt: skip
    assert len(report) == 2 and all(-4 < float(row["selection_score"]) < 0 for row in report)  # deep features
    found, given = nib.load(out / "predictions" / "s4.nii.gz"), nib.load(heads / "s4.nii.gz")
    assert found.shape == given.shape and found.get_data_dtype() == np.uint8
    np.testing.assert_allclose(found.affine, given.affine, atol=1e-4)
    assert set(np.unique(found.dataobj)) == {0, 1, 2}
    summary = json.loads((out / "metrics_summary.json").read_text())
    assert summary["dice_mean"]["count"] == 1 and summary["dice_mean"]["mean"] > 0.5
    assert list(json.loads((out / "baselines_summary.json").read_text())) == ["staple"]
    assert [row["method"] for row in rows(out / "metrics.csv")] == ["MajorityVote", "staple"]


@pytest.mark.parametrize("registration", ["none", "demons", "torch"])
def test_slices_are_segmented_with_each_deformable_stage(
    discs: Path, run_bundle: Run, tmp_path: Path, registration: str
) -> None:
    run_bundle(
        CARDIAC, ["inference", "evaluate"], dataset_dir=discs, atlas_dir=discs, output_dir=tmp_path / "out",
        cache_dir=tmp_path / "cache", registration=registration, n_pictures=0, **FAST_2D,
    )  # fmt: skip
    (row,) = rows(tmp_path / "out" / "metrics.csv")
    assert float(row["dice_1"]) > 0.85
    report = rows(tmp_path / "out" / "registration" / "s4.csv")
    assert len(report) == 3 and all(1 < float(row["selection_score"]) <= 2 for row in report)
    found, given = nib.load(tmp_path / "out" / "predictions" / "s4.nii.gz"), nib.load(discs / "s4.nii.gz")
    assert found.shape == given.shape
    np.testing.assert_allclose(found.affine, given.affine, atol=1e-4)


def test_a_cohort_is_registered_beforehand_and_evaluated_from_its_cache(
    discs: Path, run_bundle: Run, tmp_path: Path
) -> None:
    pytest.importorskip("distributed")
    options = {
        "dataset_dir": discs, "atlas_dir": discs, "cache_dir": tmp_path / "cache", "output_dir": tmp_path / "out",
        "registration": "demons", **FAST_2D,
    }  # fmt: skip
    run_bundle(CARDIAC, ["inference", "cohort"], workers=1, **options)
    pairs = rows(tmp_path / "out" / "pairs.csv")
    assert [row["status"] for row in pairs] == ["done"] * 3 and {row["target"] for row in pairs} == {"s4"}
    stored = {p: p.stat().st_mtime_ns for p in (tmp_path / "cache").rglob("*.npz")}
    run_bundle(CARDIAC, ["inference", "evaluate"], n_pictures=0, **options)
    assert stored and {p: p.stat().st_mtime_ns for p in (tmp_path / "cache").rglob("*.npz")} == stored
    assert float(rows(tmp_path / "out" / "metrics.csv")[0]["dice_1"]) > 0.85


@pytest.mark.parametrize(
    "name", ["no atlas folder", "3D target for slices", "unknown stage", "no weights of the features"]
)
def test_bad_input_ends_with_one_sentence_and_code_2(
    name: str, heads: Path, discs: Path, run_bundle: Run, tmp_path: Path
) -> None:
    bundle, options, message = {
        "no atlas folder": (
            HIPPOCAMPUS, {"dataset_dir": heads, "atlas_dir": tmp_path / "none", "feature_ckpt": "not_needed.pt"},
            "the atlas folder does not exist",
        ),
        "3D target for slices": (CARDIAC, {"dataset_dir": heads, "atlas_dir": discs}, "wrong number of axes"),
        "unknown stage": (
            CARDIAC, {"dataset_dir": discs, "atlas_dir": discs, "registration": "ants"}, "unknown registration",
        ),
        "no weights of the features": (
            HIPPOCAMPUS,
            {"dataset_dir": heads, "atlas_dir": heads, "similarity": "deep", "feature_ckpt": tmp_path / "no.pt"},
            "the weights file does not exist",
        ),
    }[name]  # fmt: skip
    ended = run_bundle(
        bundle, ["inference"], output_dir=tmp_path / "out", cache_dir=tmp_path / "cache", code=2, **options
    )
    assert message in ended.stderr and "Traceback" not in ended.stderr + ended.stdout
    assert not list((tmp_path / "out").rglob("*.*")), "something was written"
