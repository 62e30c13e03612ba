"""A seeded digital head: MR and CT contrast, tissue and hippocampus labels, as many subjects as wanted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mdl_monai.errors import InputError
from mdl_monai.phantoms.anatomy import Tissue, head_labels

MR_MEAN = {  # T1-weighted, arbitrary units
    Tissue.AIR: 0.0,
    Tissue.SCALP: 0.85,
    Tissue.SKULL: 0.12,
    Tissue.CSF: 0.18,
    Tissue.GREY: 0.48,
    Tissue.WHITE: 0.72,
    Tissue.VENTRICLE: 0.16,
    Tissue.DEEP_GREY: 0.56,
}
CT_MEAN_HU = {
    Tissue.AIR: -1000.0,
    Tissue.SCALP: -40.0,  # fat, muscle and skin in one
    Tissue.SKULL: 900.0,
    Tissue.CSF: 8.0,
    Tissue.GREY: 38.0,
    Tissue.WHITE: 29.0,
    Tissue.VENTRICLE: 6.0,
    Tissue.DEEP_GREY: 41.0,
}
MR_NOISE, CT_NOISE_HU = 0.01, 6.0  # standard deviations
N_WAVES, WARP_MM, MIN_WAVELENGTH_MM = 6, 1.5, 90.0  # of the warp: its gradient stays far below 1, so no fold


@dataclass(frozen=True)
class HeadPhantom:
    """One subject's head on a grid of voxels. It is a drawing: good for tests and demos, no evidence."""

    mr: Tensor
    """T1-like magnitude with bias field and Rician noise, mostly 0 to 1. Float32 [H, W, D]."""
    ct: Tensor
    """CT in HU. Float32 [H, W, D]."""
    tissue: Tensor
    """`Tissue` labels. Uint8 [H, W, D]."""
    hippocampus: Tensor
    """`Hippocampus` labels: 1 anterior, 2 posterior. Uint8 [H, W, D]."""
    affine: Tensor
    """Voxel to world, RAS+ in mm. Float64 [4, 4]."""


def head_phantom(
    subject: int,
    shape: Sequence[int] = (96, 112, 96),
    spacing_mm: Sequence[float] = (2.0, 2.0, 2.0),
    seed: int = 0,
) -> HeadPhantom:
    """The head of one subject.

    The anatomy is a function of the position, bent by each subject's own smooth warp; so one subject looks
    the same on every grid, up to the voxel size and the noise. Axes are right, front, up; the head is 152 x
    192 x 184 mm in the mean and stands in the middle of the grid, which may cut it.

    Args:
        subject: number of the subject, from 0.
        shape: size (H, W, D) of the grid, any.
        spacing_mm: size of a voxel along the three axes, in mm.
        seed: another seed gives other subjects.
    """
    shape, spacing = tuple(shape), tuple(spacing_mm)
    if subject < 0 or seed < 0 or len(shape) != 3 or len(spacing) != 3 or min(shape) < 1 or min(spacing) <= 0:
        raise InputError(
            "the head phantom needs a subject from 0, a seed from 0, and a 3D shape and spacing above 0",
            found=f"subject {subject}, seed {seed}, shape {shape}, spacing_mm {spacing}",
        )
    generator = torch.Generator().manual_seed(seed * 1_000_003 + subject)
    axes = [(torch.arange(n) - (n - 1) / 2) * step for n, step in zip(shape, spacing, strict=True)]
    position = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)  # [H, W, D, 3] in mm

    stretch = 1 + 0.04 * _uniform(generator, 3)
    fold_shift = math.pi * _uniform(generator, 3)
    ventricle_scale = 1 + 0.2 * _uniform(generator, 1).item()
    warped = position / stretch + _waves(position, generator, n_fields=3) * WARP_MM
    tissue, hippocampus = head_labels(warped, fold_shift, ventricle_scale)

    texture = 1 + 0.02 * _waves(position, generator, n_fields=1, min_wavelength_mm=8.0)[..., 0]
    bias = (0.15 * _waves(position, generator, n_fields=1)[..., 0]).exp()
    clean = _partial_volume(_paint(tissue, MR_MEAN) * texture) * bias
    noise = MR_NOISE * torch.randn(2, *shape, generator=generator)
    mr = ((clean + noise[0]).square() + noise[1].square()).sqrt()  # magnitude of a noisy complex signal

    ct = _partial_volume(_paint(tissue, CT_MEAN_HU))
    ct = (ct + CT_NOISE_HU * torch.randn(shape, generator=generator)).clamp_min(-1024)

    affine = torch.diag(torch.tensor([*spacing, 1.0], dtype=torch.float64))
    affine[:3, 3] = torch.tensor([float(axis[0]) for axis in axes], dtype=torch.float64)
    return HeadPhantom(mr=mr, ct=ct, tissue=tissue, hippocampus=hippocampus, affine=affine)


def _uniform(generator: torch.Generator, n: int) -> Tensor:
    """`n` numbers, even over -1 to 1."""
    return 2 * torch.rand(n, generator=generator) - 1


def _waves(
    position: Tensor, generator: torch.Generator, n_fields: int, min_wavelength_mm: float = MIN_WAVELENGTH_MM
) -> Tensor:
    """Smooth random fields of unit variance, sums of plane waves. Points [..., 3] to [..., n_fields]."""
    fields = []
    for _ in range(n_fields):
        total = torch.zeros(position.shape[:-1])
        for _ in range(N_WAVES):
            direction = nn.functional.normalize(torch.randn(3, generator=generator), dim=0)
            wavelength = min_wavelength_mm * (1 + torch.rand(1, generator=generator))
            phase = 2 * math.pi * torch.rand(1, generator=generator)
            total += (2 * math.pi * (position @ direction) / wavelength + phase).sin()
        fields.append(total * math.sqrt(2 / N_WAVES))
    return torch.stack(fields, dim=-1)


def _paint(tissue: Tensor, means: dict[Tissue, float]) -> Tensor:
    """Each label's mean value: uint8 [H, W, D] to float32 [H, W, D]."""
    return torch.tensor([means[label] for label in Tissue])[tissue.long()]


def _partial_volume(image: Tensor) -> Tensor:
    """Blur over one neighbour to each side, as a voxel on a border holds both tissues: [H, W, D] to same."""
    for axis in range(3):
        image = image.movedim(axis, -1)
        padded = nn.functional.pad(image, (1, 1), mode="replicate")
        image = (0.2 * padded[..., :-2] + 0.6 * padded[..., 1:-1] + 0.2 * padded[..., 2:]).movedim(-1, axis)
    return image.contiguous()
