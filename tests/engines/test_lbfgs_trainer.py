"""L-BFGS through the trainer of MONAI: a least-squares fit has a known end, which it reaches and Adam does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedTrainer
from torch import Tensor, nn

from mdl_monai.engines import lbfgs_trainer
from mdl_monai.engines.lbfgs_trainer import LBFGSTrainer
from mdl_monai.errors import InputError
from mdl_monai.handlers.training_checkpoint import TrainingCheckpoint

GENERATOR = torch.Generator().manual_seed(0)
INPUTS = torch.randn(30, 6, generator=GENERATOR) * torch.logspace(-0.7, 0.7, 6)  # badly conditioned
TARGETS = INPUTS @ torch.arange(1.0, 7)[:, None] + 0.1 * torch.randn(30, 1, generator=GENERATOR)
RECORDS = [{"image": x, "label": y} for x, y in zip(INPUTS, TARGETS, strict=True)]


def fit(kind: type[SupervisedTrainer], loss: nn.Module | None = None, **options: Any) -> nn.Linear:
    torch.manual_seed(0)
    network = nn.Linear(6, 1, bias=False)
    kinds = {LBFGSTrainer: torch.optim.LBFGS, SupervisedTrainer: torch.optim.Adam}
    search = {"line_search_fn": "strong_wolfe", "max_iter": 10} if kind is LBFGSTrainer else {"lr": 0.05}
    kind(
        device=torch.device("cpu"),
        max_epochs=5 if kind is LBFGSTrainer else 100,
        train_data_loader=DataLoader(Dataset(RECORDS), batch_size=len(RECORDS)),
        network=network,
        optimizer=kinds[kind](network.parameters(), **search),
        loss_function=loss or nn.MSELoss(),
        **options,
    ).run()
    return network


def error(network: nn.Linear) -> Tensor:
    best = torch.linalg.lstsq(INPUTS.double(), TARGETS.double()).solution.float()
    return (network.weight.detach().T - best).abs().max()


def test_it_ends_at_the_least_squares_solution_where_adam_has_not_come() -> None:
    assert error(fit(LBFGSTrainer, part_size=30)) < 2e-3
    assert error(fit(SupervisedTrainer)) > 0.1


@pytest.mark.parametrize("part_size", [1, 7, 30])
def test_parts_of_any_size_add_up_to_the_whole(part_size: int) -> None:
    torch.testing.assert_close(
        fit(LBFGSTrainer, part_size=part_size).weight, fit(LBFGSTrainer, part_size=30).weight, atol=1e-3, rtol=0
    )  # fmt: skip


def trained(folder: Path, epochs: int) -> Tensor:
    torch.manual_seed(0)
    network, dataset = nn.Linear(6, 1, bias=False), Dataset(RECORDS)
    optimizer = torch.optim.LBFGS(network.parameters(), line_search_fn="strong_wolfe", max_iter=2)
    scheduler = torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)
    LBFGSTrainer(
        part_size=30, device=torch.device("cpu"), max_epochs=epochs, network=network, optimizer=optimizer,
        train_data_loader=DataLoader(dataset, batch_size=len(RECORDS)), loss_function=nn.MSELoss(),
        train_handlers=[TrainingCheckpoint(str(folder), network, optimizer, scheduler, dataset)],
    ).run()  # fmt: skip
    return network.weight.detach()


def test_a_resumed_training_keeps_the_curvature_that_it_has_seen(tmp_path: Path) -> None:
    trained(tmp_path / "resumed", 2)
    resumed, at_once = trained(tmp_path / "resumed", 4), trained(tmp_path / "at once", 4)
    assert torch.equal(resumed, at_once)
    assert not torch.equal(resumed, trained(tmp_path / "shorter", 2))


def test_a_loss_that_is_not_finite_ends_the_training_with_a_reason() -> None:
    class Broken(nn.Module):
        def forward(self, pred: Tensor, label: Tensor) -> Tensor:
            return (pred - label).square().mean() / 0

    with pytest.raises(InputError, match="training broke down"):
        fit(LBFGSTrainer, Broken(), part_size=30)


def test_a_part_of_no_image_is_refused() -> None:
    with pytest.raises(InputError, match="part_size"):
        fit(LBFGSTrainer, part_size=0)


def test_several_processes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lbfgs_trainer, "world_size", lambda: 2)
    with pytest.raises(InputError, match="one process"):
        fit(LBFGSTrainer, part_size=30)
