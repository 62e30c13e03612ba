"""The arms of MR to CT: two steps of each on phantom slices, then inference by naming the weights alone."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from ignite.engine import Events
from monai.bundle import ConfigWorkflow

from mdl_monai.phantoms.head import head_phantom

Run = Callable[..., subprocess.CompletedProcess[str]]
NAME = "brain_mr_to_ct_synthesis"
CONFIGS = Path(__file__).resolve().parents[2] / "bundles" / NAME / "configs"
ARMS = {
    "cyclegan": ["train_cyclegan"],
    "sc_cyclegan": ["train_cyclegan", "train_sc_cyclegan"],
    "cyclegan_paired": ["train_cyclegan", "train_cyclegan_paired"],
    "self_inverse": ["train_cyclegan", "train_cyclegan_paired", "train_self_inverse"],
    "nie": ["train_nie"],
}
CYCLEGANS = [arm for arm in ARMS if arm != "nie"]
MM = 5.0
TINY = {
    "spacing": [MM] * 3, "patch_size": [32, 36], "batch_size": 1, "max_epochs": 1, "discriminator_channels": 4
}  # fmt: skip
TINY_RESNET = {**TINY, "features": 4, "n_blocks": 1, "upsampling": "resize"}

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def slices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MR and CT of middle slices: two subjects to train on, one each to validate and to test."""
    folder = tmp_path_factory.mktemp("slices")
    listing: dict[str, list[dict[str, str]]] = {"train": [], "val": [], "test": []}
    for subject, split in enumerate(("train", "train", "val", "test")):
        for view, shape in {"axial": (37, 45, 1), "sagittal": (1, 45, 41)}.items():
            head = head_phantom(subject, shape, (MM, MM, MM))
            record = {"patient": f"p{subject}", "view": view}
            for key, image in {"mr": head.mr * 700, "ct": head.ct, "mask": (head.tissue > 0).float()}.items():
                record[key] = f"p{subject}_{view}_{key}.nii.gz"
                nib.save(nib.Nifti1Image(image.numpy(), head.affine.numpy()), folder / record[key])
            listing[split].append(record)
    (folder / "dataset.json").write_text(json.dumps(listing))
    return folder


def workflow(overlays: list[str], **options: Any) -> ConfigWorkflow:
    """As `monai.bundle run` does it, in this process."""
    made = ConfigWorkflow(
        workflow_type="train" if "train" in overlays else "infer",
        config_file=[str(CONFIGS / f"{name}.yaml") for name in ("common", *overlays)],
        logging_file=False,
        bundle_root=str(CONFIGS.parent),
        progress=False,
        device="cpu",
        **{key: str(value) if isinstance(value, Path) else value for key, value in options.items()},
    )
    made.initialize()
    # metadata is the matter of the release checks
    made.properties = {k: v for k, v in made.properties.items() if not v["id"].startswith("_meta_")}
    assert not made.check_properties()
    return made


@pytest.fixture(scope="module")
def trained(slices: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Folder of an arm that was trained for two steps."""
    folders: dict[str, Path] = {}

    def train(arm: str) -> Path:
        if arm not in folders:
            folders[arm] = tmp_path_factory.mktemp(arm)
            made = workflow(
                ["train", *ARMS[arm]], dataset_dir=slices, output_dir=folders[arm], view="axial",
                **(TINY if arm == "nie" else TINY_RESNET),
            )  # fmt: skip
            made.run()
            trainer = made.parser.get_parsed_content("train#trainer")
            assert trainer.state.iteration == 2
            assert all(np.isfinite(value) for value in trainer.state.metrics.values())
            made.finalize()
        return folders[arm]

    return train


def parts(folder: Path) -> set[str]:
    return set(torch.load(folder / "checkpoint.pt", weights_only=True))


def states(folder: Path) -> list[dict[str, torch.Tensor]]:
    return [torch.load(folder / name, weights_only=True) for name in ("model.pt", "reverse.pt")]


@pytest.mark.parametrize("arm", ARMS)
def test_inference_follows_each_arm_by_its_weights_alone(
    arm: str, slices: Path, trained: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = trained(arm)
    made = workflow(
        ["inference", "evaluate"], dataset_dir=slices, output_dir=tmp_path, ckpt_path=folder / "model.pt"
    )
    made.run()
    network = made.parser.get_parsed_content("network")
    for name, values in torch.load(folder / "model.pt", weights_only=True).items():
        assert torch.equal(network.state_dict()[name], values)
    for view in ("axial", "sagittal"):
        given = nib.load(slices / f"p3_{view}_mr.nii.gz")
        found = nib.load(tmp_path / "predictions" / f"p3_{view}_mr.nii.gz")
        assert found.shape == given.shape and found.get_data_dtype() == np.int16
        record = json.loads((tmp_path / "quality" / f"p3_{view}_mr.json").read_text(encoding="utf-8"))
        assert "mind_residual_mean" in record and "cycle_error_mean" not in record
        residual = nib.load(tmp_path / "mind_residual" / f"p3_{view}_mr.nii.gz")
        assert residual.shape == given.shape and 0 < residual.get_fdata().max() <= 1
    assert "mae" in json.loads((tmp_path / "metrics_summary.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("arm", CYCLEGANS)
def test_plan_and_checkpoint_hold_what_the_arm_is(arm: str, trained: Callable[[str], Path]) -> None:
    folder = trained(arm)
    assert json.loads((folder / "plan.json").read_text(encoding="utf-8")) == {
        "generator": "resnet", "spacing": [MM] * 3, "hu_range": [-1024, 3000], "features": 4, "n_blocks": 1,
        "upsampling": "resize",
    }  # fmt: skip
    there, back = states(folder)
    assert list(there) == list(back)
    assert all(torch.equal(there[k], back[k]) for k in there) == (arm == "self_inverse")
    checkpoint = torch.load(folder / "checkpoint.pt", weights_only=True)
    assert {k: v.shape for k, v in checkpoint["network"].items()} == {k: v.shape for k, v in there.items()}
    assert parts(folder) >= {
        "optimizer", "lr_scheduler", "reverse_network", "discriminators", "discriminator_optimizer",
        "discriminator_lr_scheduler", "pool_a", "pool_b",
    }  # fmt: skip
    assert checkpoint["optimizer"]["param_groups"][0]["betas"] == (0.5, 0.999)
    assert len(checkpoint["pool_a"]["images"]) == 2


def test_nie_starts_from_the_unet_and_keeps_its_discriminator(trained: Callable[[str], Path]) -> None:
    folder = trained("nie")
    assert json.loads((folder / "plan.json").read_text(encoding="utf-8"))["generator"] == "unet"
    assert {"discriminator", "discriminator_optimizer"} < parts(folder)
    assert not (folder / "reverse.pt").exists()


def test_the_way_back_maps_the_cycle_error(
    slices: Path, trained: Callable[[str], Path], tmp_path: Path
) -> None:
    """For the CycleGAN itself, and for a U-Net, to whose plan the other's size is unknown."""
    reverse = trained("cyclegan") / "reverse.pt"
    found = {}
    for arm in ("cyclegan", "nie"):
        made = workflow(
            ["inference"], dataset_dir=slices, output_dir=tmp_path / arm, ckpt_path=trained(arm) / "model.pt",
            reverse_ckpt=reverse, view="axial",
        )  # fmt: skip
        made.run()
        record = json.loads((tmp_path / arm / "quality" / "p3_axial_mr.json").read_text(encoding="utf-8"))
        found[arm] = record["cycle_error_mean"]
        network = made.parser.get_parsed_content("reverse")
        assert all(torch.equal(v, network.state_dict()[k]) for k, v in torch.load(reverse).items())
        error = nib.load(tmp_path / arm / "cycle_error" / "p3_axial_mr.nii.gz").get_fdata()
        assert error[error > 0].mean() == pytest.approx(record["cycle_error_mean"], rel=0.1)
    assert 0 < found["cyclegan"] != found["nie"] > 0


@pytest.mark.parametrize("arm", ["cyclegan", "sc_cyclegan"])
@pytest.mark.parametrize("position_based", [True, False])
def test_unpaired_arms_never_show_a_patient_to_himself(
    arm: str, position_based: bool, slices: Path, tmp_path: Path
) -> None:
    made = workflow(
        ["train", *ARMS[arm]], dataset_dir=slices, output_dir=tmp_path, position_based=position_based,
        **TINY_RESNET,
    )  # fmt: skip
    dataset = made.parser.get_parsed_content("train#dataset")
    records = dataset.a.data
    pairs = {(records[i]["subject"], records[i]["view"]) for i in range(4)}
    assert len(dataset) == 4 == len(pairs), "as many steps as on pairs"
    for index, partners in enumerate(dataset.partners):
        others = [dataset.b.data[n] for n in partners]
        assert {other["subject"] for other in others} == {"p0", "p1"} - {records[index]["subject"]}
        views = {records[index]["view"]} if position_based else {"axial", "sagittal"}
        assert {other["view"] for other in others} == views
    item = dataset[0]
    assert {key: tuple(value.shape) for key, value in item.items()} == dict.fromkeys(
        ("image", "mask_image", "label", "mask_label"), (1, 32, 36)
    )


def test_pairs_are_shown_as_pairs(slices: Path, tmp_path: Path) -> None:
    made = workflow(
        ["train", *ARMS["cyclegan_paired"]], dataset_dir=slices, output_dir=tmp_path, **TINY_RESNET
    )
    steps = {type(step).__name__ for step in made.parser.get_parsed_content("train#preprocessing").transforms}
    assert not steps & {"RandAdjustContrastd", "RandBiasFieldd", "RandGaussianNoised"}, (
        "no way back from them"
    )
    assert {"RandFlipd", "RandAffined", "RandViewSliced", "RandSpatialCropd", "SplitMaskd"} < steps
    item = made.parser.get_parsed_content("train#dataset")[0]
    assert torch.equal(item["mask_image"], item["mask_label"])
    inside = item["mask_label"][0] > 0.99
    image, label = item["image"][0][inside], item["label"][0][inside]
    bone = label > torch.quantile(label, 0.9)
    assert image[bone].mean() < image[~bone].mean(), "bone is dark in the MR image of the same head"


def test_the_rates_fall_in_the_second_half_of_equal_steps(slices: Path, tmp_path: Path) -> None:
    for arm in CYCLEGANS:
        made = workflow(
            ["train", *ARMS[arm]], dataset_dir=slices, output_dir=tmp_path, **TINY_RESNET | {"max_epochs": 3}
        )
        for name in ("lr_scheduler", "discriminator_lr_scheduler"):
            schedule = made.parser.get_parsed_content(name)
            assert schedule.total_steps == 12
        assert schedule.get_last_lr() == [0.0002]


class Stop(Exception):
    """A kill in mid-training."""


@pytest.mark.parametrize("arm", ["sc_cyclegan", "self_inverse"])
def test_a_killed_arm_goes_on_as_if_nothing_had_been(arm: str, slices: Path, tmp_path: Path) -> None:
    def train(folder: str, stop: bool = False, **options: Any) -> dict[str, Any]:
        made = workflow(
            ["train", *ARMS[arm]], dataset_dir=slices, output_dir=tmp_path / folder, view="axial",
            **TINY_RESNET | {"max_epochs": 2, "pool_size": 1} | options,
        )  # fmt: skip
        if stop:
            trainer = made.parser.get_parsed_content("train#trainer")

            @trainer.on(Events.ITERATION_COMPLETED(once=3))
            def kill() -> None:
                raise Stop

            with pytest.raises(Stop):
                trainer.run()
        else:
            made.run()
        return torch.load(tmp_path / folder / "checkpoint.pt", weights_only=True)

    straight = train("a")
    assert train("b", stop=True)["iteration"] == 2
    resumed = train("b", resume=True)
    for part in ("network", "reverse_network", "discriminators"):
        assert all(torch.equal(v, resumed[part][k]) for k, v in straight[part].items()), part
    assert resumed["iteration"] == 4
    assert resumed["discriminator_lr_scheduler"] == straight["discriminator_lr_scheduler"]


def test_one_network_both_ways_has_half_the_parameters(slices: Path, tmp_path: Path) -> None:
    def count(arm: str) -> int:
        made = workflow(["train", *ARMS[arm]], dataset_dir=slices, output_dir=tmp_path, **TINY_RESNET)
        parameters = made.parser.get_parsed_content("optimizer").param_groups[0]["params"]
        return sum(p.numel() for p in parameters)

    assert count("cyclegan_paired") == 2 * count("self_inverse") > 0


@pytest.mark.slow
def test_the_deepest_arm_trains_by_the_command_line(slices: Path, run_bundle: Run, tmp_path: Path) -> None:
    options = {key: str(value) for key, value in TINY_RESNET.items()}
    ended = run_bundle(
        NAME, ["train", *ARMS["self_inverse"]], dataset_dir=slices, output_dir=tmp_path, amp="true", **options
    )
    for part in ("generator_loss", "cycle_loss", "paired_loss", "discriminator_loss", "val_minus_mae"):
        assert part in ended.stderr + ended.stdout
    assert {p.name for p in tmp_path.iterdir()} >= {"model.pt", "reverse.pt", "checkpoint.pt", "plan.json"}


def test_two_processes_train_and_evaluate_as_one(
    slices: Path, run_bundle: Run, one_and_two: Callable[..., list[Any]], tmp_path: Path
) -> None:
    options = {"spacing": str([MM] * 3), "patch_size": "[32, 32]", "batch_size": 1, "max_epochs": 1}
    run_bundle(
        NAME, ["train", "multi_gpu_train"], processes=2, dataset_dir=slices, output_dir=tmp_path,
        val_interval=1, **options,
    )  # fmt: skip
    assert not any(k.startswith("module.") for k in torch.load(tmp_path / "model.pt"))
    one_and_two(
        NAME, tmp_path, keys=("mae", "psnr", "ssim", "bone_dice"), count=8, rtol=1e-4, dataset_dir=slices,
        split="['train', 'val', 'test']", ckpt_path=tmp_path / "model.pt", n_pictures=0,
    )  # fmt: skip


def test_a_cyclegan_in_two_processes_is_refused(slices: Path, run_bundle: Run, tmp_path: Path) -> None:
    options = {key: str(value) for key, value in TINY_RESNET.items()}
    ended = run_bundle(
        NAME, ["train", "train_cyclegan", "multi_gpu_train"], processes=2, dataset_dir=slices,
        output_dir=tmp_path, code=2, **options,
    )  # fmt: skip
    assert "a CycleGAN trains in one process" in ended.stderr + ended.stdout
    assert not (tmp_path / "model.pt").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overlays", "options", "message"),
    [
        (["inference"], {"ckpt_path": "cyclegan/model.pt", "generator": "unet"}, "another architecture"),
        (["inference"], {"ckpt_path": "nie/model.pt", "generator": "resnet"}, "another architecture"),
        (
            ["inference"],
            {"ckpt_path": "nie/model.pt", "reverse_ckpt": "nie/checkpoint.pt"},
            "another architecture",
        ),
        (
            ["inference"],
            {"ckpt_path": "nie/model.pt", "reverse_ckpt": "cyclegan/reverse.pt", "hu_range": "[-1000, 2000]"},
            "made for another hu_range",
        ),
        (["train", "train_cyclegan"], {"pretrained": "nie/model.pt"}, "another architecture"),
        (["train"], {"output_dir": "cyclegan", "resume": "true"}, "one of another kind of training"),
    ],
)
def test_another_arms_checkpoint_ends_with_one_sentence(
    overlays: list[str], options: dict[str, str], message: str, slices: Path, run_bundle: Run, tmp_path: Path,
    trained: Callable[[str], Path],
) -> None:  # fmt: skip
    named = {arm: trained(arm) for arm in ("cyclegan", "nie")}
    for key, value in options.items():
        arm, _, file = value.partition("/")
        if arm in named:
            options = options | {key: str(named[arm] / file)}
    tiny = {key: str(value) for key, value in TINY.items()} if "train" in overlays else {}
    ended = run_bundle(
        NAME, overlays, dataset_dir=slices, code=2, **{"output_dir": tmp_path / "out"} | tiny | options
    )
    log = (
        ended.stdout if "inference" in overlays else ""
    )  # MONAI's StatsHandler logs where training broke off
    assert message in ended.stderr and "Traceback" not in ended.stderr + log
    assert not (tmp_path / "out" / "predictions").exists()
