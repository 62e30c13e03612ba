"""A discriminator on label maps beside a segmenter: what MONAI's `AdversarialTrainer` needs for it."""

from __future__ import annotations

from typing import Any

import torch
from ignite.engine import Engine
from ignite.metrics import Average
from monai.networks.utils import one_hot
from monai.utils import AdversarialIterationEvents, CommonKeys
from monai.utils import AdversarialKeys as Keys
from torch import Tensor

LOSSES = {
    "segmentation_loss": Keys.RECONSTRUCTION_LOSS,
    "generator_loss": Keys.GENERATOR_LOSS,
    "discriminator_loss": Keys.DISCRIMINATOR_LOSS,
}


class AdversarialShape:
    """Handler of an `AdversarialTrainer` whose generator is a segmenter: real is the reference label map.

    By itself that trainer takes the images for real, with which its fakes, the logits [B, classes, H, W(, D)], have
    nothing in common. With the one-hot reference for real, the discriminator learns what shapes references have, and
    the segmenter to give such. Yang et al.: Automatic Liver Segmentation Using an Adversarial Image-to-Image Network,
    MICCAI 2017, doi:10.1007/978-3-319-66179-7_58.

    ``engine.state.metrics`` receives the mean of each loss over an epoch. The handlers that report it belong behind
    this one. The trainer registers its own events behind its handlers: it needs them as ``event_names`` too.
    """

    def attach(self, engine: Engine) -> None:
        """Register with the trainer."""
        engine.add_event_handler(AdversarialIterationEvents.GENERATOR_FORWARD_COMPLETED, self)
        for name, key in LOSSES.items():
            Average(output_transform=lambda output, key=key: output[key]).attach(engine, name)

    def __call__(self, engine: Engine) -> None:
        """Replace what is real."""
        output: Any = engine.state.output
        label = torch.as_tensor(output[CommonKeys.LABEL]).as_subclass(Tensor)
        output[Keys.REALS] = one_hot(label, num_classes=output[Keys.FAKES].shape[1])
