"""A discriminator on synthetic images beside their generator: what MONAI's `AdversarialTrainer` needs for it."""

from __future__ import annotations

from typing import Any

import torch
from ignite.engine import Engine
from monai.utils import AdversarialIterationEvents, CommonKeys
from monai.utils import AdversarialKeys as Keys
from torch import Tensor


class AdversarialSynthesis:
    """Handler of an `AdversarialTrainer` whose generator translates images: real is the reference, not the input.

    Labels are [B, 2, *spatial], reference in [-1, 1] and mask. Outside the mask both the real and the fake become
    -1: what the other losses do not see there must not tell them apart.

    The trainer registers its own events behind its handlers: it needs them as ``event_names`` too.
    """

    def attach(self, engine: Engine) -> None:
        """Register with the trainer."""
        engine.add_event_handler(AdversarialIterationEvents.GENERATOR_FORWARD_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Replace what is real, and what is fake."""
        output: Any = engine.state.output
        label = torch.as_tensor(output[CommonKeys.LABEL]).as_subclass(Tensor)
        reference, mask = label[:, :1], label[:, 1:]
        output[Keys.REALS], output[Keys.FAKES] = (
            image * mask + (mask - 1) for image in (reference, output[Keys.FAKES])
        )
