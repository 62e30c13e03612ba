"""Checkpoints that survive a kill, and a training that goes on as if it had never stopped."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from ignite.utils import manual_seed
from monai.data import Dataset
from monai.transforms import Randomizable
from torch import nn

from mdl_monai.errors import InputError
from mdl_monai.handlers.best_weights import cpu_state
from mdl_monai.handlers.preemption import Preemption
from mdl_monai.handlers.processes import random_states, rank, set_random_state, world_size
from mdl_monai.io.checkpoint_files import load_checkpoint, save_checkpoint

CHECKPOINT_NAME = "checkpoint.pt"
PROGRESS = {"best", "epoch", "iteration", "done", "random", "seed", "cases", "scalers"}
"""What a checkpoint holds besides the states of the parts."""
REMEDY = (
    "resume with the config files and the options of the first run (--max_epochs and --batch_size too), or start a "
    "new training with --resume false or another --output_dir, from these weights with --pretrained"
)

logger = logging.getLogger(__name__)


class TrainingCheckpoint:
    """Trainer handler: saves the whole state after each epoch and on SIGTERM, and resumes from it.

    Every epoch draws its random numbers from the seed, its own number and the process, so what it does depends
    on the state at its start alone: a run that was stopped and resumed ends in the same weights as one that was
    not. On SIGTERM (Slurm's preemption) the state within the epoch is saved too, and the process ends; a resumed
    run draws that epoch's batches again and passes over those that were done.

    It belongs behind the validation in the list of handlers, so that it saves what that found to be the best.

    Args:
        output_dir: receives ``checkpoint.pt`` (all that resuming needs), the one before it, their digests, and
            ``model.pt`` (the best weights on validation, a plain state_dict of CPU tensors).
        network, optimizer, lr_scheduler: what is trained.
        dataset: training set, whose random transforms are seeded.
        seed: base of the random numbers.
        resume: go on from the newest whole checkpoint if there is one.
        further: by name, what else is trained (a discriminator, its optimiser): objects with a state_dict.
        splits: lists of records by name, as `train_val_records` gives them: a checkpoint of other cases is refused.
    """

    def __init__(
        self,
        output_dir: str,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        lr_scheduler: Any,
        dataset: Dataset,
        seed: int = 0,
        resume: bool = True,
        further: Mapping[str, Any] | None = None,
        splits: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
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
        self.cases = _digest_of_cases(splits or {})
        self.preemption = Preemption()
        self._found: dict[str, Any] | None = None
        self._done = 0  # batches of the first epoch that an earlier run did

    def attach(self, engine: Engine) -> None:
        """Register with the trainer.

        Raises:
            InputError: the checkpoint is damaged, or one of another training.
        """
        if self.resume:
            self._find()
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.EPOCH_STARTED, self._seed_epoch)
        engine.add_event_handler(Events.GET_BATCH_STARTED, self._between_steps)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._save)
        engine.add_event_handler(Events.COMPLETED, self.preemption.unwatch)
        engine.add_event_handler(Events.EXCEPTION_RAISED, self._failed)

    def _find(self) -> None:
        """Read the checkpoint before other handlers write anything; refuse that of another training."""
        if (found := load_checkpoint(self.output_dir / CHECKPOINT_NAME)) is None:
            return
        state, self._path = found
        if (parts := state.keys() - PROGRESS) != self.parts.keys():
            # a discriminator that starts anew, or one that is left behind, would not be the same training
            own, theirs = (", ".join(sorted(names)) for names in (self.parts, parts))
            raise self._other("is one of another kind of training", own, theirs)
        for name, part in self.parts.items():
            # a one-cycle schedule has its length built in: another one would step past its end
            steps, first = getattr(part, "total_steps", None), state[name].get("total_steps")
            if None in (steps, first) or steps == first:
                continue
            if not (getattr(part, "may_be_extended", False) and first < steps):
                raise self._other("has a schedule of another length", f"{first} steps, as at first", steps)
        if state.get("seed", self.seed) != self.seed:
            raise self._other("is one of a training with another seed", self.seed, state["seed"])
        if state.get("cases", self.cases) != self.cases:
            raise self._other("is one of a training with other cases", "the lists of split.json")
        self._found = state

    def _other(self, what: str, expected: object = "", found: object = "") -> InputError:
        what = f"the checkpoint {what}"
        return InputError(what, where=self._path, expected=expected, found=found, remedy=REMEDY)

    def _start(self, engine: Engine) -> None:
        self.preemption.watch()
        if self._found is None:
            return
        state, self._found = self._found, None  # a second run in this process goes on from what it has
        try:
            for name, part in self.parts.items():
                getattr(part, "module", part).load_state_dict(state[name])
        except Exception as error:
            told = f"{type(error).__name__}: {error}".splitlines()[0]
            raise self._other("does not fit this training", found=told) from error
        self.best = state["best"]
        engine.state.epoch, engine.state.iteration = state["epoch"], state["iteration"]
        self._done, self._random = state.get("done", 0), state.get("random", [])
        if self._done and len(self._random) != world_size():
            raise InputError(
                "the training was stopped within an epoch, and goes on in as many processes as before",
                where=self._path,
                expected=len(self._random),
                found=world_size(),
                remedy="set GPUS to that number",
            )
        steps = f" and {self._done} steps" if self._done else ""
        logger.info("resumed from %s after epoch %d%s", self._path, state["epoch"], steps)
        if engine.state.max_epochs is not None and state["epoch"] >= engine.state.max_epochs:
            logger.warning(
                "the training had ended already; set --resume false or another --output_dir to start anew"
            )

    def _seed_epoch(self, engine: Engine) -> None:
        seed = self.seed + engine.state.epoch + 1_000_003 * rank()  # processes must not draw alike
        manual_seed(seed % 2**32)  # Python's, NumPy's and torch's
        transform = getattr(self.dataset, "transform", None)
        if isinstance(transform, Randomizable):
            transform.set_random_state(seed=seed)

    def _between_steps(self, engine: Engine) -> None:
        """Pass over what an earlier run did of this epoch; save and end if asked to."""
        if self._done:
            assert engine._dataloader_iter is not None
            for _ in range(self._done):
                next(engine._dataloader_iter)
            self._done = 0
            set_random_state(self._random[rank()])
        if self.preemption.asked():
            self._save(engine, within=True)
            self._end(engine)

    def _end(self, engine: Engine) -> None:
        logger.warning(
            "asked to end (SIGTERM): saved after iteration %d; the same command goes on",
            engine.state.iteration,
        )
        self.preemption.end()

    def _failed(self, engine: Engine, error: BaseException) -> None:
        self.preemption.unwatch()
        raise error

    def _save(self, engine: Engine, within: bool = False) -> None:
        """Write the state behind this epoch, or within it."""
        epoch, iteration = engine.state.epoch - within, engine.state.iteration
        done = iteration % engine.state.epoch_length if within and engine.state.epoch_length else 0
        random = random_states() if done else []  # of all processes, so before all but one leave
        if rank() == 0:
            state: dict[str, Any] = {
                name: cpu_state(part) if isinstance(part, nn.Module) else part.state_dict()
                for name, part in self.parts.items()
            }
            state.update(best=self.best, epoch=epoch, iteration=iteration, done=done, random=random)
            state.update(seed=self.seed, cases=self.cases)
            save_checkpoint(state, self.output_dir / CHECKPOINT_NAME)
        if not within and self.preemption.asked():
            self._end(engine)


def _digest_of_cases(splits: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    names = {name: sorted(str(record["case"]) for record in records) for name, records in splits.items()}
    return hashlib.sha256(json.dumps(names, sort_keys=True).encode()).hexdigest()
