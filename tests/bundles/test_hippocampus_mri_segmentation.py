"""The segmentation bundle through the command that a user types, on phantom hippocampi."""

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
from monai.bundle import ConfigParser
from monai.transforms import Compose
from nibabel.processing import resample_to_output
from scipy.ndimage import gaussian_filter, map_coordinates

from mdl_monai.networks.vnet import VNet
from mdl_monai.phantoms.head import head_phantom

Run = Callable[..., subprocess.CompletedProcess[str]]
NAME = "hippocampus_mri_segmentation"
CONFIGS = Path(__file__).resolve().parents[2] / "bundles" / NAME / "configs"
BOX = (slice(28, 46), slice(10, 34), slice(4, 22))  # the right hippocampus with its surroundings, 2 mm


def crop(subject: int) -> tuple[nib.Nifti1Image, nib.Nifti1Image]:
    head = head_phantom(subject, (48, 48, 48), (2.0, 2.0, 2.0))
    affine = head.affine.numpy().copy()
    affine[:3, 3] += affine[:3, :3] @ [s.start for s in BOX]
    image = nib.Nifti1Image(head.mr[BOX].numpy() * 1.7e6, affine)
    return image, nib.Nifti1Image(head.hippocampus[BOX].numpy(), affine)


def reoriented(image: nib.Nifti1Image, axes: str) -> nib.Nifti1Image:
    now, then = nib.io_orientation(image.affine), nib.orientations.axcodes2ornt(axes)
    return image.as_reoriented(nib.orientations.ornt_transform(now, then))


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One crop in three orientations, and oblique with other voxels; and five more to train on."""
    folder = tmp_path_factory.mktemp("crops")
    listing: dict[str, list[dict[str, str]]] = {"train": [], "val": [], "test": [], "turned": []}

    def save(split: str, name: str, pair: tuple[nib.Nifti1Image, nib.Nifti1Image]) -> None:
        for image, suffix in zip(pair, ("", "_label"), strict=True):
            nib.save(image, folder / f"{name}{suffix}.nii.gz")
        listing[split].append({"image": f"{name}.nii.gz", "label": f"{name}_label.nii.gz", "patient": name})

    pair = crop(0)
    for axes in ("RAS", "LPS", "IAL"):
        image, label = (reoriented(i, axes) for i in pair)
        save("turned", axes, (image, label))
    turn = np.array([[0.96, -0.28, 0, 5], [0.28, 0.96, 0, 3], [0, 0, 1, -7], [0, 0, 0, 1]])
    voxels = np.diag([1.0, 0.7, 1.9, 1.0])
    oblique = tuple(nib.Nifti1Image(np.asanyarray(i.dataobj), turn @ i.affine @ voxels) for i in pair)
    save("test", "oblique", oblique)
    for subject in range(1, 6):
        save("val" if subject == 5 else "train", f"s{subject}", crop(subject))
    (folder / "dataset.json").write_text(
        json.dumps({**listing, "labels": {"1": "anterior", "2": "posterior"}})
    )
    return folder


@pytest.fixture(scope="module")
def random_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "model.pt"
    torch.manual_seed(0)
    torch.save(VNet(3, 1, 3, (4, 8)).state_dict(), path)
    return path


def test_results_lie_on_the_input_whatever_its_orientation_and_spacing(
    crops: Path, run_bundle: Run, tmp_path: Path, random_weights: Path
) -> None:
    run_bundle(
        NAME,
        ["inference", "evaluate"],
        dataset_dir=crops,
        split="['turned', 'test']",
        output_dir=tmp_path,
        ckpt_path=random_weights,
        features="[4, 8]",
    )
    upright = {}
    for name in ("RAS", "LPS", "IAL", "oblique"):
        given, found = (nib.load(f / f"{name}.nii.gz") for f in (crops, tmp_path / "predictions"))
        assert found.shape == given.shape and found.get_data_dtype() == np.uint8
        np.testing.assert_allclose(found.affine, given.affine, atol=1e-4)
        upright[name] = np.asarray(reoriented(found, "RAS").dataobj)
        assert set(np.unique(upright[name])) <= {0, 1, 2} and upright[name].any()
    for name in ("LPS", "IAL"):
        # the network's sums run over another memory layout, which may turn a voxel on the border
        assert (upright[name] != upright["RAS"]).mean() < 1e-3
    with (tmp_path / "metrics.csv").open() as file:
        rows = {row["case"]: row for row in csv.DictReader(file)}
    assert float(rows["IAL"]["dice_1"]) == pytest.approx(float(rows["RAS"]["dice_1"]), abs=0.01)
    summary = json.loads((tmp_path / "metrics_summary.json").read_text(encoding="utf-8"))
    expected = [f"{m}_{n}" for n in (1, 2) for m in ("dice", "hd95", "asd", "volume_ml")]
    assert list(summary) == [*expected, "dice_mean", "time_s"] and summary["dice_1"]["count"] == 4
    assert sorted(p.stem for p in (tmp_path / "pictures").iterdir()) == ["IAL", "LPS", "RAS", "oblique"]


def test_the_shipped_weights_find_the_hippocampus_on_any_grid(
    run_bundle: Run, tmp_path: Path, data_root: Path
) -> None:
    """A volume of the training list, which tells of the way and not of the network, on four grids."""
    if not (data_root / "hippocampus" / "dataset.json").is_file():
        pytest.skip("the hippocampus set is not there")
    record = json.loads((data_root / "hippocampus" / "dataset.json").read_text(encoding="utf-8"))["train"][0]
    pair = [nib.load(data_root / "hippocampus" / record[key]) for key in ("image", "label")]
    turn = np.array([[0.96, -0.28, 0, 5], [0.28, 0.96, 0, 3], [0, 0, 1, -7], [0, 0, 0, 1]])
    fine = [resample_to_output(i, (1.3, 0.7, 1.1), order=1 - n, mode="nearest") for n, i in enumerate(pair)]
    grids = {
        "given": pair,
        "PIL": [reoriented(i, "PIL") for i in pair],
        "oblique": [nib.Nifti1Image(np.asarray(i.dataobj), turn @ i.affine) for i in pair],
        "oblique_other_voxels_LPS": [
            reoriented(nib.Nifti1Image(np.asarray(i.dataobj), turn @ i.affine), "LPS") for i in fine
        ],
    }
    listing = []
    for name, images in grids.items():
        for image, suffix in zip(images, ("", "_label"), strict=True):
            nib.save(image, tmp_path / f"{name}{suffix}.nii.gz")
        listing.append({"image": f"{name}.nii.gz", "label": f"{name}_label.nii.gz"})
    (tmp_path / "dataset.json").write_text(json.dumps({"test": listing}))
    run_bundle(
        NAME, ["inference", "evaluate"], dataset_dir=tmp_path, output_dir=tmp_path / "out", n_pictures=0
    )
    with (tmp_path / "out" / "metrics.csv").open() as file:
        dice = {row["case"]: float(row["dice_mean"]) for row in csv.DictReader(file)}
    assert dice.pop("oblique_other_voxels_LPS") > 0.85, "image and reference are themselves resampled"
    assert len(dice) == 3 and min(dice.values()) > 0.9, dice
    assert dice["PIL"] == pytest.approx(dice["given"], abs=0.005)


@pytest.mark.parametrize("axes", ["RAS", "LPI"])
def test_the_way_to_the_networks_grid_and_back_agrees_with_sampling_at_world_points(
    tmp_path: Path, axes: str
) -> None:
    turn = np.array([[0.96, -0.28, 0, 5], [0.28, 0.96, 0, 3], [0, 0, 1, -7], [0, 0, 0, 1]])
    smooth = gaussian_filter(np.random.default_rng(0).normal(size=(24, 31, 18)), 2).astype(np.float32)
    given = reoriented(nib.Nifti1Image(smooth, turn @ np.diag([1.3, 0.7, 1.1, 1])), axes)
    nib.save(given, tmp_path / "image.nii.gz")
    config = ConfigParser()
    config.read_config([CONFIGS / "common.yaml", CONFIGS / "inference.yaml"])
    config["bundle_root"] = str(CONFIGS.parent)
    way = Compose(config.get_parsed_content("preprocessing").transforms[:4])  # the grey values come after
    made = way({"image": str(tmp_path / "image.nii.gz"), "case": "image"})

    def sampled(
        values: np.ndarray, source: np.ndarray, target: np.ndarray, shape: tuple[int, ...]
    ) -> np.ndarray:
        voxels = np.stack([*np.indices(shape).reshape(3, -1), np.ones(np.prod(shape))])
        places = (np.linalg.inv(source) @ target @ voxels)[:3]
        return map_coordinates(values, places, order=1, mode="nearest").reshape(shape)

    image = made["image"]
    there, grid = np.asarray(image[0]), np.asarray(image.affine)
    expected = sampled(np.asarray(given.dataobj), given.affine, grid, there.shape)
    assert np.abs(there - expected).max() < 1e-5 * expected.std()
    back = np.asarray(way.inverse({"image": image})["image"][0])
    expected = sampled(there, grid, given.affine, given.shape)
    assert np.abs(back - expected).max() < 1e-5 * expected.std()


def test_other_data_trains_by_options_alone_and_the_weights_remember_it(
    run_bundle: Run, tmp_path: Path
) -> None:
    """Stacks of six thick slices with labels 1 and 4, in folders of equal names."""
    data = tmp_path / "stacks"
    for sub in ("imagesTr", "labelsTr", "imagesTs", "labelsTs"):
        (data / sub).mkdir(parents=True)
    for subject in range(4):
        image, label = crop(subject)
        part = "Ts" if subject == 3 else "Tr"
        affine = image.affine @ np.diag([1, 1, 3, 1])
        values = np.where(np.asarray(label.dataobj) == 2, 4, np.asarray(label.dataobj))[:, :, 1::3]
        assert values.shape[-1] == 6
        nib.save(
            nib.Nifti1Image(np.asarray(image.dataobj)[:, :, 1::3], affine),
            data / f"images{part}/{subject}.nii",
        )
        nib.save(nib.Nifti1Image(values.astype(np.int16), affine), data / f"labels{part}/{subject}.nii")
    run = tmp_path / "run"
    run_bundle(
        NAME, ["train"], dataset_dir=data, output_dir=run, max_epochs=3, batch_size=2, features="[4, 8]",
        val_fraction=0.3, val_interval=2,
    )  # fmt: skip
    plan = json.loads((run / "plan.json").read_text(encoding="utf-8"))
    assert plan["labels"] == [1, 4] and plan["spacing"] == [2, 2, 6] and plan["patch_size"] == [18, 24, 6]
    split = json.loads((run / "split.json").read_text(encoding="utf-8"))
    assert len(split["train"]) == 2 and len(split["val"]) == 1
    assert {t.device.type for t in torch.load(run / "model.pt", weights_only=True).values()} == {"cpu"}
    run_bundle(
        NAME,
        ["inference", "evaluate"],
        dataset_dir=data,
        split="test",
        output_dir=run,
        ckpt_path=run / "model.pt",
    )
    values = set(np.unique(nib.load(run / "predictions" / "3.nii.gz").dataobj))
    assert values <= {0, 1, 4} and values != {0}
    assert "dice_4" in json.loads((run / "metrics_summary.json").read_text(encoding="utf-8"))


def test_a_folder_of_images_gets_label_maps_pictures_and_volumes(
    crops: Path, run_bundle: Run, tmp_path: Path, random_weights: Path
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.nii.gz").write_bytes((crops / "RAS.nii.gz").read_bytes())
    run_bundle(
        NAME, ["inference"], dataset_dir=tmp_path / "in", output_dir=tmp_path / "out", ckpt_path=random_weights,
        features="[4, 8]",
    )  # fmt: skip
    written = sorted(p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*.*"))
    assert written == [
        "metrics.csv", "metrics_summary.json", "pictures/a.png", "predictions/a.nii.gz", "run.json",
    ]  # fmt: skip
    summary = json.loads((tmp_path / "out" / "metrics_summary.json").read_text(encoding="utf-8"))
    assert list(summary) == ["volume_ml_1", "volume_ml_2", "time_s"]
    values = np.asarray(nib.load(tmp_path / "out" / "predictions" / "a.nii.gz").dataobj)
    assert (values == 1).any()
    assert summary["volume_ml_1"]["mean"] == pytest.approx((values == 1).sum() * 8 / 1000)


def test_two_processes_train_and_evaluate_as_one(
    crops: Path, run_bundle: Run, one_and_two: Callable[..., list[Any]], tmp_path: Path
) -> None:
    run_bundle(
        NAME, ["train", "multi_gpu_train"], processes=2, dataset_dir=crops, output_dir=tmp_path,
        val_split="val", max_epochs=1, batch_size=1, val_interval=1, features="[4, 8]",
    )  # fmt: skip
    assert not any(k.startswith("module.") for k in torch.load(tmp_path / "model.pt"))
    one_and_two(
        NAME, tmp_path, keys=("dice_mean", "dice_1", "dice_2", "volume_ml_1"), count=5, dataset_dir=crops,
        split="['train', 'val']", ckpt_path=tmp_path / "model.pt", n_pictures=0,
    )  # fmt: skip


@pytest.mark.slow
def test_a_discriminator_on_the_label_maps_trains_beside_the_network(
    crops: Path, run_bundle: Run, tmp_path: Path
) -> None:
    trained = run_bundle(
        NAME, ["train", "train_adversarial"], dataset_dir=crops, output_dir=tmp_path, val_split="val", max_epochs=1,
        batch_size=2, features="[4, 8]", tensorboard="true",
    )  # fmt: skip
    assert "discriminator_loss" in trained.stderr + trained.stdout
    checkpoint = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert {"discriminator", "discriminator_optimizer"} < set(checkpoint)
    expected = VNet(3, 1, 3, (4, 8)).state_dict()
    assert list(torch.load(tmp_path / "model.pt", weights_only=True)) == list(expected)


def bad_cases(folder: Path, crops: Path) -> dict[str, tuple[str, dict[str, object], str]]:
    """The workflow, options that cannot work, and what the one sentence must say."""
    image = nib.load(crops / "s1.nii.gz")
    values = np.asarray(image.dataobj)
    for name, array in {
        "film": np.ones((4, 4, 2, 3), np.float32),
        "holes": np.where(values == values.max(), np.nan, values),
        "good": values,
    }.items():
        (folder / name).mkdir()
        nib.save(nib.Nifti1Image(array, image.affine), folder / name / "a.nii.gz")
    (folder / "empty").mkdir()
    label = np.zeros(values.shape, np.uint8)
    label[3:5] = 7
    nib.save(nib.Nifti1Image(label, image.affine), folder / "good" / "seven.nii.gz")
    nib.save(nib.Nifti1Image(label[:9], image.affine), folder / "good" / "short.nii.gz")
    for name in ("seven", "short"):
        listing = {"test": [{"image": "a.nii.gz", "label": f"{name}.nii.gz"}]}
        (folder / name).mkdir()
        record = {k: str(folder / "good" / v) for k, v in listing["test"][0].items()}
        (folder / name / "dataset.json").write_text(json.dumps({"test": [record]}))
    torch.save(VNet(3, 1, 5, (4, 8)).state_dict(), folder / "other.pt")
    return {
        "4D image": ("inference", {"dataset_dir": folder / "film"}, "wrong number of axes"),
        "empty folder": ("inference", {"dataset_dir": folder / "empty"}, "holds no images"),
        "NaN": ("inference", {"dataset_dir": folder / "holes"}, "NaN or infinite"),
        "other weights": (
            "inference",
            {"dataset_dir": crops, "ckpt_path": folder / "other.pt"},
            "another architecture",
        ),
        "spacing of two axes": (
            "inference",
            {"dataset_dir": crops, "spacing": "[1, 1]"},
            "spacing is no list",
        ),
        "label of another shape": (
            "evaluate",
            {"dataset_dir": folder / "short"},
            "another shape than its image",
        ),
        "unknown label": ("evaluate", {"dataset_dir": folder / "seven"}, "unknown label"),
        "no label key": ("evaluate", {"dataset_dir": crops, "label_key": "mask"}, "a record has no 'mask'"),
        "label that no case holds": (
            "train",
            {"dataset_dir": crops, "labels": "[1, 2, 3]"},
            "no case holds a label",
        ),
        "unknown label in training": ("train", {"dataset_dir": crops, "labels": "[1]"}, "unknown label"),
    }


@pytest.mark.parametrize(
    "name",
    [
        "4D image", "empty folder", "NaN", "other weights", "spacing of two axes", "label of another shape",
        "unknown label", "no label key", "label that no case holds", "unknown label in training",
    ],
)  # fmt: skip
def test_bad_input_ends_with_one_sentence_code_2_and_nothing_half_written(
    name: str, crops: Path, run_bundle: Run, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    workflow, options, message = bad_cases(tmp_path / "in", crops)[name]
    overlays = {"inference": ["inference"], "evaluate": ["inference", "evaluate"], "train": ["train"]}[
        workflow
    ]
    ended = run_bundle(NAME, overlays, output_dir=tmp_path / "out", code=2, **options)
    assert message in ended.stderr and "Traceback" not in ended.stderr + ended.stdout
    assert {p.name for p in (tmp_path / "out").rglob("*.*")} <= {"run.json"}, "something was written"
