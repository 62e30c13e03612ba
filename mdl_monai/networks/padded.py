"""Let a network that halves its input take images of any size."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def pad_to_multiple(image: Tensor, multiple: int) -> tuple[Tensor, list[int]]:
    """Continue an image [B, C, H, W(, D)] by its border's values on all sides, to multiples of a number.

    Returns:
        The image, and what was added before and after each axis, from the last axis to the first.
    """
    padding: list[int] = []
    for axis in range(image.ndim - 1, 1, -1):
        n = image.shape[axis]
        padded = (n + multiple - 1) // multiple * multiple
        before = (padded - n) // 2
        padding += [before, padded - n - before]
        # Not F.pad, whose replication an exported program holds for one size alone.
        places = torch.arange(padded, device=image.device) - before
        image = image.index_select(axis, places.clamp(0, n - 1))
    return image, padding


def crop_padding(image: Tensor, padding: list[int]) -> Tensor:
    """Take away what `pad_to_multiple` added."""
    for i in range(len(padding) // 2):
        axis = image.ndim - 1 - i
        n = image.shape[axis] - padding[2 * i] - padding[2 * i + 1]
        image = image.index_select(axis, torch.arange(n, device=image.device) + padding[2 * i])
    return image


class Padded(nn.Module):
    """A network between padding and cropping.

    Args:
        network: maps [B, C, H, W(, D)] to [B, C', H, W(, D)], for multiples of `multiple`.
        multiple: the network's total stride.
    """

    def __init__(self, network: nn.Module, multiple: int) -> None:
        super().__init__()
        self.network, self.multiple = network, multiple

    def forward(self, image: Tensor) -> Tensor:
        """Image of any size to the network's output of that size."""
        padded, padding = pad_to_multiple(image, self.multiple)
        return crop_padding(self.network(padded), padding)
