"""Every forward operator with an instance to test; a new operator joins this list and inherits the suite."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mdl_monai.physics.fourier import MaskedFourier


@dataclass
class Case:
    """An operator, the shape of its images and whether they are complex; its norm where it is known."""

    make: Callable[[], nn.Module]
    image_shape: tuple[int, ...]
    complex_image: bool
    norm: float | None = None

    def image(self, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        real = torch.randn(self.image_shape, generator=generator, dtype=dtype)
        if not self.complex_image:
            return real
        return torch.complex(real, torch.randn(self.image_shape, generator=generator, dtype=dtype))


def _mask(height: int, width: int, batch: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(7)
    return torch.rand(batch, 1, height, width, generator=generator, dtype=torch.float64) < 0.4


CASES = {
    "complex image, odd x even": Case(lambda: MaskedFourier(_mask(9, 14)), (2, 1, 9, 14), True, 1.0),
    "complex image, even x odd, a mask for each of the batch": Case(
        lambda: MaskedFourier(_mask(8, 13, batch=3)), (3, 1, 8, 13), True, 1.0
    ),
    "real image, odd x odd": Case(lambda: MaskedFourier(_mask(11, 7), real_image=True), (2, 1, 11, 7), False),
    "real image, even x even": Case(
        lambda: MaskedFourier(_mask(6, 10), real_image=True), (1, 2, 6, 10), False
    ),
    "weights instead of a mask": Case(
        lambda: MaskedFourier(_mask(6, 9).double() * 0.5), (1, 1, 6, 9), True, 0.5
    ),
}
