"""The compressive-sensing bundle through the command that a user types, on drawn images."""

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

from mdl_monai.networks.operator_admm_net import OperatorADMMNet
from mdl_monai.phantoms.dead_leaves import dead_leaves
from mdl_monai.physics.masked_transform import MaskedTransform
from mdl_monai.physics.orthonormal import Fourier

Run = Callable[..., subprocess.CompletedProcess[str]]
NAME = "natural_image_admm_compressive_sensing"
SMALL = {"stages": 2, "features": 8, "deep_features": 8, "levels": 2}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawn images: four to train on, two to validate and two to test, of other and odd sizes."""
    folder = tmp_path_factory.mktemp("drawn images")
    sizes = {"train": [(64, 64)] * 4, "val": [(64, 64), (45, 70)], "test": [(64, 64), (45, 70)]}
    listing: dict[str, list[dict[str, str]]] = {}
    for seed, (split, each) in enumerate(sizes.items()):
        listing[split] = []
        for n, (width, height) in enumerate(each):
            drawn = dead_leaves(max(width, height), np.random.default_rng([seed, n]))[:height, :width]
            Image.fromarray((drawn * 255).round().astype(np.uint8)).save(folder / f"{split}{n}.png")
            listing[split].append({"image": f"{split}{n}.png"})
    (folder / "dataset.json").write_text(json.dumps(listing), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def small_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "model.pt"
    torch.save(OperatorADMMNet(MaskedTransform(Fourier()), *SMALL.values()).state_dict(), path)
    return path


@pytest.mark.parametrize("sensing", ["gaussian", "hadamard", "diffraction", "fourier"])
def test_one_set_of_weights_serves_every_operator(
    sensing: str, images: Path, run_bundle: Run, tmp_path: Path
) -> None:
    run_bundle(
        NAME,
        ["inference", "evaluate"],
        dataset_dir=images,
        output_dir=tmp_path,
        sensing=sensing,
        sampling_ratio=0.3,
        baselines="true",
        n_pictures=1,
        baseline_networks__tv__iterations=5,
    )
    with (tmp_path / "metrics.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 4
    assert {r["method"] for r in rows} == {"OperatorADMMNet", "adjoint", "tv", "wavelet"}
    assert set(json.loads((tmp_path / "metrics_summary.json").read_text(encoding="utf-8"))) == {
        "psnr",
        "nmse",
        "ssim",
        "time_s",
    }
    baselines = json.loads((tmp_path / "baselines_summary.json").read_text(encoding="utf-8"))
    assert baselines["adjoint"]["psnr"]["difference"]["mean"] > (2 if sensing == "fourier" else 15)
    assert [p.suffix for p in (tmp_path / "pictures").iterdir()] == [".png"]


def test_training_writes_weights_that_reconstruct_an_image_of_odd_size_from_a_plain_folder(
    images: Path, run_bundle: Run, tmp_path: Path
) -> None:
    run_bundle(
        NAME,
        ["train"],
        dataset_dir=images,
        output_dir=tmp_path,
        val_split="val",
        crop_size=40,  # made whole blocks
        batch_size=2,
        max_epochs=1,
        val_interval=1,
        **SMALL,
    )
    state = torch.load(tmp_path / "model.pt", weights_only=True)
    assert {t.device.type for t in state.values()} == {"cpu"}
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["best"] > 0
    folder = tmp_path / "plain folder"
    folder.mkdir()
    (folder / "odd.png").write_bytes((images / "test1.png").read_bytes())
    run_bundle(
        NAME,
        ["inference"],
        dataset_dir=folder,
        output_dir=tmp_path / "out",
        ckpt_path=tmp_path / "model.pt",
        sampling_ratio=1.0,
        **SMALL,
    )
    after = nib.load(tmp_path / "out" / "predictions" / "odd.nii.gz")
    before = np.asarray(Image.open(folder / "odd.png")).T  # MONAI reads the column first
    assert after.shape == before.shape == (45, 70) and after.get_data_dtype() == np.float32
    # everything was measured, and the last data step takes the most of it
    assert np.abs(after.get_fdata() - before).mean() < 10
    written = [p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*.*")]
    assert sorted(written) == ["pictures/odd.png", "predictions/odd.nii.gz", "run.json"]


def test_two_processes_train_and_evaluate_as_one(
    images: Path, run_bundle: Run, one_and_two: Callable[..., list[Any]], tmp_path: Path, small_weights: Path
) -> None:
    run_bundle(
        NAME,
        ["train", "multi_gpu_train"],
        processes=2,
        dataset_dir=images,
        output_dir=tmp_path / "train",
        val_split="val",
        crop_size=32,
        batch_size=1,
        max_epochs=1,
        val_interval=1,
        **SMALL,
    )
    assert not any(k.startswith("module.") for k in torch.load(tmp_path / "train" / "model.pt"))
    one_and_two(
        NAME, tmp_path, keys=("psnr",), count=4, dataset_dir=images, split="['test', 'val']",
        ckpt_path=small_weights, **SMALL,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sensing": "radon"}, "unknown sensing"),
        ({"sampling_ratio": 25}, "not a share"),
        ({"stages": 3}, "another architecture"),
        ({"split": "tset"}, "unknown split 'tset'"),
    ],
    ids=["operator", "ratio in percent", "weights", "split"],
)
def test_bad_input_ends_with_one_sentence_and_code_2(
    options: dict[str, object],
    message: str,
    images: Path,
    run_bundle: Run,
    small_weights: Path,
    tmp_path: Path,
) -> None:
    options = {"dataset_dir": images, "ckpt_path": small_weights, **SMALL, **options}
    ended = run_bundle(NAME, ["inference"], code=2, output_dir=tmp_path, **options)
    assert message in ended.stderr and "Traceback" not in ended.stderr + ended.stdout
    assert not list(tmp_path.rglob("*.nii*"))


def test_the_expected_error_is_trained_and_shown_beside_the_image(
    images: Path, small_weights: Path, run_bundle: Run, tmp_path: Path
) -> None:
    run_bundle(
        NAME, ["train", "train_uncertainty"], dataset_dir=images, output_dir=tmp_path, val_split="val", max_epochs=1,
        val_interval=1, crop_size=32, pretrained=small_weights, train_sensings="['fourier']", **SMALL,
    )  # fmt: skip
    run_bundle(
        NAME, ["inference", "evaluate", "uncertainty"], dataset_dir=images, output_dir=tmp_path / "out",
        ckpt_path=tmp_path / "model.pt", **SMALL,
    )  # fmt: skip
    assert json.loads((tmp_path / "out" / "reliability.json").read_text(encoding="utf-8"))["cases"] == 2
    image, sigma = (nib.load(tmp_path / "out" / f / "test1.nii.gz") for f in ("predictions", "uncertainty"))
    assert image.shape == sigma.shape == (45, 70)
    run_bundle(
        NAME, ["inference", "evaluate", "uncertainty"], dataset_dir=images, output_dir=tmp_path / "scaled",
        ckpt_path=tmp_path / "model.pt", sigma_scale=tmp_path / "out" / "reliability.json", baselines="true",
        baseline_networks__tv__iterations=2, baseline_networks__wavelet__iterations=2, **SMALL,
    )  # fmt: skip
    scaled = json.loads((tmp_path / "scaled" / "reliability.json").read_text(encoding="utf-8"))
    assert scaled["error_to_sigma"] == pytest.approx(1, abs=1e-3)


def test_the_shipped_uncertainty_is_of_the_shipped_network() -> None:
    folder = Path(__file__).parents[2] / "bundles" / NAME / "models"
    whole, alone = (torch.load(folder / f, weights_only=True) for f in ("uncertainty.pt", "model.pt"))
    assert all(torch.equal(whole[f"network.{name}"], value) for name, value in alone.items())
