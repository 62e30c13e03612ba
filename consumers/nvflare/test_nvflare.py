"""Two hospitals train the V-Net bundle together: by MONAI's `MonaiAlgo` alone, and in NVFlare's simulator.

Each has phantom crops of its own subjects, of another voxel size; no file of one is seen by the other.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow
from monai.fl.client import MonaiAlgo, MonaiAlgoStats
from monai.fl.utils.constants import ExtraItems, FlStatistics, ModelType, WeightType
from monai.fl.utils.exchange_object import ExchangeObject
from monai.utils.enums import DataStatsKeys
from torch import Tensor

from mdl_monai.phantoms.head import head_phantom

HERE = Path(__file__).resolve().parent
BUNDLE = HERE.parents[1] / "bundles" / "hippocampus_mri_segmentation"
ROUNDS, EPOCHS = 3, 2
OPTIONS: dict[str, Any] = {
    "val_split": "val",
    "labels": [1, 2],
    "spacing": [2.0, 2.0, 2.0],
    "patch_size": [16, 24, 16],
    "batch_size": 1,
}
SMALL: dict[str, Any] = {"features": [4, 8], "dropout": 0.0}
SITES = {
    "site-1": (2.0, (0, 1, 2)),
    "site-2": (1.6, (3, 4)),
}  # voxels in mm; subjects, the last for validation
BOX_MM = ((56, 92), (20, 68), (8, 44))  # the right hippocampus with its surroundings, of the phantom's 96 mm

Weights = dict[str, Tensor]


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folders = {}
    for site, (mm, subjects) in SITES.items():
        folder = folders[site] = tmp_path_factory.mktemp(site)
        box = tuple(slice(round(a / mm), round(b / mm)) for a, b in BOX_MM)
        records = []
        for subject in subjects:
            head = head_phantom(subject, (round(96 / mm),) * 3, (mm,) * 3)
            for tensor, name in ((head.mr * 1000, "image"), (head.hippocampus, "label")):
                image = nib.Nifti1Image(tensor[box].numpy(), head.affine.numpy())
                nib.save(image, folder / f"{subject}_{name}.nii.gz")
            names = {name: f"{subject}_{name}.nii.gz" for name in ("image", "label")}
            records.append({**names, "patient": f"p{subject}"})
        content = {"train": records[:-1], "val": records[-1:]}
        (folder / "dataset.json").write_text(json.dumps(content), encoding="utf-8")
    return folders


def client(site: str, data: Path, output: Path, **options: Any) -> MonaiAlgo:
    """MONAI's client of one site, as a federated system makes and initialises it."""
    training = {
        **OPTIONS,
        **SMALL,
        **options,
        "dataset_dir": str(data),
        "max_epochs": ROUNDS * EPOCHS,
        "resume": False,
        "progress": False,
        "device": "$torch.device('cpu')",
    }
    algo = MonaiAlgo(
        bundle_root=BUNDLE.name,
        local_epochs=EPOCHS,
        config_evaluate_filename="configs/train.json",
        train_kwargs={**training, "output_dir": str(output / "training")},
        eval_kwargs={**training, "output_dir": str(output / "evaluation")},
        best_model_filepath=str(output / "training" / "model.pt"),
        final_model_filepath=str(output / "training" / "checkpoint.pt"),
        save_dict_key="network",
    )
    algo.initialize({ExtraItems.CLIENT_NAME: site, ExtraItems.APP_ROOT: str(BUNDLE.parent)})
    return algo


def copied(weights: Weights) -> Weights:
    """On one machine the clients would share memory with the server."""
    return {name: tensor.detach().clone() for name, tensor in weights.items()}


@dataclass(repr=False)
class Round:
    """What a round began with, what came back, and what the clients then held."""

    weights: Weights
    differences: list[Weights]
    held: list[Weights]
    losses: list[float]
    statistics: list[dict[str, Any]]
    metrics: list[dict[str, float]]
    """Of each client, for the weights that the round began with."""


@dataclass(repr=False)
class Federation:
    clients: list[MonaiAlgo]
    rounds: list[Round]
    average: Weights


@pytest.fixture(scope="module")
def federation(sites: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Federation:
    """FedAvg as a server does it: global weights plus the mean of the differences that the clients send."""
    output = tmp_path_factory.mktemp("output")
    clients = [client(site, folder, output / site) for site, folder in sites.items()]
    torch.manual_seed(0)
    network = ConfigParser(ConfigParser.load_config_file(BUNDLE / "configs" / "train.json"))
    network.update(pairs=SMALL)
    weights = copied(network.get_parsed_content("network_def").state_dict())
    rounds = []
    for _ in range(ROUNDS):
        metrics = [dict(c.evaluate(ExchangeObject(weights=copied(weights))).metrics) for c in clients]
        sent, losses = [], []
        for algo in clients:
            algo.train(ExchangeObject(weights=copied(weights)))
            sent.append(algo.get_weights())
            losses.append(algo.trainer.state.metrics["train_loss"])
        assert [e.weight_type for e in sent] == [WeightType.WEIGHT_DIFF] * 2
        differences = [copied(e.weights) for e in sent]
        held = [copied(algo.trainer.network.state_dict()) for algo in clients]
        rounds.append(Round(weights, differences, held, losses, [e.statistics for e in sent], metrics))
        weights = {
            name: (tensor + sum(d[name] for d in differences) / len(differences)).to(tensor.dtype)
            for name, tensor in weights.items()
        }
    return Federation(clients, rounds, weights)


def floats(weights: Weights) -> dict[str, Tensor]:
    """Without the counters of the batch normalisation."""
    return {name: tensor for name, tensor in weights.items() if tensor.is_floating_point()}


def are_equal(a: Weights, b: Weights) -> bool:
    """Up to rounding; variances are in the thousands."""
    return all(torch.allclose(tensor, b[name].to(tensor.dtype), 1e-5, 1e-6) for name, tensor in a.items())


def largest_difference(a: Weights, b: Weights) -> float:
    return max(float((tensor - b[name]).abs().max()) for name, tensor in floats(a).items())


def test_the_average_is_the_mean_of_the_clients_networks(federation: Federation) -> None:
    ends = [*(r.weights for r in federation.rounds[1:]), federation.average]
    for done, average in zip(federation.rounds, ends, strict=True):
        mean = {name: (tensor + done.held[1][name]) / 2 for name, tensor in floats(done.held[0]).items()}
        assert are_equal(mean, average)
        assert largest_difference(done.held[0], done.held[1]) > 1e-3, "each learned from its own data"
        assert largest_difference(done.weights, average) > 1e-3, "the round changed the weights"
        assert all(tensor.isfinite().all() for tensor in average.values())


def test_the_average_fits_the_network_that_inference_builds(federation: Federation) -> None:
    parser = ConfigParser(ConfigParser.load_config_file(BUNDLE / "configs" / "inference.json"))
    parser.update(pairs=SMALL)
    network = parser.get_parsed_content("network_def").eval()
    network.load_state_dict(federation.average)
    with torch.no_grad():
        logits = network(torch.randn(1, 1, 17, 24, 18))
    assert logits.shape == (1, 3, 17, 24, 18) and logits.isfinite().all()


def test_rounds_follow_one_another_as_one_training(federation: Federation) -> None:
    """Epochs, optimiser and schedule go on, whatever is averaged between."""
    for algo, n_train in zip(federation.clients, (2, 1), strict=True):
        assert algo.trainer.state.epoch == ROUNDS * EPOCHS
        assert algo.trainer.state.iteration == ROUNDS * EPOCHS * n_train
        schedule = algo.train_workflow.parser.get_parsed_content("lr_scheduler")
        assert schedule.optimizer is algo.trainer.optimizer
        assert schedule.last_epoch == schedule.total_steps == ROUNDS * EPOCHS * n_train
    for done in federation.rounds:
        steps = [s[FlStatistics.NUM_EXECUTED_ITERATIONS] for s in done.statistics]
        assert steps == [EPOCHS * 2, EPOCHS * 1], "what a server weights the mean by"
    first, last = federation.rounds[0].losses, federation.rounds[-1].losses
    assert all(b < 0.97 * a for a, b in zip(first, last, strict=True)), (first, last)


def test_evaluation_is_of_the_weights_that_were_sent(federation: Federation) -> None:
    found = [list(done.metrics[0]) for done in federation.rounds]
    assert found == [["val_dice"]] * ROUNDS
    assert len({done.metrics[0]["val_dice"] for done in federation.rounds}) == ROUNDS
    algo = federation.clients[0]
    again = algo.evaluate(ExchangeObject(weights=copied(federation.rounds[0].weights))).metrics
    assert again["val_dice"] == pytest.approx(federation.rounds[0].metrics[0]["val_dice"], abs=1e-6)
    algo.evaluate(ExchangeObject(weights=copied(federation.average)))
    assert largest_difference(federation.average, algo.evaluator.network.state_dict()) == 0
    assert largest_difference(federation.rounds[-1].held[0], algo.trainer.network.state_dict()) == 0


def test_a_client_hands_out_its_best_and_its_last_weights(federation: Federation) -> None:
    for algo, held in zip(federation.clients, federation.rounds[-1].held, strict=True):
        last = algo.get_weights({ExtraItems.MODEL_TYPE: ModelType.FINAL_MODEL}).weights
        assert largest_difference(held, last) == 0
        best = algo.get_weights({ExtraItems.MODEL_TYPE: ModelType.BEST_MODEL}).weights
        assert {n: t.shape for n, t in best.items()} == {n: t.shape for n, t in held.items()}


def test_clients_of_other_voxels_make_the_same_network(federation: Federation) -> None:
    folders = [Path(algo.train_workflow.parser["output_dir"]) for algo in federation.clients]
    plans = [json.loads((f / "plan.json").read_text(encoding="utf-8")) for f in folders]
    assert plans[0] == plans[1] and plans[0]["spacing"] == [2.0, 2.0, 2.0]
    cases = [json.loads((f / "split.json").read_text(encoding="utf-8")) for f in folders]
    assert [sorted(p for part in c.values() for p in part) for c in cases] == [
        ["p0", "p1", "p2"],
        ["p3", "p4"],
    ]


def test_weights_of_another_network_are_refused(sites: dict[str, Path], tmp_path: Path) -> None:
    algo = client("site-2", sites["site-2"], tmp_path, features=[4, 8, 16])
    wrong = ConfigParser(ConfigParser.load_config_file(BUNDLE / "configs" / "train.json"))
    with pytest.raises(ValueError, match=r"Convert weight from .* failed"):
        algo.train(ExchangeObject(weights=wrong.get_parsed_content("network_def").state_dict()))


def federated_job(arguments: list[str], folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """The script that the README names, as a user starts it."""
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", **variables}
    return subprocess.run(
        [sys.executable, "-W", "ignore", str(HERE / "federated_job.py"), str(BUNDLE), *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        encoding="utf-8",
    )


def test_nvflare_averages_two_sites_in_two_rounds(sites: dict[str, Path], tmp_path: Path) -> None:
    """The bundle travels with the job; the server starts from its weights."""
    pytest.importorskip("monai_nvflare", reason="monai-nvflare is not to be had for this Python")
    options = json.dumps({**OPTIONS, "features": [8, 16, 32, 64]})
    named = [f"--site=site-1={sites['site-1']}", "--site=site-2=$os.environ['SITE_2_DATA']"]
    ended = federated_job(
        [*named, "--rounds", "2", "--workspace", "ws", "--options", options],
        tmp_path,
        SITE_2_DATA=str(sites["site-2"]),
    )
    assert ended.returncode == 0, ended.stdout[-5000:] + ended.stderr[-5000:]
    saved = tmp_path / "ws" / "server" / "simulate_job" / "app_server" / "FL_global_model.pt"
    average: Weights = {
        name: torch.as_tensor(value)
        for name, value in torch.load(saved, map_location="cpu", weights_only=False)["model"].items()
    }
    states = [
        torch.load(
            tmp_path / "ws" / site / "training" / "checkpoint.pt", map_location="cpu", weights_only=True
        )
        for site in SITES
    ]
    assert [state["epoch"] for state in states] == [2, 2]
    held = [state["network"] for state in states]
    mean = {name: (2 * tensor + held[1][name]) / 3 for name, tensor in floats(held[0]).items()}
    assert are_equal(mean, average), "two training subjects weigh twice as much as one"
    assert largest_difference(held[0], held[1]) > 1e-4
    parser = ConfigParser(ConfigParser.load_config_file(BUNDLE / "configs" / "inference.json"))
    network = parser.get_parsed_content("network_def")
    network.load_state_dict(average)
    released = torch.load(BUNDLE / "models" / "model.pt", map_location="cpu", weights_only=True)
    learned = {name: released[name] for name, _ in network.named_parameters()}
    assert 1e-4 < largest_difference(learned, average) < 0.05, "it began with the bundle's weights"
    log = (tmp_path / "ws" / "server" / "log.txt").read_text(encoding="utf-8")
    assert "new best validation metric at round" in log, "the server knows the bundle's metric"


def test_the_job_to_submit_holds_the_bundle_and_no_path_of_this_machine(
    sites: dict[str, Path], tmp_path: Path
) -> None:
    pytest.importorskip("monai_nvflare", reason="monai-nvflare is not to be had for this Python")
    named = ["--site=site-1=/data/hippocampus", "--site=site-2=$os.environ['HIPPOCAMPUS']"]
    ended = federated_job([*named, "--options", json.dumps(OPTIONS), "--export", "jobs"], tmp_path)
    assert ended.returncode == 0, ended.stderr[-3000:]
    job = tmp_path / "jobs" / BUNDLE.name
    assert sorted(p.name for p in job.iterdir()) == ["app_server", "app_site-1", "app_site-2", "meta.json"]
    for app in job.glob("app_*"):
        shipped = app / "config" / BUNDLE.name / "configs" / "train.json"
        assert shipped.read_bytes() == (BUNDLE / "configs" / "train.json").read_bytes()
        assert not any((app / "custom").rglob("*.py")), "code comes with the installed packages"
    written = "".join(path.read_text(encoding="utf-8") for path in job.rglob("config_fed_*.json"))
    assert str(BUNDLE.parent) not in written and str(tmp_path) not in written
    assert "$os.environ['HIPPOCAMPUS']" in written, "each site may name its folder itself"


def test_a_site_tells_statistics_of_its_data(sites: dict[str, Path], tmp_path: Path) -> None:
    """What NVFlare's `ClientAlgoStatistics` asks a bundle for: counts and histograms."""
    workflow = ConfigWorkflow(
        config_file=str(BUNDLE / "configs" / "train.json"),
        workflow_type="train",
        logging_file=False,
        dataset_dir=str(sites["site-1"]),
        output_dir=str(tmp_path / "training"),
        **OPTIONS,
    )
    algo = MonaiAlgoStats(bundle_root=str(BUNDLE), workflow=workflow)
    algo.initialize({ExtraItems.CLIENT_NAME: "site-1", ExtraItems.APP_ROOT: str(tmp_path)})
    asked = {FlStatistics.HIST_BINS: [8], FlStatistics.HIST_RANGE: [[-1000.0, 3000.0]]}
    found = algo.get_data_stats(asked).statistics
    assert {name: found[name][FlStatistics.DATA_COUNT] for name in ("train", "eval")} == {
        "train": 2,
        "eval": 1,
    }
    assert found["train"][FlStatistics.FAIL_COUNT] == found["eval"][FlStatistics.FAIL_COUNT] == 0
    for name in ("train", "eval"):
        (histogram,) = found[name][FlStatistics.DATA_STATS][DataStatsKeys.IMAGE_HISTOGRAM]["histogram"]
        assert len(histogram["counts"]) == 8 and sum(histogram["counts"]) > 0
