from __future__ import annotations

import os
import random
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Events
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedTrainer
from monai.handlers import LrScheduleHandler
from monai.transforms import Compose, Lambdad, RandGaussianNoised
from torch import nn

from mdl_monai.errors import InputError
from mdl_monai.handlers.best_weights import SaveBestWeights, cpu_state
from mdl_monai.handlers.gradient_guard import GradientGuard
from mdl_monai.handlers.training_checkpoint import TrainingCheckpoint
from mdl_monai.io.checkpoint_files import save_checkpoint, save_tensors


class Stop(Exception):
    """A kill in mid-training."""


def train(
    folder: Path,
    epochs: int,
    resume: bool = True,
    stop_in_epoch: int = 0,
    width: int = 3,
    preempt_at: int = 0,
    seed: int = 5,
    names: str = "abcdefg",
) -> nn.Module:
    torch.manual_seed(1)
    data = [{"image": torch.full((3,), float(n)), "label": torch.tensor([2.0 * n])} for n in range(7)]
    chance = Lambdad("image", lambda x: x + 0.1 * np.random.rand() + 0.1 * random.random())
    dataset = Dataset(data, Compose([RandGaussianNoised("image", prob=0.7), chance]))
    network = nn.Sequential(nn.Linear(width, 4), nn.Dropout(0.3), nn.Linear(4, 1))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.05, total_steps=max(epochs, 6) * 4)
    checkpoint = TrainingCheckpoint(
        str(folder),
        network,
        optimizer,
        scheduler,
        dataset,
        seed=seed,
        resume=resume,
        splits={"train": [{"case": name} for name in names]},
    )
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=epochs,
        train_data_loader=DataLoader(dataset, batch_size=2, shuffle=True),
        network=network,
        optimizer=optimizer,
        loss_function=nn.MSELoss(),
        train_handlers=[
            checkpoint,
            LrScheduleHandler(scheduler, epoch_level=False, print_lr=False),
            GradientGuard(network, 10.0),
        ],
    )

    @trainer.on(Events.ITERATION_COMPLETED)
    def stop(engine: SupervisedTrainer) -> None:
        if stop_in_epoch and engine.state.epoch == stop_in_epoch and engine.state.iteration % 4 == 2:
            raise Stop

    if preempt_at:
        checkpoint.preemption.end = lambda: (_ for _ in ()).throw(Stop)  # type: ignore[method-assign]
    trainer.add_event_handler(
        Events.ITERATION_STARTED(once=preempt_at or 10**9), lambda: os.kill(os.getpid(), signal.SIGTERM)
    )
    trainer.run()
    return network


@pytest.mark.filterwarnings("ignore:Detected call of")
def test_a_killed_and_resumed_training_ends_in_the_same_weights(tmp_path: Path) -> None:
    """What it draws from the random states of Python and NumPy, too."""
    straight = train(tmp_path / "a", 6)
    with pytest.raises(Stop):
        train(tmp_path / "b", 6, stop_in_epoch=4)
    random.seed(8)
    np.random.seed(8)
    resumed = train(tmp_path / "b", 6, resume=True)
    for a, b in zip(straight.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.filterwarnings("ignore:Detected call of")
@pytest.mark.parametrize("step", [1, 7, 12, 13, 24])  # of 4 in an epoch; at its end too
def test_sigterm_saves_within_the_epoch_and_ends(tmp_path: Path, step: int) -> None:
    straight = train(tmp_path / "a", 6)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Stop):
        train(tmp_path / "b", 6, preempt_at=step)
    assert torch.load(tmp_path / "b" / "checkpoint.pt", weights_only=True)["iteration"] == step
    assert signal.getsignal(signal.SIGTERM) == before
    resumed = train(tmp_path / "b", 6)
    for a, b in zip(straight.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.filterwarnings("ignore:Detected call of")
def test_a_training_that_has_ended_is_not_begun_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = train(tmp_path, 6)
    again = train(tmp_path, 6)
    assert torch.equal(first[0].weight, again[0].weight) and "had ended already" in caplog.text
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@pytest.mark.parametrize(
    ("options", "message"),
    [({"seed": 6}, "(?s)another seed.*expected: 6.*found: 5"), ({"names": "abcdefx"}, "other cases")],
)
def test_a_checkpoint_of_another_training_is_refused(tmp_path: Path, options: Any, message: str) -> None:
    train(tmp_path, 1)
    with pytest.raises(InputError, match=message):
        train(tmp_path, 2, **options)


def test_without_resume_a_checkpoint_is_not_read(tmp_path: Path) -> None:
    first = train(tmp_path, 2)
    again = train(tmp_path, 2, resume=False)
    assert torch.equal(first[0].weight, again[0].weight)


def test_a_longer_schedule_than_the_checkpoints_is_refused(tmp_path: Path) -> None:
    train(tmp_path, 1)
    with pytest.raises(InputError, match="(?s)another length.*24 steps.*28.*--pretrained"):
        train(tmp_path, 7, resume=True)


def test_a_checkpoint_of_another_network_is_refused(tmp_path: Path) -> None:
    train(tmp_path, 1)
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    state["network"].pop("0.bias")
    save_checkpoint(state, tmp_path / "checkpoint.pt")
    with pytest.raises(InputError, match=r"(?s)does not fit this training.*checkpoint\.pt.*--resume false"):
        train(tmp_path, 2, resume=True)


def test_further_parts_are_saved_and_a_checkpoint_with_others_is_refused(tmp_path: Path) -> None:
    """Both ways: a discriminator that the checkpoint lacks, and one that the training lacks."""
    plain, other = nn.Linear(2, 1), nn.Linear(3, 1)
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.ConstantLR(optimizer)

    class Engine:
        class state:  # noqa: N801
            epoch, iteration, epoch_length, max_epochs = 1, 4, 4, 2

    def checkpoint(further: dict[str, nn.Module] | None) -> TrainingCheckpoint:
        return TrainingCheckpoint(str(tmp_path), plain, optimizer, scheduler, Dataset([]), further=further)

    both, alone = checkpoint({"discriminator": nn.DataParallel(other)}), checkpoint(None)
    both._save(Engine)  # type: ignore[arg-type]
    saved = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["discriminator"]
    assert torch.equal(saved["weight"], other.weight)
    with pytest.raises(InputError, match="(?s)another kind.*expected: lr_scheduler.*found: discriminator"):
        alone._find()
    nn.init.zeros_(other.weight)
    both._find()
    both._start(Engine)  # type: ignore[arg-type]
    both.preemption.unwatch()
    assert torch.equal(saved["weight"], other.weight) and other.weight.any()
    alone._save(Engine)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="(?s)another kind.*expected: discriminator.*found: lr_scheduler"):
        both._find()


def test_best_weights_are_kept_and_plain(tmp_path: Path) -> None:
    network = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    checkpoint = TrainingCheckpoint(str(tmp_path), network, optimizer, None, Dataset([]))
    save = SaveBestWeights(checkpoint)

    class Engine:
        class state:  # noqa: N801
            key_metric_name = "val_psnr"
            metrics = {"val_psnr": 0.0}  # noqa: RUF012

    for figure in (30.0, 32.0, 31.0):
        nn.init.constant_(network.weight, figure)
        Engine.state.metrics["val_psnr"] = figure
        save(Engine)  # type: ignore[arg-type]
    saved = torch.load(tmp_path / "model.pt", weights_only=True)
    assert set(saved) == {"weight", "bias"} and saved["weight"].device.type == "cpu"
    assert (saved["weight"] == 32.0).all() and checkpoint.best == 32.0


def test_further_networks_are_kept_as_they_were_beside_the_best(tmp_path: Path) -> None:
    network, other = nn.Linear(2, 1), nn.DataParallel(nn.Linear(3, 1))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    checkpoint = TrainingCheckpoint(str(tmp_path), network, optimizer, None, Dataset([]))
    save = SaveBestWeights(checkpoint, {"reverse.pt": other})

    class Engine:
        class state:  # noqa: N801
            key_metric_name = "val_psnr"
            metrics = {"val_psnr": 0.0}  # noqa: RUF012

    for figure in (30.0, 32.0, 31.0):
        nn.init.constant_(other.module.weight, figure)
        Engine.state.metrics["val_psnr"] = figure
        save(Engine)  # type: ignore[arg-type]
    saved = torch.load(tmp_path / "reverse.pt", weights_only=True)
    assert set(saved) == {"weight", "bias"} and (saved["weight"] == 32.0).all()
    assert torch.load(tmp_path / "model.pt", weights_only=True)["weight"].shape == (1, 2)


def test_a_gradient_that_is_not_finite_stops_the_training() -> None:
    network = nn.Linear(2, 1)
    network.weight.grad = torch.full_like(network.weight, float("nan"))

    class Engine:
        class state:  # noqa: N801
            epoch, iteration = 3, 41

    with pytest.raises(InputError, match="(?s)training broke down.*epoch 3, iteration 41.*--pretrained"):
        GradientGuard(network)(Engine)  # type: ignore[arg-type]


def test_the_gradient_is_clipped() -> None:
    network = nn.Linear(2, 1, bias=False)
    network.weight.grad = torch.tensor([[3.0, 4.0]])
    GradientGuard(network, max_norm=1.0)(None)  # type: ignore[arg-type]
    torch.testing.assert_close(network.weight.grad, torch.tensor([[0.6, 0.8]]), atol=1e-5, rtol=1e-5)


def test_a_layer_of_two_names_is_written_once(tmp_path: Path) -> None:
    layer = nn.Linear(300, 300)
    network = nn.ModuleDict({"first": layer, "again": nn.Sequential(layer)})
    save_tensors(cpu_state(network), tmp_path / "model.pt")
    assert (tmp_path / "model.pt").stat().st_size < 1.2 * 4 * 300 * 301
    network.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True))
