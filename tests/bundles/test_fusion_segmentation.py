"""The label fusion bundles through the command that a user types, on phantom heads and hearts."""

from __future__ import annotations

import csv
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from mdl_monai.phantoms.anatomy import Tissue
from mdl_monai.phantoms.head import head_phantom
from mdl_monai.phantoms.heart import heart_phantom

Run = Callable[..., subprocess.CompletedProcess[str]]
HIPPOCAMPUS, CARDIAC = "hippocampus_mri_fusion_segmentation", "cardiac_mri_fusion_segmentation"
FAST = {"n_atlases": 2, "radius": 1, "spacing": "[6.0, 6.0, 6.0]", "stages#torch#iterations": "[2, 2, 1]"}
FAST_2D = {
    "n_atlases": 3,
    "crop_size": "[80, 84]",
    "atlas_crop_size": "[100, 104]",
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


def heart(subject: int) -> Pair:
    """A short-axis slice; label 1 is the left ventricle."""
    phantom = heart_phantom(subject)
    affine = phantom.affine.numpy()
    return nib.Nifti1Image(phantom.mr.numpy() * 700, affine), nib.Nifti1Image(
        phantom.endocardium.numpy(), affine
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
def hearts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("hearts"), heart)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
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
        "baselines_summary.json", "fusion/s4.json", "fusion/s4.png", "metrics.csv", "metrics_summary.json",
        "pictures/s4.png", "predictions/s4.nii.gz",
        "registration/s4.csv", *transforms, "run.json",
    ]  # fmt: skip
    assert len(report) == 2 and all(-4 < float(row["selection_score"]) < 0 for row in report)  # deep features
    found, given = nib.load(out / "predictions" / "s4.nii.gz"), nib.load(heads / "s4.nii.gz")
    assert found.shape == given.shape and found.get_data_dtype() == np.uint8
    np.testing.assert_allclose(found.affine, given.affine, atol=1e-4)
    assert set(np.unique(found.dataobj)) == {0, 1, 2}
    summary = json.loads((out / "metrics_summary.json").read_text(encoding="utf-8"))
    assert summary["dice_mean"]["count"] == 1 and summary["dice_mean"]["mean"] > 0.5
    baselines = ["majority_vote", "staple", "patch_based"]
    assert list(json.loads((out / "baselines_summary.json").read_text(encoding="utf-8"))) == baselines
    assert [row["method"] for row in rows(out / "metrics.csv")] == ["DeepFusionNet", *baselines]


@pytest.mark.parametrize("registration", ["none", "demons", "torch"])
def test_slices_are_segmented_with_each_deformable_stage(
    hearts: Path, run_bundle: Run, tmp_path: Path, registration: str
) -> None:
    run_bundle(
        CARDIAC, ["inference", "evaluate"], dataset_dir=hearts, atlas_dir=hearts, output_dir=tmp_path / "out",
        cache_dir=tmp_path / "cache", registration=registration, n_pictures=0, **FAST_2D,
    )  # fmt: skip
    (row,) = rows(tmp_path / "out" / "metrics.csv")
    assert float(row["dice_1"]) > 0.85
    report = rows(tmp_path / "out" / "registration" / "s4.csv")
    assert len(report) == 3 and all(1 < float(row["selection_score"]) <= 2 for row in report)
    found, given = nib.load(tmp_path / "out" / "predictions" / "s4.nii.gz"), nib.load(hearts / "s4.nii.gz")
    assert found.shape == given.shape
    np.testing.assert_allclose(found.affine, given.affine, atol=1e-4)


def test_a_cohort_is_registered_beforehand_and_evaluated_from_its_cache(
    hearts: Path, run_bundle: Run, tmp_path: Path
) -> None:
    pytest.importorskip("distributed")
    options = {
        "dataset_dir": hearts, "atlas_dir": hearts, "cache_dir": tmp_path / "cache", "output_dir": tmp_path / "out",
        "registration": "demons", **FAST_2D,
    }  # fmt: skip
    run_bundle(CARDIAC, ["inference", "cohort"], workers=1, **options)
    pairs = rows(tmp_path / "out" / "pairs.csv")
    assert [row["status"] for row in pairs] == ["done"] * 3 and {row["target"] for row in pairs} == {"s4"}
    stored = {p: p.stat().st_mtime_ns for p in (tmp_path / "cache").rglob("*.npz")}
    run_bundle(CARDIAC, ["inference", "evaluate"], n_pictures=0, **options)
    assert stored and {p: p.stat().st_mtime_ns for p in (tmp_path / "cache").rglob("*.npz")} == stored
    assert float(rows(tmp_path / "out" / "metrics.csv")[0]["dice_1"]) > 0.85


@pytest.mark.parametrize("name", ["no atlas folder", "3D target for slices", "unknown stage", "no weights"])
def test_bad_input_ends_with_one_sentence_and_code_2(
    name: str, heads: Path, hearts: Path, run_bundle: Run, tmp_path: Path
) -> None:
    bundle, options, message = {
        "no atlas folder": (
            HIPPOCAMPUS, {"dataset_dir": heads, "atlas_dir": tmp_path / "none"},
            "the atlas folder does not exist",
        ),
        "3D target for slices": (CARDIAC, {"dataset_dir": heads, "atlas_dir": hearts}, "wrong number of axes"),
        "unknown stage": (
            CARDIAC, {"dataset_dir": hearts, "atlas_dir": hearts, "registration": "ants"}, "unknown registration",
        ),
        "no weights": (
            HIPPOCAMPUS,
            {"dataset_dir": heads, "atlas_dir": heads, "ckpt_path": tmp_path / "no.pt"},
            "the weights file does not exist",
        ),
    }[name]  # fmt: skip
    ended = run_bundle(
        bundle, ["inference"], output_dir=tmp_path / "out", cache_dir=tmp_path / "cache", code=2, **options
    )
    assert message in ended.stderr and "Traceback" not in ended.stderr + ended.stdout
    assert {p.name for p in (tmp_path / "out").rglob("*.*")} <= {"run.json"}, "something was written"


@pytest.mark.parametrize("overlays", [["train"], ["train", "train_published"]])
def test_own_atlases_train_a_network_that_then_segments(
    heads: Path, run_bundle: Run, tmp_path: Path, overlays: list[str]
) -> None:
    options = {"dataset_dir": heads, "cache_dir": tmp_path / "cache", "registration": "none", **FAST}
    run = tmp_path / "run"
    run_bundle(
        HIPPOCAMPUS, overlays, output_dir=run, max_epochs=2, pool=2, n_training_atlases=2, val_fraction=0.3,
        patch_size="[16, 20, 16]", n_features=4, **options,
    )  # fmt: skip
    split = json.loads((run / "split.json").read_text(encoding="utf-8"))
    assert len(split["train"]) == 3 and len(split["val"]) == 1
    run_bundle(
        HIPPOCAMPUS, ["inference", "evaluate", *(["published"] if len(overlays) > 1 else [])], output_dir=run,
        ckpt_path=run / "model.pt", n_pictures=0, n_features=4, **options,
    )  # fmt: skip
    # two epochs of three heads teach little, but what answers is the atlases' labels, near their places
    assert json.loads((run / "metrics_summary.json").read_text(encoding="utf-8"))["dice_mean"]["mean"] > 0.1


def test_the_network_that_finds_the_ventricle_trains(hearts: Path, run_bundle: Run, tmp_path: Path) -> None:
    run_bundle(
        CARDIAC,
        ["train", "train_localiser"],
        dataset_dir=hearts,
        output_dir=tmp_path,
        max_epochs=1,
        batch_size=2,
    )
    assert all(v.isfinite().all() for v in torch.load(tmp_path / "model.pt", weights_only=True).values())


@pytest.mark.parametrize("bundle", [CARDIAC, pytest.param(HIPPOCAMPUS, marks=pytest.mark.slow)])
def test_two_processes_train_and_evaluate_as_one(
    bundle: str,
    request: pytest.FixtureRequest,
    run_bundle: Run,
    one_and_two: Callable[..., list[Any]],
    tmp_path: Path,
) -> None:
    own: dict[str, dict[str, object]] = {
        CARDIAC: {"dataset_dir": request.getfixturevalue("hearts"), **FAST_2D},
        HIPPOCAMPUS: {"dataset_dir": request.getfixturevalue("heads"), "n_features": 4, **FAST},
    }
    options = {"cache_dir": tmp_path / "cache", "registration": "none", **own[bundle]}
    run_bundle(
        bundle, ["train", "multi_gpu_train"], processes=2, output_dir=tmp_path, max_epochs=1, batch_size=1,
        val_interval=1, pool=2, n_training_atlases=2, val_split="test",
        patch_size="[64, 64]" if bundle == CARDIAC else "[16, 20, 16]", **options,
    )  # fmt: skip
    assert not any(k.startswith("module.") for k in torch.load(tmp_path / "model.pt"))
    one_and_two(
        bundle, tmp_path, keys=("dice_mean", "dice_1", "volume_ml_1"), count=5, split="['train', 'test']",
        ckpt_path=tmp_path / "model.pt", n_pictures=0, **options,
    )  # fmt: skip
