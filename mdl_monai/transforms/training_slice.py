"""What a training step sees of an image: a random slice, crop, orientation and brightness."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, Randomizable
from torch import Tensor

from mdl_monai.errors import InputError


def taper(size: int, margin: int) -> Tensor:
    """Window [size], 1 inside, falling to 0 as a half cosine over `margin` points at both ends."""
    distance = torch.minimum(torch.arange(size), torch.arange(size - 1, -1, -1)).float() + 0.5
    ramp = (distance / margin).clamp(max=1) if margin else torch.ones(size)
    return 0.5 - 0.5 * torch.cos(torch.pi * ramp)


class RandTrainingSliced(Randomizable, MapTransform):
    """Random slice of a volume, square crop, flips, transpose and brightness, as plain tensors.

    The discrete Fourier transform takes an image as periodic. A scan fades to air at its borders, a crop does
    not, so it is faded (`taper`): else the network would learn to mend jumps that no scan has.

    Args:
        keys: images [1, H, W] or [1, H, W, D].
        size: side of the crop in pixels; 0 keeps the whole slice.
        margin: width of the fading in pixels.
        brightness: range of a random factor.
    """

    def __init__(
        self,
        keys: KeysCollection,
        size: int = 128,
        margin: int = 16,
        brightness: tuple[float, float] = (0.5, 1.0),
    ) -> None:
        MapTransform.__init__(self, keys)
        self.size, self.margin, self.brightness = size, margin, brightness

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Record with an image to record with its random part [1, size, size] (or [1, H, W], [1, W, H])."""
        record = dict(data)
        for key in self.key_iterator(record):
            image = torch.as_tensor(record[key]).as_subclass(Tensor)
            if image.ndim == 4:
                filled = torch.nonzero(image.amax(dim=(0, 1, 2)) > 0).flatten()
                image = image[..., int(filled[self.R.randint(len(filled))])]
            image = self._crop(image)
            for axis in (1, 2):
                if self.R.rand() < 0.5:
                    image = image.flip(axis)
            if self.R.rand() < 0.5 and image.shape[1] == image.shape[2]:  # a batch needs one shape
                image = image.transpose(1, 2)
            record[key] = (image * self.R.uniform(*self.brightness)).contiguous()
        return record

    def _crop(self, image: Tensor) -> Tensor:
        if not self.size:
            return image
        if min(image.shape[1:]) < self.size:
            raise InputError(
                "a training image is smaller than the crop",
                expected=f"at least {self.size} x {self.size}",
                found=f"{image.shape[1]} x {image.shape[2]}",
                remedy="set --crop_size to less",
            )
        if tuple(image.shape[1:]) == (self.size, self.size):
            return image
        top, left = (self.R.randint(n - self.size + 1) for n in image.shape[1:])
        window = taper(self.size, self.margin)
        return image[:, top : top + self.size, left : left + self.size] * window[:, None] * window
