"""The multi-coil bundle through the command that a user types."""

from __future__ import annotations

import csv
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import nibabel as nib
import numpy as np
import pytest
import torch

from mdl_monai.phantoms.head import head_phantom
from mdl_monai.physics.coils import simulated_coil_maps
from mdl_monai.physics.fourier import fft2c

Run = Callable[..., subprocess.CompletedProcess[str]]
NAME = "brain_mri_multicoil_admm_reconstruction"
SHIPPED = Path(__file__).parents[2] / "bundles" / NAME / "models"


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fully sampled scan of two slices with four coils, without maps."""
    folder = tmp_path_factory.mktemp("scan")
    image = head_phantom(0, (72, 64, 2), (3.0, 3.3, 20.0)).mr.permute(2, 0, 1)[:, None]
    with h5py.File(folder / "scan.h5", "w") as file:
        file["kspace"] = fft2c(image * simulated_coil_maps(4, (72, 64))).numpy()
    return folder


def test_shipped_weights_beat_zero_filling_on_simulated_coils(
    phantom_set: Path, run_bundle: Run, tmp_path: Path
) -> None:
    run_bundle(
        NAME, ["inference", "evaluate"], dataset_dir=phantom_set, split="['test', 'volume']", output_dir=tmp_path,
        sampling_ratio=0.3, coils=4, baselines="true", baseline_networks__tv__iterations=5,
        baseline_networks__wavelet__iterations=5, baseline_networks__wavelet_smooth_phase__iterations=5,
    )  # fmt: skip
    with (tmp_path / "metrics.csv").open(encoding="utf-8") as file:
        methods = [row["method"] for row in csv.DictReader(file)]
    assert {m: methods.count(m) for m in methods} == dict.fromkeys(
        ("OperatorADMMNet", "zero_filled", "cg_sense", "tv", "wavelet", "wavelet_smooth_phase"), 5
    )
    baselines = json.loads((tmp_path / "baselines_summary.json").read_text(encoding="utf-8"))
    assert baselines["zero_filled"]["psnr"]["difference"]["ci95_low"] > 2
    before, after = (
        nib.load(f) for f in (phantom_set / "thick.nii.gz", tmp_path / "predictions/thick.nii.gz")
    )
    assert after.shape == before.shape
    np.testing.assert_allclose(after.affine, before.affine, atol=1e-4)
    error = np.linalg.norm(after.get_fdata() - before.get_fdata()) / np.linalg.norm(before.get_fdata())
    assert error < 0.2
    assert len(list((tmp_path / "pictures").iterdir())) == 5


def test_raw_kspace_is_reconstructed_with_estimated_maps(scan: Path, run_bundle: Run, tmp_path: Path) -> None:
    run_bundle(
        NAME, ["inference", "evaluate", "kspace"], dataset_dir=scan, output_dir=tmp_path, retrospective="true",
        sampling_ratio=0.4,
    )  # fmt: skip
    summary = json.loads((tmp_path / "metrics_summary.json").read_text(encoding="utf-8"))
    assert summary["psnr"]["mean"] > 28
    assert nib.load(tmp_path / "predictions" / "scan.nii.gz").shape == (72, 64, 2)


def test_raw_kspace_without_the_overlay_tells_of_it(scan: Path, run_bundle: Run, tmp_path: Path) -> None:
    ended = run_bundle(NAME, ["inference"], dataset_dir=scan, output_dir=tmp_path, code=2)
    assert "OVERLAY=kspace" in ended.stderr and "Traceback" not in ended.stderr


def test_the_expected_error_is_trained_and_shown_beside_the_image(
    phantom_set: Path, run_bundle: Run, tmp_path: Path
) -> None:
    run_bundle(
        NAME, ["train", "train_uncertainty"], dataset_dir=phantom_set, output_dir=tmp_path, val_split="val",
        max_epochs=1, val_interval=1, crop_size=32, coils=2, train_coils="[2]", network_def__stages=8,
    )  # fmt: skip
    whole, shipped = (torch.load(f, weights_only=True) for f in (tmp_path / "model.pt", SHIPPED / "model.pt"))
    assert all(torch.equal(whole[f"network.{name}"], value) for name, value in shipped.items())
    run_bundle(
        NAME, ["inference", "evaluate", "uncertainty"], dataset_dir=phantom_set, split="volume", coils=2,
        output_dir=tmp_path / "out", ckpt_path=tmp_path / "model.pt",
    )  # fmt: skip
    image, sigma = (nib.load(tmp_path / "out" / f / "thick.nii.gz") for f in ("predictions", "uncertainty"))
    assert image.shape == sigma.shape and np.allclose(image.affine, sigma.affine)
    assert sigma.get_fdata().min() > 0
    assert json.loads((tmp_path / "out" / "reliability.json").read_text(encoding="utf-8"))["cases"] == 1
    assert (tmp_path / "out" / "reliability.png").is_file()


def test_two_processes_train_the_head_and_plot_all_cases(
    phantom_set: Path, run_bundle: Run, one_and_two: Callable[..., list[Any]], tmp_path: Path
) -> None:
    run_bundle(
        NAME, ["train", "train_uncertainty", "multi_gpu_train"], processes=2, dataset_dir=phantom_set,
        output_dir=tmp_path, val_split="val", max_epochs=1, val_interval=1, crop_size=32, coils=2, train_coils="[2]",
        batch_size=2,
    )  # fmt: skip
    head = torch.load(tmp_path / "model.pt", weights_only=True)["head.cnn.tail.weight"]
    assert head.abs().max() > 0  # it starts at 0
    one, two = one_and_two(
        NAME, tmp_path, ["uncertainty"], "reliability.json", dataset_dir=phantom_set, split="['test', 'volume']",
        coils=2, ckpt_path=tmp_path / "model.pt",
    )  # fmt: skip
    assert two["cases"] == one["cases"] == 5
    assert two["error_to_sigma"] == pytest.approx(one["error_to_sigma"], rel=1e-4)


def test_weights_without_a_head_are_refused(phantom_set: Path, run_bundle: Run, tmp_path: Path) -> None:
    ended = run_bundle(
        NAME, ["inference", "uncertainty"], dataset_dir=phantom_set, split="volume", output_dir=tmp_path, coils=2,
        ckpt_path=SHIPPED / "model.pt", code=2,
    )  # fmt: skip
    assert "another architecture" in ended.stderr and "Traceback" not in ended.stderr


def test_the_shipped_uncertainty_is_of_the_shipped_network() -> None:
    whole, alone = (torch.load(SHIPPED / f, weights_only=True) for f in ("uncertainty.pt", "model.pt"))
    assert all(torch.equal(whole[f"network.{name}"], value) for name, value in alone.items())


def test_radial_sampling_off_the_grid_is_an_overlay(
    phantom_set: Path, run_bundle: Run, tmp_path: Path
) -> None:
    pytest.importorskip("torchkbnufft", reason="the extra noncartesian is not installed")
    run_bundle(
        NAME, ["inference", "evaluate", "radial"], dataset_dir=phantom_set, split="volume", output_dir=tmp_path,
        coils=3, spokes=24, samples=128, baselines="true", baseline_networks__tv__iterations=3,
        baseline_networks__wavelet__iterations=3, baseline_networks__wavelet_smooth_phase__iterations=3,
    )  # fmt: skip
    baselines = json.loads((tmp_path / "baselines_summary.json").read_text(encoding="utf-8"))
    assert baselines["zero_filled"]["psnr"]["difference"]["mean"] > 3


def test_training_runs_and_its_weights_are_used(phantom_set: Path, run_bundle: Run, tmp_path: Path) -> None:
    small = {"network_def__stages": 2, "network_def__features": 6, "network_def__deep_features": 6}
    run_bundle(
        NAME, ["train"], dataset_dir=phantom_set, output_dir=tmp_path, val_split="val", max_epochs=2, val_interval=1,
        crop_size=32, coils=2, train_coils="[1, 2]", **small,
    )  # fmt: skip
    weights = torch.load(tmp_path / "model.pt", weights_only=True)
    assert all(torch.isfinite(value).all() for value in weights.values())
    run_bundle(
        NAME, ["inference"], dataset_dir=phantom_set, split="volume", output_dir=tmp_path / "out", coils=2,
        ckpt_path=tmp_path / "model.pt", **small,
    )  # fmt: skip
    assert (tmp_path / "out" / "predictions" / "thick.nii.gz").is_file()


def test_training_takes_complex_images_and_the_users_mask(
    scan: Path, run_bundle: Run, tmp_path: Path
) -> None:
    image = head_phantom(1, (40, 36, 2), (5.0, 5.5, 20.0)).mr.permute(2, 0, 1)[:, None]
    phase = torch.polar(torch.ones(40, 36), torch.linspace(-2, 2, 40)[:, None] + torch.zeros(36))
    for name, slices in (("a", 2), ("b", 2), ("c", 1)):
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            file["kspace"] = fft2c(image * phase)[:slices].numpy()
    listing = {"train": [{"kspace": "a.h5"}, {"kspace": "c.h5"}], "val": [{"kspace": "b.h5"}]}
    (tmp_path / "dataset.json").write_text(json.dumps(listing), encoding="utf-8")
    np.save(tmp_path / "mask.npy", np.arange(36)[None].repeat(40, 0) % 3 == 0)
    options = {
        "dataset_dir": tmp_path, "image_key": "kspace", "val_split": "val", "max_epochs": 1, "val_interval": 1,
        "batch_size": 2, "crop_size": 0, "coils": 2, "train_coils": 2, "mask_file": tmp_path / "mask.npy",
        "network_def__stages": 2, "network_def__features": 6, "network_def__deep_features": 6,
    }  # fmt: skip
    run_bundle(NAME, ["train"], output_dir=tmp_path / "out", **options)
    assert (tmp_path / "out" / "model.pt").is_file()
    np.save(tmp_path / "mask.npy", np.ones((36, 40), bool))
    ended = run_bundle(NAME, ["train"], code=2, output_dir=tmp_path / "other", **options)
    assert (
        "another size" in ended.stderr and "--crop_size 0" in ended.stderr and "Traceback" not in ended.stderr
    )
    listing["train"] = [{"kspace": str(scan / "scan.h5")}]
    (tmp_path / "dataset.json").write_text(json.dumps(listing), encoding="utf-8")
    ended = run_bundle(NAME, ["train"], code=2, output_dir=tmp_path / "coils", **options)
    assert (
        "no complex image" in ended.stderr and "4 coils" in ended.stderr and "Traceback" not in ended.stderr
    )
