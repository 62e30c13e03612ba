"""Training by L-BFGS, as the ADMM-Net papers did."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from monai.engines import IterationEvents, SupervisedTrainer
from monai.utils import CommonKeys
from torch import Tensor

from mdl_monai.errors import InputError
from mdl_monai.handlers.gradient_guard import broken_training
from mdl_monai.handlers.processes import world_size


class LBFGSTrainer(SupervisedTrainer):
    """A trainer whose optimiser asks for the loss several times a step, as `torch.optim.LBFGS` does.

    Curvature is told from differences of gradients, so all gradients of a step must be of the same images, best of
    the whole training set: make that one batch. It goes through the network in parts, whose gradients add up.

    Args:
        part_size: images that go through the network at once.
        **arguments: as of `SupervisedTrainer`.

    Raises:
        InputError: several processes, which would not agree on the line search; a part of no image.
    """

    def __init__(self, part_size: int, **arguments: Any) -> None:
        if world_size() > 1:
            raise InputError(
                "L-BFGS trains in one process", found=world_size(), remedy="use make train, or leave the overlay out"
            )  # fmt: skip
        if part_size < 1:
            raise InputError("part_size must be positive", found=part_size, remedy="set --part_size 2")
        super().__init__(**arguments)
        self.part_size = part_size

    def _iteration(self, engine: Any, batchdata: Mapping[str, Any]) -> dict[str, Any]:
        """One step of the optimiser: on the output stands the loss before it, the mean over the images."""
        inputs, targets = engine.prepare_batch(batchdata, engine.state.device, engine.non_blocking)[:2]
        engine.state.output = {CommonKeys.IMAGE: inputs, CommonKeys.LABEL: targets}

        def closure() -> Tensor:
            engine.optimizer.zero_grad()
            total = torch.zeros((), device=inputs.device)
            for part, target in zip(inputs.split(self.part_size), targets.split(self.part_size), strict=True):
                loss = engine.loss_function(engine.inferer(part, engine.network), target)
                loss = loss * (len(part) / len(inputs))
                loss.backward()
                total += loss.detach()
            if not torch.isfinite(total):
                raise broken_training(engine, "loss", f"loss {total.item()}")
            return total

        engine.network.train()
        engine.state.output[CommonKeys.LOSS] = engine.optimizer.step(closure).detach()
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return engine.state.output
