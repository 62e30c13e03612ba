"""Complex images from magnitudes: what a scanner's data has and an image archive has lost."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from monai.config import KeysCollection
from monai.transforms import Compose, MapTransform, Randomizable
from torch import Tensor

COARSEST, FINEST = 2, 7  # grid points over the image of the random phase


class SimulatePhased(MapTransform):
    """Give a magnitude image a smooth phase and complex noise, the same for all images of one size.

    The phase is a constant, a linear ramp (an echo off the centre of k-space) and a bicubic interpolation of normal
    numbers on a coarse grid (field inhomogeneity, receivers). The noise belongs to the image: a scan's reference
    has it too. A complex image passes as it is.

    Args:
        keys: images [1, H, W(, D)] of peak 1.
        strength: range of the standard deviation of the grid's numbers in radians.
        noise: largest standard deviation of the noise in each part.
        seed: of the draw.
    """

    def __init__(
        self,
        keys: KeysCollection,
        strength: tuple[float, float] = (0.1, 2.0),
        noise: float = 0.02,
        seed: int = 0,
    ) -> None:
        MapTransform.__init__(self, keys)
        self.strength, self.noise, self.seed = strength, noise, seed

    def generator(self) -> np.random.Generator:
        """Where the randomness of a case comes from."""
        return np.random.default_rng(self.seed)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Record with images [1, ...] to record with [2, ...], real and imaginary part."""
        record = dict(data)
        for key in self.key_iterator(record):
            image = record[key]
            if image.shape[0] == 2:
                continue
            rng = self.generator()
            phase = smooth_phase(image.shape[1], image.shape[2], rng.uniform(*self.strength), rng)
            phase = phase.reshape(*phase.shape, *[1] * (image.ndim - 3))
            parts = torch.cat([image * phase.cos(), image * phase.sin()])
            noise = rng.standard_normal(tuple(parts.shape), dtype=np.float32)
            record[key] = parts + rng.uniform(0, self.noise) * torch.from_numpy(noise)
        return record


class RandPhased(Randomizable, SimulatePhased):
    """`SimulatePhased` with a new draw for each image: for training."""

    def generator(self) -> np.random.Generator:
        """A new one for each image."""
        return np.random.default_rng(self.R.randint(2**31))


class ForMagnitudes(Compose):
    """Transforms for magnitude images alone: a record with a complex one passes as it is.

    Args:
        key: image [1, ...] or, complex, [2, ...].
        transforms: as of `Compose`.
    """

    def __init__(self, key: str, transforms: Sequence[Any]) -> None:
        super().__init__(transforms)
        self.key = key

    def __call__(self, input_: Any, *arguments: Any, **options: Any) -> Any:  # type: ignore[override]
        """Record to record."""
        return input_ if input_[self.key].shape[0] == 2 else super().__call__(input_, *arguments, **options)


def smooth_phase(height: int, width: int, strength: float, rng: np.random.Generator) -> Tensor:
    """Random smooth phase [H, W] in radians."""
    points = int(rng.integers(COARSEST, FINEST + 1))
    grid = torch.from_numpy(rng.normal(0, strength, (1, 1, points, points))).float()
    field = F.interpolate(grid, (height, width), mode="bicubic", align_corners=True)[0, 0]
    down, across = (math.pi * float(slope) for slope in rng.standard_normal(2))
    ramp = down * torch.linspace(-1, 1, height)[:, None] + across * torch.linspace(-1, 1, width)
    return field + ramp + float(rng.uniform(0, 2 * math.pi))
