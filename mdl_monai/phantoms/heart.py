"""A seeded short-axis slice of the heart, with the left ventricle's label, as many subjects as wanted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mdl_monai.errors import InputError

FIELD_OF_VIEW_MM = 320.0
NOISE = 0.012  # standard deviation


@dataclass(frozen=True)
class HeartPhantom:
    """One subject's slice, as cine MR shows it. It is a drawing: good for tests and demos, no evidence."""

    mr: Tensor
    """Magnitude with Rician noise, about 0 to 1. Float32 [H, W]."""
    endocardium: Tensor
    """1 inside the left ventricle, papillary muscles included. Uint8 [H, W]."""
    affine: Tensor
    """Voxel to world of [H, W, 1], RAS+ in mm. Float64 [4, 4]."""


def heart_phantom(subject: int, shape: Sequence[int] = (256, 256), seed: int = 0) -> HeartPhantom:
    """The heart of one subject, in a field of view of 320 x 320 mm.

    The left ventricle has a radius of 10 to 30 mm, its centre lies within 30 mm of the middle. The anatomy is a
    function of the position: one subject looks the same on every grid, up to pixel size and noise.

    Args:
        subject: number of the subject, from 0.
        shape: size (H, W) of the grid, any.
        seed: another seed gives other subjects.
    """
    if subject < 0 or seed < 0 or len(shape) != 2 or min(shape) < 1:
        raise InputError(
            "the heart phantom needs a subject from 0, a seed from 0, and a 2D shape above 0",
            found=f"subject {subject}, seed {seed}, shape {tuple(shape)}",
        )
    generator = torch.Generator().manual_seed(seed * 1_000_003 + subject)
    pixel = [FIELD_OF_VIEW_MM / n for n in shape]
    axes = [(torch.arange(n) - (n - 1) / 2) * mm for n, mm in zip(shape, pixel, strict=True)]
    position = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)  # [H, W, 2] in mm

    def between(low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand(1, generator=generator))

    def blob(x: float, y: float, radius: float, bumps: float = 0.06) -> Tensor:
        """Depth in mm below the outline of a disc with random bumps, [H, W]."""
        x_to, y_to = (position - torch.tensor([x, y])).unbind(-1)
        waves = [(n, between(0, 2 * math.pi), between(0, 2) / n) for n in (2, 3, 4)]
        bump = sum(high * (n * torch.atan2(y_to, x_to) + phase).cos() for n, phase, high in waves)
        return radius * (1 + bumps * bump) - torch.hypot(x_to, y_to)

    def paint(depth: Tensor, value: float) -> None:
        image.lerp_(torch.tensor(value), (depth / max(pixel) + 0.5).clamp(0, 1))  # a border pixel holds both

    image = torch.zeros(tuple(shape))
    x, y, radius = between(-18, 18), between(-18, 18), between(10, 30)
    wall, blood, muscle = between(8, 12), between(0.45, 0.6), between(0.14, 0.22)
    body = blob(10, 15, 145, bumps=0.1)
    paint(body, 0.9)  # fat
    inside = body - between(8, 20)
    paint(inside, muscle)
    paint(blob(x + 45, y - 15, radius + 55).minimum(inside), 0.03)  # lung
    paint(blob(x - 60, y + 70, 60).minimum(inside), between(0.2, 0.3))  # liver
    paint(blob(x + 35, y + 85, 35).minimum(inside), between(0.15, 0.4))  # stomach
    angle, distance = between(2.6, 3.8), 0.9 * (radius + wall)
    right = blob(x + distance * math.cos(angle), y - distance * abs(math.sin(angle)), distance + 4)
    for depth, value in ((right + 8, 0.75), (right + 3, muscle), (right, 0.95 * blood)):  # fat, wall, chamber
        paint(depth, value)
    left = blob(x, y, radius)
    paint(left + wall, muscle)
    paint(left, blood)
    for angle in (between(-0.4, 0.4), between(1.7, 2.3)):  # papillary muscles
        distance = 0.65 * radius
        paint(blob(x + distance * math.cos(angle), y + distance * math.sin(angle), 0.14 * radius), muscle)

    clean = image * (0.45 + 0.9 * (-blob(-80, -90, 0.0).square() / 90**2).exp())  # the coil's sensitivity
    noise = NOISE * torch.randn(2, *shape, generator=generator)
    mr = ((clean + noise[0]).square() + noise[1].square()).sqrt()  # magnitude of a noisy complex signal
    affine = torch.diag(torch.tensor([*pixel, 8.0, 1.0], dtype=torch.float64))
    affine[:2, 3] = torch.tensor([float(axis[0]) for axis in axes], dtype=torch.float64)
    return HeartPhantom(mr=mr, endocardium=(left > 0).to(torch.uint8), affine=affine)
