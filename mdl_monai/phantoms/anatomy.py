"""The anatomy of the head phantom: which tissue lies where, as a function of a position in millimetres."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

import torch
from torch import Tensor

Ellipsoid = tuple[Sequence[float], Sequence[float]]

WAVELENGTH_MM = 24.0  # of the cortical folds


class Tissue(IntEnum):
    """Labels of `HeadPhantom.tissue`."""

    AIR = 0
    SCALP = 1
    SKULL = 2
    CSF = 3
    GREY = 4
    WHITE = 5
    VENTRICLE = 6
    DEEP_GREY = 7


class Hippocampus(IntEnum):
    """Labels of `HeadPhantom.hippocampus`, all of which lie in grey matter."""

    NONE = 0
    ANTERIOR = 1
    POSTERIOR = 2


# centre and half axes in mm, of the right side where there are two; x to the right, y to the front, z up
SCALP, SKULL, DURA, BRAIN = (76, 96, 92), (71, 91, 87), (65, 85, 81), (62, 82, 78)
LATERAL_VENTRICLE: Ellipsoid = ((11, 0, 10), (6, 28, 9))
THIRD_VENTRICLE: Ellipsoid = ((0, -2, -4), (2.5, 12, 9))
DEEP_NUCLEI: tuple[Ellipsoid, ...] = (
    ((20, 14, 10), (5, 16, 9)),
    ((29, 4, 0), (6, 15, 10)),
    ((12, -10, -2), (9, 14, 8)),
)
HIPPOCAMPUS_HEAD: Ellipsoid = ((27, -4, -24), (8, 11, 7))
HIPPOCAMPUS_TAIL: Ellipsoid = ((29, -22, -20), (6, 16, 5))
HIPPOCAMPUS_CUT_MM = -10.0  # y of the border between the anterior and the posterior part


def _radius(position: Tensor, centre: Sequence[float], half_axes: Sequence[float]) -> Tensor:
    """Distance from `centre` in units of the half axes: below 1 inside the ellipsoid. [..., 3] to [...]."""
    offset = position - position.new_tensor(centre)
    return (offset / position.new_tensor(half_axes)).square().sum(-1).sqrt()


def _folds(position: Tensor, shift: Tensor) -> Tensor:
    """A gyroid, a smooth labyrinth in -1.5 to 1.5: high in the sulci, low in the gyri. [..., 3] to [...]."""
    x, y, z = (2 * torch.pi * position / WAVELENGTH_MM + shift).unbind(-1)
    return x.sin() * y.cos() + y.sin() * z.cos() + z.sin() * x.cos()


def head_labels(position: Tensor, fold_shift: Tensor, ventricle_scale: float = 1.0) -> tuple[Tensor, Tensor]:
    """Tissue and hippocampus labels.

    Args:
        position: points [..., 3] in mm: x to the right, y to the front, z up, 0 in the middle of the brain.
        fold_shift: phases [3] of the cortical folds, in radians.
        ventricle_scale: size of the ventricles relative to the mean anatomy.

    Returns:
        `Tissue` and `Hippocampus` labels, uint8 [...].
    """
    tissue = torch.zeros(position.shape[:-1], dtype=torch.uint8, device=position.device)
    zero = (0.0, 0.0, 0.0)
    for half_axes, label in ((SCALP, Tissue.SCALP), (SKULL, Tissue.SKULL), (DURA, Tissue.CSF)):
        tissue[_radius(position, zero, half_axes) < 1] = label

    depth = (1 - _radius(position, zero, BRAIN)) * min(BRAIN)  # mm below the brain's hull, about
    folds = _folds(position, fold_shift)
    sulcus = 20 * torch.sigmoid((folds - 0.85) / 0.1)  # depth in mm of the sulci, filled with CSF
    cortex = 5 + 21 * torch.sigmoid((folds - 0.25) / 0.15)  # depth in mm at which white matter begins
    fissure = (position[..., 0].abs() < 1.5) & ((position[..., 2] > 25) | (depth < 12))
    tissue[(depth > sulcus) & ~fissure] = Tissue.GREY
    tissue[(depth > cortex) & ~fissure] = Tissue.WHITE

    mirrored = torch.cat([position[..., :1].abs(), position[..., 1:]], dim=-1)
    for nucleus in DEEP_NUCLEI:
        tissue[_radius(mirrored, *nucleus) < 1] = Tissue.DEEP_GREY
    for ventricle in (LATERAL_VENTRICLE, THIRD_VENTRICLE):
        tissue[_radius(mirrored, *ventricle) < ventricle_scale] = Tissue.VENTRICLE

    inside = (_radius(mirrored, *HIPPOCAMPUS_HEAD) < 1) | (_radius(mirrored, *HIPPOCAMPUS_TAIL) < 1)
    anterior = position[..., 1] > HIPPOCAMPUS_CUT_MM
    hippocampus = torch.zeros_like(tissue)
    hippocampus[inside & anterior] = Hippocampus.ANTERIOR
    hippocampus[inside & ~anterior] = Hippocampus.POSTERIOR
    tissue[inside] = Tissue.GREY
    return tissue, hippocampus
