"""The reconstruction bundle through the command that a user types, on phantom heads."""

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
from PIL import Image

from mdl_monai.networks.admm_net import ADMMNet
from mdl_monai.networks.mask_adaptive_admm_net import MaskAdaptiveADMMNet

Run = Callable[..., subprocess.CompletedProcess[str]]
NAME = "brain_mri_admm_reconstruction"
SMALL = {"network_def__stages": 2, "network_def__features": 8, "network_def__deep_features": 8}


@pytest.fixture(scope="module")
def small_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "model.pt"
    torch.save(MaskAdaptiveADMMNet(2, 8, 8, 8).state_dict(), path)
    return path


def test_shipped_weights_beat_zero_filling_and_write_every_result(
    phantom_set: Path, run_bundle: Run, tmp_path: Path
) -> None:
    run_bundle(
        NAME,
        ["inference", "evaluate"],
        dataset_dir=phantom_set,
        split="['test', 'volume']",
        output_dir=tmp_path,
        sampling_ratio=0.3,
        baselines="true",
        n_pictures=1,
    )
    with (tmp_path / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 5 * 4 and {r["method"] for r in rows} == {
        "MaskAdaptiveADMMNet",
        "zero_filled",
        "tv",
        "wavelet",
    }
    summary = json.loads((tmp_path / "metrics_summary.json").read_text(encoding="utf-8"))
    assert set(summary) == {"psnr", "nmse", "ssim", "time_s"}
    assert summary["psnr"]["count"] == 5 and summary["psnr"]["unit"] == "patient"
    baselines = json.loads((tmp_path / "baselines_summary.json").read_text(encoding="utf-8"))
    assert baselines["zero_filled"]["psnr"]["difference"]["ci95_low"] > 1
    assert [p.suffix for p in (tmp_path / "pictures").iterdir()] == [".png"]


def test_predictions_lie_on_the_inputs_grid_in_its_intensity(
    phantom_set: Path, run_bundle: Run, tmp_path: Path
) -> None:
    """A volume with an oblique affine, nearly fully sampled, must come back as it was; from a plain folder."""
    folder = tmp_path / "plain folder"
    folder.mkdir()
    (folder / "thick.nii.gz").write_bytes((phantom_set / "thick.nii.gz").read_bytes())
    run_bundle(
        NAME,
        ["inference"],
        dataset_dir=folder,
        output_dir=tmp_path / "out",
        mask_type="random2d",
        sampling_ratio=0.95,
    )
    before = nib.load(folder / "thick.nii.gz")
    after = nib.load(tmp_path / "out" / "predictions" / "thick.nii.gz")
    assert after.shape == before.shape and after.get_data_dtype() == np.float32
    np.testing.assert_allclose(after.affine, before.affine, atol=1e-4)
    error = np.linalg.norm(after.get_fdata() - before.get_fdata()) / np.linalg.norm(before.get_fdata())
    assert error < 0.05
    written = [p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*.*")]
    assert sorted(written) == ["pictures/thick.png", "predictions/thick.nii.gz", "run.json"]


def test_training_writes_weights_that_inference_takes_and_resumes(
    phantom_set: Path, run_bundle: Run, tmp_path: Path
) -> None:
    options = {
        "dataset_dir": phantom_set,
        "output_dir": tmp_path,
        "train_split": "train",
        "val_split": "null",
        "val_fraction": 0.3,
        "crop_size": 32,
        "batch_size": 2,
        "val_interval": 1,
        **SMALL,
    }
    run_bundle(NAME, ["train"], max_epochs=2, **options)
    split = json.loads((tmp_path / "split.json").read_text(encoding="utf-8"))
    assert len(split["train"]) == 2 and len(split["val"]) == 1 and not set(split["train"]) & set(split["val"])
    state = torch.load(tmp_path / "model.pt", weights_only=True)
    assert {t.device.type for t in state.values()} == {"cpu"}
    checkpoint = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert checkpoint["epoch"] == 2 and checkpoint["best"] > 0
    longer = run_bundle(NAME, ["train"], max_epochs=3, resume="true", code=2, **options)
    assert "another length" in longer.stderr, "the checkpoint was read"
    run_bundle(
        NAME,
        ["inference"],
        dataset_dir=phantom_set,
        split="test",
        output_dir=tmp_path,
        ckpt_path=tmp_path / "model.pt",
        **SMALL,
    )
    assert len(list((tmp_path / "predictions").iterdir())) == 4


def test_two_processes_train_and_evaluate_as_one(
    phantom_set: Path,
    run_bundle: Run,
    one_and_two: Callable[..., list[Any]],
    tmp_path: Path,
    small_weights: Path,
) -> None:
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "monai.bundle")
    run_bundle(
        NAME,
        ["train", "multi_gpu_train"],
        launcher=torchrun,
        dataset_dir=phantom_set,
        output_dir=tmp_path / "train",
        train_split="train",
        val_split="val",
        crop_size=32,
        batch_size=1,
        max_epochs=1,
        val_interval=1,
        **SMALL,
    )
    assert not any(k.startswith("module.") for k in torch.load(tmp_path / "train" / "model.pt"))
    one, two = one_and_two(
        NAME,
        tmp_path,
        dataset_dir=phantom_set,
        split="['test', 'train', 'volume']",
        ckpt_path=small_weights,
        **SMALL,
    )
    assert two["psnr"]["count"] == 11
    for key in ("psnr", "nmse", "ssim"):
        assert two[key]["mean"] == pytest.approx(one[key]["mean"], rel=1e-5)
        assert two[key]["ci95_low"] == pytest.approx(one[key]["ci95_low"], rel=1e-5)


@pytest.mark.slow
def test_the_basic_network_trains_for_one_mask_and_is_evaluated_with_it(
    phantom_set: Path, run_bundle: Run, tmp_path: Path
) -> None:
    options = {
        "dataset_dir": phantom_set,
        "output_dir": tmp_path,
        "network_def__stages": 2,
        "tensorboard": "true",
    }
    run_bundle(NAME, ["train", "train_basic"], max_epochs=1, train_split="train", **options)
    assert list((tmp_path / "tensorboard").iterdir())
    del options["tensorboard"]
    run_bundle(
        NAME,
        ["inference", "evaluate", "basic"],
        ckpt_path=tmp_path / "checkpoint.pt",
        split="test",
        **options,
    )
    assert "ADMMNet" in (tmp_path / "metrics.csv").read_text(encoding="utf-8")


def test_lbfgs_trains_the_basic_network(phantom_set: Path, run_bundle: Run, tmp_path: Path) -> None:
    run_bundle(
        NAME, ["train", "train_basic", "train_lbfgs"], dataset_dir=phantom_set, output_dir=tmp_path, max_epochs=2,
        val_interval=1, train_split="train", network_def__stages=2, steps=3,
    )  # fmt: skip
    checkpoint = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert checkpoint["epoch"] == 2 and checkpoint["optimizer"]["state"][0]["old_dirs"]
    untrained = ADMMNet(stages=2).state_dict()
    assert any(not torch.equal(value, untrained[name]) for name, value in checkpoint["network"].items())


def save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(exist_ok=True)
    nib.save(nib.Nifti1Image(array.astype(np.float32), np.eye(4)), path)


def bad_cases(folder: Path, phantom_set: Path) -> dict[str, tuple[dict[str, object], str]]:
    """Options that cannot work, and what the one sentence must say."""
    good = folder / "good"
    image = np.random.default_rng(0).random((40, 36))
    save(good / "a.nii.gz", image)
    save(folder / "film" / "a.nii.gz", np.ones((4, 4, 2, 3)))
    image[3, 3] = np.nan
    save(folder / "holes" / "a.nii.gz", image)
    (folder / "empty").mkdir()
    (folder / "colour").mkdir()
    Image.fromarray(np.full((40, 36, 3), 7, np.uint8)).save(folder / "colour" / "a.png")
    (folder / "colour" / "dataset.json").write_text('{"test": [{"image": "a.png"}]}')
    np.save(folder / "small.npy", np.ones((8, 8)))
    np.save(folder / "zero.npy", np.zeros((40, 36)))
    torch.save(torch.nn.Linear(2, 2).state_dict(), folder / "other.pt")
    return {
        "mask of another size": ({"mask_file": folder / "small.npy", "dataset_dir": good}, "another size"),
        "empty mask": ({"mask_file": folder / "zero.npy", "dataset_dir": good}, "the mask is empty"),
        "4D image": ({"dataset_dir": folder / "film"}, "wrong number of axes"),
        "NaN": ({"dataset_dir": folder / "holes"}, "NaN or infinite"),
        "empty folder": ({"dataset_dir": folder / "empty"}, "holds no images"),
        "no folder": ({"dataset_dir": folder / "nowhere"}, "does not exist"),
        "other weights": ({"ckpt_path": folder / "other.pt", "dataset_dir": good}, "another architecture"),
        "unknown split": ({"dataset_dir": phantom_set, "split": "tset"}, "unknown split 'tset'"),
        "unknown mask": ({"mask_type": "spiral", "dataset_dir": good}, "unknown mask type"),
        "ratio in percent": ({"sampling_ratio": 20, "dataset_dir": good}, "sampling ratio"),
        "colour": ({"dataset_dir": folder / "colour"}, "wrong shape"),
        "no flag": ({"amp": "maybe", "dataset_dir": good}, "yes-or-no"),
    }


@pytest.mark.parametrize(
    "name",
    [
        "mask of another size",
        "empty mask",
        "4D image",
        "NaN",
        "empty folder",
        "no folder",
        "other weights",
        "unknown split",
        "unknown mask",
        "ratio in percent",
        "colour",
        "no flag",
    ],
)
def test_bad_input_ends_with_one_sentence_code_2_and_nothing_half_written(
    name: str, tmp_path: Path, phantom_set: Path, run_bundle: Run, small_weights: Path
) -> None:
    options, message = bad_cases(tmp_path, phantom_set)[name]
    options = {"ckpt_path": small_weights, "output_dir": tmp_path / "out", **SMALL, **options}
    ended = run_bundle(NAME, ["inference"], code=2, **options)
    assert message in ended.stderr
    assert "Traceback" not in ended.stderr + ended.stdout
    assert not list((tmp_path / "out").rglob("*.nii*")), "something was written"
