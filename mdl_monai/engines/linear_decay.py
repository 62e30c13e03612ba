"""The learning rate of adversarial training: constant, then down to 0."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler


class LinearDecay(LRScheduler):
    """Full learning rates in the first half of the steps, then linearly to 0 at the end, as in CycleGAN's training.

    A training that has ended may be resumed with more steps: the rates are then those of the longer one, full again
    up to its half.

    Args:
        optimizer: whose rates are set.
        total_steps: calls of `step` in a whole training; further ones leave the rates at 0.
    """

    may_be_extended = True

    def __init__(self, optimizer: torch.optim.Optimizer, total_steps: int) -> None:
        self.total_steps = total_steps  # in the state: a checkpoint of another length can be told
        super().__init__(optimizer)

    def get_lr(self) -> list[float | Tensor]:
        """Rates behind `last_epoch` steps."""
        left = max(0.0, 1 - self.last_epoch / self.total_steps)
        return [rate * min(1.0, 2 * left) for rate in self.base_lrs]

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on behind the steps that were done; the length stays this one's."""
        super().load_state_dict({**state_dict, "total_steps": self.total_steps})
