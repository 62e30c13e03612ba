"""The residual CNN that stands beside the filters of an unrolled ADMM."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def circular_pad(images: Tensor, multiple: int) -> Tensor:
    """Continue periodic images [B, C, H, W] at bottom and right, up to multiples of a number."""
    for axis in (-2, -1):
        n = images.shape[axis]
        # not F.pad, which a traced program holds for one size alone
        if n % multiple or torch.jit.is_tracing():
            places = torch.arange((n + multiple - 1) // multiple * multiple, device=images.device) % n
            images = images.index_select(axis, places)
    return images


class ResidualBlock(nn.Module):
    """f + conv(relu(conv(f))) on [B, C, h, w]."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(features, features, 3, padding=1)
        self.conv2 = nn.Conv2d(features, features, 3, padding=1)

    def forward(self, f: Tensor) -> Tensor:
        """Features [B, C, h, w] to features of the same shape."""
        return f + self.conv2(F.relu(self.conv1(f)))


class LearnedPrior(nn.Module):
    """Residual CNN d(images; memory, mask) of one stage; works on 2 x 2 pixel blocks as channels.

    Args:
        features: channels at half resolution, and of the memory handed from stage to stage.
        deep_features: channels at quarter resolution, which widen the view.
        has_memory: False for the first stage.
        channels: of the images in and out.
    """

    def __init__(
        self, features: int, deep_features: int, has_memory: bool, channels: tuple[int, int] = (2, 1)
    ) -> None:
        super().__init__()
        self.has_memory = has_memory
        self.head = nn.Conv2d(4 * channels[0] + (features if has_memory else 0), features, 3, padding=1)
        self.block1 = ResidualBlock(features)
        self.down = nn.Conv2d(features, deep_features, 2, stride=2)
        self.deep = ResidualBlock(deep_features)
        self.up = nn.ConvTranspose2d(deep_features, features, 2, stride=2)
        self.block2 = ResidualBlock(features)
        self.tail = nn.Conv2d(features, 4 * channels[1], 3, padding=1)
        nn.init.zeros_(self.tail.weight)  # d = 0 at first: the network starts as the classical ADMM
        assert self.tail.bias is not None
        nn.init.zeros_(self.tail.bias)

    def forward(self, images: Tensor, memory: Tensor, modulation: Tensor) -> tuple[Tensor, Tensor]:
        """Images [B, in, H, W], memory [B, C, H/2, W/2], modulation [B, 2C] to d [B, out, H, W], memory.

        H and W are multiples of 4.
        """
        f = F.pixel_unshuffle(images, 2)
        if self.has_memory:
            f = torch.cat([f.to(memory.dtype), memory], 1)
        f = self.head(f.contiguous(memory_format=torch.channels_last))
        scale, shift = modulation.to(f.dtype)[:, :, None, None].chunk(2, 1)
        f = F.relu(f * (1 + scale) + shift)
        f = self.block1(f)
        f = f + self.up(self.deep(F.relu(self.down(f))))
        f = self.block2(f)
        return F.pixel_shuffle(self.tail(f), 2).float(), f
