"""Checkpoints that survive a kill, and a training that goes on as if it had never stopped."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.data import Dataset
from monai.transforms import Randomizable
from torch import nn

from mdl_monai.errors import InputError
from mdl_monai.io.atomic import atomic_path

CHECKPOINT_NAME = "checkpoint.pt"
WEIGHTS_NAME = "model.pt"
PROGRESS = {"best", "epoch", "iteration"}  # what a checkpoint holds besides the states of the parts

logger = logging.getLogger(__name__)


def cpu_state(module: nn.Module) -> dict[str, torch.Tensor]:
    """Plain contiguous CPU tensors of a network's state_dict, without a data-parallel wrapper's prefix.

    What has two names in the network (MONAI's DynUNet lists all its layers twice) is one tensor here too, so that
    `torch.save` writes it once.
    """
    state = getattr(module, "module", module).state_dict(keep_vars=True)
    copies = {id(v): v.detach().cpu().contiguous().clone() for v in state.values()}
    return {k: copies[id(v)] for k, v in state.items()}


def save_atomically(content: Any, path: Path) -> None:
    """`torch.save` beside the target, then rename."""
    with atomic_path(path) as temporary:
        torch.save(content, temporary)


def _rank() -> int:
    return int(os.environ.get("RANK", "0"))


class TrainingCheckpoint:
    """Trainer handler: saves the whole state after each epoch, and resumes from it.

    Every epoch draws its random numbers from the seed, its own number and the process, so what it does depends
    on the state at its start alone: a run that was stopped and resumed ends in the same weights as one that was
    not.

    It belongs behind the validation in the list of handlers, so that it saves what that found to be the best.

    Args:
        output_dir: receives ``checkpoint.pt`` (all that resuming needs) and ``model.pt`` (the best weights on
            validation, a plain state_dict of CPU tensors).
        network, optimizer, lr_scheduler: what is trained.
        dataset: training set, whose random transforms are seeded.
        seed: base of the random numbers.
        resume: go on from ``checkpoint.pt`` if there is one.
        further: by name, what else is trained (a discriminator, its optimiser): objects with a state_dict.
    """

    def __init__(
        self,
        output_dir: str,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        lr_scheduler: Any,
        dataset: Dataset,
        seed: int = 0,
        resume: bool = False,
        further: Mapping[str, Any] | None = None,
    ) -> None:
        self.output_dir, self.network, self.seed, self.resume = Path(output_dir), network, seed, resume
        self.dataset = dataset
        self.parts: dict[str, Any] = {
            "network": network,
            "optimizer": optimizer,
            "lr_scheduler": lr_scheduler,
            **(further or {}),
        }
        self.best = float("-inf")

    def attach(self, engine: Engine) -> None:
        """Register with the trainer."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.EPOCH_STARTED, self._seed_epoch)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._save)

    def _seed_epoch(self, engine: Engine) -> None:
        seed = self.seed + engine.state.epoch + 1_000_003 * _rank()  # processes must not draw alike
        torch.manual_seed(seed)
        transform = getattr(self.dataset, "transform", None)
        if isinstance(transform, Randomizable):
            transform.set_random_state(seed=seed)

    def _start(self, engine: Engine) -> None:
        path = self.output_dir / CHECKPOINT_NAME
        if not self.resume or not path.is_file():
            return
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            self._refuse_other_parts(path, state)
            for name, part in self.parts.items():
                self._refuse_other_schedule(path, part, state[name])
                getattr(part, "module", part).load_state_dict(state[name])
        except InputError:
            raise
        except Exception as error:
            raise InputError(
                "the checkpoint does not fit this training",
                where=path,
                found=str(error).splitlines()[0],
                remedy="resume with the options of the first run, or set --resume false or another --output_dir",
            ) from error
        self.best = state["best"]
        engine.state.epoch, engine.state.iteration = state["epoch"], state["iteration"]
        logger.info("resumed from %s after epoch %d", path, state["epoch"])

    def _refuse_other_parts(self, path: Path, state: dict[str, Any]) -> None:
        """A discriminator that starts anew, or one that is left behind, would not be the same training."""
        found = state.keys() - PROGRESS
        if found != self.parts.keys():
            raise InputError(
                "the checkpoint is one of another kind of training",
                where=path,
                expected=", ".join(sorted(self.parts)),
                found=", ".join(sorted(found)),
                remedy="resume with the config files of the first run, or start a new training from these weights "
                "with --pretrained",
            )

    @staticmethod
    def _refuse_other_schedule(path: Path, part: Any, state: dict[str, Any]) -> None:
        """A one-cycle schedule has its length built in: another one would step past its end."""
        steps = state.get("total_steps")
        if steps is not None and getattr(part, "may_be_extended", False) and steps < part.total_steps:
            return
        if steps is not None and steps != getattr(part, "total_steps", steps):
            raise InputError(
                "the schedule of the checkpoint has another length",
                where=path,
                expected=f"{steps} steps, as in the first run",
                found=f"{part.total_steps}",
                remedy="resume with the same --max_epochs and --batch_size, or start a new training from these "
                "weights with --pretrained",
            )

    def _save(self, engine: Engine) -> None:
        if _rank() > 0:
            return
        state = {
            name: cpu_state(part) if isinstance(part, nn.Module) else part.state_dict()
            for name, part in self.parts.items()
        }
        state.update(best=self.best, epoch=engine.state.epoch, iteration=engine.state.iteration)
        save_atomically(state, self.output_dir / CHECKPOINT_NAME)


class SaveBestWeights:
    """Validation handler: writes the weights whenever the key metric is the best so far.

    Args:
        checkpoint: the trainer's handler, which remembers the best figure across a resume.
        further: by file name, networks whose weights of that moment are written beside.
    """

    def __init__(
        self, checkpoint: TrainingCheckpoint, further: Mapping[str, nn.Module] | None = None
    ) -> None:
        self.checkpoint = checkpoint
        self.networks = {WEIGHTS_NAME: checkpoint.network, **(further or {})}

    def attach(self, engine: Engine) -> None:
        """Register with the validation evaluator."""
        engine.add_event_handler(Events.COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Compare and save."""
        state: Any = engine.state
        score = float(state.metrics[state.key_metric_name])
        if score > self.checkpoint.best:
            self.checkpoint.best = score
            for name, network in self.networks.items() if _rank() == 0 else ():
                save_atomically(cpu_state(network), self.checkpoint.output_dir / name)
