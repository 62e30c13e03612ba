"""What a simulated acquisition measures: the `sampling` tensor of a sensing operator, drawn by a generator."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from mdl_monai.errors import InputError
from mdl_monai.physics.coils import COIL_RADIUS, simulated_coil_maps
from mdl_monai.physics.masks import MASK_TYPES, sampling_mask
from mdl_monai.physics.orthonormal import OrthonormalTransform


class Sampling(ABC):
    """A way to sample; drawn anew with each call.

    Attributes:
        told: in words, for those who read the result.
    """

    told: str

    @abstractmethod
    def draw(self, height: int, width: int, rng: np.random.Generator) -> Tensor:
        """Sampling [P, H, W] of images of this size, the same for the same state of `rng`."""


class CoefficientSampling(Sampling):
    """Some coefficients of an orthonormal transform, as the transform chooses them.

    Args:
        transform: as in the operator.
        ratio: share to measure, or a range to draw it from.
    """

    def __init__(self, transform: OrthonormalTransform, ratio: float | Sequence[float]) -> None:
        self.transform, self.ratio = transform, ratio_range(ratio)
        self.told = f"{type(transform).__name__}, ratio {self.ratio[1]:g}"

    def draw(self, height: int, width: int, rng: np.random.Generator) -> Tensor:
        """Mask [1, H, W]."""
        mask = self.transform.mask(rng.uniform(*self.ratio), height, width, rng)
        return torch.from_numpy(mask).float()[None]


class CoilSampling(Sampling):
    """A Cartesian mask and simulated coils.

    Args:
        mask_types: a mask type, or several with their weights.
        ratio: share of k-space, or a range to draw it from.
        coils: number of coils, or several to draw from; maps of 0 fill up to the largest, so that all draws batch.
        vary: move the coils (in training).
        given: this mask instead, bool [H, W], DC at H // 2, W // 2.
    """

    def __init__(
        self,
        mask_types: str | Mapping[str, float],
        ratio: float | Sequence[float],
        coils: int | Sequence[int],
        vary: bool = False,
        given: np.ndarray | None = None,
    ) -> None:
        self.given = given
        weights = {mask_types: 1.0} if isinstance(mask_types, str) else dict(mask_types)
        for name in weights:
            if name not in MASK_TYPES:
                raise InputError("unknown mask type", expected=f"one of {', '.join(MASK_TYPES)}", found=name)
        self.names, total = list(weights), sum(weights.values())
        self.weights = [weight / total for weight in weights.values()]
        self.ratio, self.vary = ratio_range(ratio), vary
        self.coils = [coils] if isinstance(coils, int) else list(coils)
        if min(self.coils) < 1:
            raise InputError("a scan needs a coil", expected="coils >= 1", found=f"{self.coils}")
        how = (
            "the user's mask" if given is not None else f"{' or '.join(self.names)}, ratio {self.ratio[1]:g}"
        )
        self.told = f"{max(self.coils)} simulated coils, {how}"

    def draw(self, height: int, width: int, rng: np.random.Generator) -> Tensor:
        """Mask, real and imaginary parts of the maps: [1 + 2 C, H, W]."""
        mask = self.mask(height, width, rng)
        coils = int(rng.choice(self.coils))
        geometry = (rng.uniform(1.3, 2.5), rng.uniform(0, 2 * math.pi)) if self.vary else (COIL_RADIUS, 0.0)
        maps = torch.zeros(max(self.coils), height, width, dtype=torch.complex64)
        # one coil is as good as a homogeneous one: nothing tells its phase from the image's
        maps[:coils] = 1 if coils == 1 else simulated_coil_maps(coils, (height, width), *geometry)
        return torch.cat([mask, maps.real, maps.imag])

    def mask(self, height: int, width: int, rng: np.random.Generator) -> Tensor:
        """The mask alone, [1, H, W].

        Raises:
            InputError: a mask is given, of another size.
        """
        if self.given is not None:
            if self.given.shape != (height, width):
                raise InputError(
                    "the mask has another size than the image", expected=f"a mask of {height} x {width}",
                    found=" x ".join(map(str, self.given.shape)),
                    remedy="leave --mask_file out to generate one, or in training set --crop_size 0",
                )  # fmt: skip
            return torch.from_numpy(self.given).float()[None]
        name = str(rng.choice(self.names, p=self.weights))
        mask = sampling_mask(name, rng.uniform(*self.ratio), height, width, rng, random_angle=self.vary)
        return torch.from_numpy(mask).float()[None]


def ratio_range(ratio: float | Sequence[float]) -> tuple[float, float]:
    """A ratio or a range of ratios as a range.

    Raises:
        InputError: not above 0 and at most 1.
    """
    low, high = (ratio, ratio) if isinstance(ratio, (int, float, str)) else ratio
    if isinstance(low, str) or not 0 < low <= high <= 1:
        raise InputError(
            "the sampling ratio is not a share",
            expected="above 0 and at most 1",
            found=low if low == high else f"{low} to {high}",
            remedy="set --sampling_ratio, for example to 0.25",
        )
    return float(low), float(high)
