"""Keep a training step in bounds, and say so when it no longer is."""

from __future__ import annotations

import torch
from ignite.engine import Engine
from monai.engines import AdversarialTrainer, IterationEvents
from monai.utils import AdversarialIterationEvents
from torch import nn

from mdl_monai.errors import InputError


class GradientGuard:
    """Trainer handler: clips the gradient's norm, and stops with a reason where it is NaN or infinite.

    Args:
        network: the module that is trained; beside a discriminator, the generator.
        max_norm: upper bound of the gradient's 2-norm.
    """

    def __init__(self, network: nn.Module, max_norm: float = 1.0) -> None:
        self.network, self.max_norm = network, max_norm

    def attach(self, engine: Engine) -> None:
        """Register with a MONAI trainer, between backward pass and optimiser step.

        An `AdversarialTrainer` registers its own events behind its handlers: it needs them as ``event_names`` too.
        """
        if isinstance(engine, AdversarialTrainer):
            engine.add_event_handler(AdversarialIterationEvents.GENERATOR_BACKWARD_COMPLETED, self)
        else:
            engine.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Clip.

        Raises:
            InputError: the gradient is not finite; the weights still are those before this step.
        """
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.max_norm)
        if not torch.isfinite(norm):
            raise broken_training(engine, "gradient", f"norm {norm.item()}")


def broken_training(engine: Engine, what: str, found: str) -> InputError:
    """The error of a training whose gradient or loss is no longer finite."""
    return InputError(
        f"training broke down: the {what} is not finite",
        where=f"epoch {engine.state.epoch}, iteration {engine.state.iteration}",
        found=found,
        remedy="start again from the last weights, --pretrained OUTPUT_DIR/checkpoint.pt, with a lower "
        "--learning_rate and another --output_dir",
    )
