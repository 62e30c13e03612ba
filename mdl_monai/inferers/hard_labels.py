"""Show a discriminator the label map that a segmenter decides for, and let the segmenter learn through it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from monai.inferers import Inferer
from monai.networks.utils import one_hot
from torch import Tensor


def hard_labels(scores: Tensor) -> Tensor:
    """Scores [B, classes, ...] to the one-hot map of the highest; its gradient is that of their softmax.

    The straight-through estimator of Bengio, Léonard, Courville 2013, arXiv:1308.3432. A one-hot map stays as it is.
    """
    soft = scores.softmax(1)
    hard = one_hot(scores.argmax(1, keepdim=True), num_classes=scores.shape[1], dtype=scores.dtype)
    return hard + (soft - soft.detach())


class HardLabelInferer(Inferer):
    """Applies a discriminator to hard label maps, so that no score of it rests on how sure a segmenter is."""

    def __call__(self, inputs: Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Logits or a one-hot map, [B, classes, ...], to what the network makes of their :func:`hard_labels`."""
        return network(hard_labels(inputs), *args, **kwargs)
