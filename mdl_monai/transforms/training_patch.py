"""What a training step sees of an image: a random slice of it, and a random patch of that."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, Randomizable
from torch import Tensor

from mdl_monai.errors import InputError


class RandSliced(Randomizable, MapTransform):
    """Random slice, one that is not empty, of a volume along its last axis; a slice passes as it is.

    Args:
        keys: images [c, H, W] or [c, H, W, D].
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Record with an image to record with a plain tensor [c, H, W]."""
        record = dict(data)
        for key in self.key_iterator(record):
            image = torch.as_tensor(record[key]).as_subclass(Tensor)
            if image.ndim == 4:
                filled = torch.nonzero(image.abs().amax(dim=(0, 1, 2)) > 0).flatten()
                image = image[..., int(filled[self.R.randint(len(filled))])]
            record[key] = image
        return record


def taper(size: int, margin: int) -> Tensor:
    """Window [size], 1 inside, falling to 0 as a half cosine over `margin` points at both ends."""
    distance = torch.minimum(torch.arange(size), torch.arange(size - 1, -1, -1)).float() + 0.5
    ramp = (distance / margin).clamp(max=1) if margin else torch.ones(size)
    return 0.5 - 0.5 * torch.cos(torch.pi * ramp)


class RandTrainingPatchd(Randomizable, MapTransform):
    """Random square patch, flips and transpose, as a plain contiguous tensor.

    The discrete Fourier transform takes an image as periodic. A scan fades to air at its borders, a patch does
    not, so it is faded (`taper`): else the network would learn to mend jumps that no scan has.

    Args:
        keys: images [c, H, W].
        size: side of the patch in pixels; 0 keeps the whole slice.
        margin: width of the fading in pixels.
    """

    def __init__(self, keys: KeysCollection, size: int = 96, margin: int = 16) -> None:
        MapTransform.__init__(self, keys)
        self.size, self.margin = size, margin

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Record with an image to record with its patch [c, size, size] (or the whole [c, H, W])."""
        record = dict(data)
        for key in self.key_iterator(record):
            image = self._crop(torch.as_tensor(record[key]).as_subclass(Tensor))
            for axis in (1, 2):
                if self.R.rand() < 0.5:
                    image = image.flip(axis)
            if self.R.rand() < 0.5 and image.shape[1] == image.shape[2]:  # a batch needs one shape
                image = image.transpose(1, 2)
            record[key] = image.contiguous()
        return record

    def _crop(self, image: Tensor) -> Tensor:
        size = self.size
        if size and min(image.shape[1:]) < size:
            raise InputError(
                "a training image is smaller than the patch",
                expected=f"at least {size} x {size}",
                found=f"{image.shape[1]} x {image.shape[2]}",
                remedy="set --crop_size to less",
            )
        if not size or tuple(image.shape[1:]) == (size, size):
            return image
        top, left = (self.R.randint(n - size + 1) for n in image.shape[1:])
        window = taper(size, self.margin)
        return image[:, top : top + size, left : left + size] * window[:, None] * window
