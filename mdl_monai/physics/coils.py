"""Simulated receive coils."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from mdl_monai.errors import InputError

COIL_RADIUS = 1.5  # no coil lies inside the image


def simulated_coil_maps(
    n_coils: int, shape: Sequence[int], radius: float = COIL_RADIUS, angle: float = 0.0
) -> Tensor:
    """Sensitivity maps of coils equally spaced on an ellipse around the image.

    A small loop is a pair of opposite line currents. In 2D the field of one current at c is 1 / (z - c), with
    positions as complex numbers z = x + iy, so that of the loop is its derivative, ``1 / (z - c)^2``: smooth
    magnitude and phase, no free parameter but the radius. Divided by the root of the sum of squares.

    Args:
        n_coils: number of coils C.
        shape: image size (H, W).
        radius: of the circle of coils, in half widths of the field of view, more than the square root of 2 at best.
        angle: of the first coil, in radians.

    Returns:
        Complex64 maps [C, H, W] with ``sum_c |map_c|^2 = 1`` in every pixel.
    """
    if n_coils < 1 or len(shape) != 2 or min(shape) < 1:
        raise InputError(
            "coil maps need at least one coil and a 2D size",
            expected="n_coils >= 1, shape (H, W)",
            found=f"n_coils {n_coils}, shape {tuple(shape)}",
        )
    y, x = (2 * (torch.arange(n) - (n - 1) / 2) / n for n in shape)  # -1 to 1 over the field of view
    position = torch.complex(x.expand(*shape), y[:, None].expand(*shape))  # [H, W]
    angles = angle + 2 * math.pi * torch.arange(n_coils) / n_coils
    coil = torch.polar(torch.full((n_coils,), radius), angles)[:, None, None]  # [C, 1, 1]
    maps = 1 / (position - coil) ** 2
    return maps / maps.abs().square().sum(0, keepdim=True).sqrt()
