"""Where a displacement turns space inside out, and how that is mended."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from mdl_monai.losses.mind import smoothed

ROUNDS = 12
LEAST = 0.1  # a voxel that shrinks to less than a tenth is smoothed too: it would fold between the voxels


def jacobian_determinant(displacement: Tensor) -> Tensor:
    """Determinant of the gradient of x + u(x), by central differences.

    Args:
        displacement: u, [K, D, *spatial] in voxels along the axes.

    Returns:
        [K, *spatial]; 1 keeps a voxel's size, 0 or less folds it.
    """
    dims = displacement.shape[1]
    flat = torch.zeros_like(displacement)
    slopes = [
        torch.gradient(displacement, dim=axis + 2)[0] if displacement.shape[axis + 2] > 1 else flat
        for axis in range(dims)
    ]
    j = [[slopes[a][:, c] + (1.0 if a == c else 0.0) for a in range(dims)] for c in range(dims)]
    if dims == 2:
        return j[0][0] * j[1][1] - j[0][1] * j[1][0]
    return (
        j[0][0] * (j[1][1] * j[2][2] - j[1][2] * j[2][1])
        - j[0][1] * (j[1][0] * j[2][2] - j[1][2] * j[2][0])
        + j[0][2] * (j[1][0] * j[2][1] - j[1][1] * j[2][0])
    )


def folded_share(displacement: Tensor) -> Tensor:
    """Share of folded voxels [K] of a displacement [K, D, *spatial] in voxels."""
    return (jacobian_determinant(displacement) <= 0).float().flatten(1).mean(1)


def unfolded(displacement: Tensor) -> Tensor:
    """The displacement, smoothed where it folds and nowhere else, more widely in each of twelve rounds at most.

    Args:
        displacement: [K, D, *spatial] in voxels.
    """
    displacement = displacement.clone()
    left = torch.arange(len(displacement), device=displacement.device)
    pool = functional.max_pool2d if displacement.shape[1] == 2 else functional.max_pool3d
    for turn in range(ROUNDS):
        u = displacement[left]
        bad = jacobian_determinant(u) < LEAST
        some = bad.flatten(1).any(1)
        if not some.any():
            break
        left, u = left[some], u[some]
        where = smoothed(pool(bad[some].float()[:, None], 5, 1, 2), radius=1, sigma=0.7)
        displacement[left] = u + where * (smoothed(u, radius=2, sigma=0.7 + turn / 2) - u)
    return displacement
