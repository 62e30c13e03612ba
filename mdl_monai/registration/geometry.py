"""Where the voxels of a target fall in an atlas, and what a grid of displacements does to space."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
import torch
from torch import Tensor
from torch.nn import functional

from mdl_monai.registration.volume import Volume, lps


def points(target: Volume, affine: Tensor, displacement: Tensor | None = None) -> Tensor:
    """Points of the atlas's world for each voxel of the target: affine (x + displacement (x)).

    Args:
        target: the grid.
        affine: [D + 1, D + 1] from the target's world to the atlas's, mm.
        displacement: [*spatial, D] mm in the target's world.

    Returns:
        [*spatial, D] float64, mm.
    """
    world = voxel_points(target.values.shape) @ target.affine[:-1, :-1].T + target.affine[:-1, -1]
    if displacement is not None:
        world = world + displacement
    return world @ affine[:-1, :-1].T + affine[:-1, -1]


def voxel_points(shape: torch.Size | tuple[int, ...]) -> Tensor:
    """Index of each voxel, [*shape, D] float64."""
    return torch.stack(
        torch.meshgrid(*[torch.arange(n, dtype=torch.float64) for n in shape], indexing="ij"), -1
    )


def sample(channels: Tensor, affine: Tensor, world: Tensor) -> tuple[Tensor, Tensor]:
    """Linear interpolation at world points, with the nearest value outside the field of view.

    Args:
        channels: [C, *spatial] of the grid that is sampled.
        affine: [D + 1, D + 1] of that grid.
        world: [*points, D] mm, as many axes of points as spatial ones.

    Returns:
        values [C, *points] and validity [*points], 1 within the field of view (to the voxels' outer edges).
    """
    inverse = torch.linalg.inv(affine)
    voxels = world @ inverse[:-1, :-1].T + inverse[:-1, -1]
    size = torch.tensor(channels.shape[1:], dtype=torch.float64)
    valid = ((voxels >= -0.5) & (voxels <= size - 0.5)).all(-1).to(channels.dtype)
    # grid_sample names the axes last to first, and -1 and 1 are the outer edges
    grid = ((2 * voxels + 1) / size - 1).flip(-1).to(channels.dtype)
    values = functional.grid_sample(
        channels[None], grid[None], mode="bilinear", padding_mode="border", align_corners=False
    )
    return values[0], valid


def resampled(target: Volume, atlas: Volume, affine: Tensor) -> Volume:
    """The atlas on the target's grid through the affine map [D + 1, D + 1] from the target's world to its own.

    The nearest value outside its field of view; zeros all over where the fields of view do not meet.
    """
    values, valid = sample(atlas.values[None].float(), atlas.affine, points(target, affine))
    return target.with_values(values[0] if valid.any() else torch.zeros_like(valid))


def in_voxels(displacement: Tensor, affine: Tensor) -> Tensor:
    """Displacement [..., D] in mm of the world, in voxels along the axes of the grid with `affine`."""
    return displacement @ torch.linalg.inv(affine[:-1, :-1]).T.to(displacement)


def to_sitk_affine(affine: Tensor) -> sitk.AffineTransform:
    """An affine map between RAS worlds as SimpleITK's transform between LPS worlds."""
    dims = affine.shape[0] - 1
    flip = lps(dims)
    transform = sitk.AffineTransform(dims)
    transform.SetMatrix((flip @ affine[:-1, :-1].numpy() @ flip).ravel().tolist())
    transform.SetTranslation((flip @ affine[:-1, -1].numpy()).tolist())
    return transform


def from_sitk_linear(transform: sitk.Transform) -> Tensor:
    """Any linear transform between LPS worlds as [D + 1, D + 1] float64 between RAS worlds."""
    dims = transform.GetDimension()
    flip, out = lps(dims), np.eye(dims + 1)
    origin = np.asarray(transform.TransformPoint([0.0] * dims))
    axes = [np.asarray(transform.TransformPoint(point)) - origin for point in np.eye(dims).tolist()]
    out[:-1, :-1] = flip @ np.stack(axes, 1) @ flip
    out[:-1, -1] = flip @ origin
    return torch.from_numpy(out)


def to_sitk_transform(target: Volume, affine: Tensor, displacement: Tensor | None = None) -> sitk.Transform:
    """From points of the target to points of the atlas, as SimpleITK resamples and as 3D Slicer reads transforms.

    Args:
        target, affine, displacement: as for :func:`points`.
    """
    whole = sitk.CompositeTransform(target.dims)
    whole.AddTransform(to_sitk_affine(affine))  # the transform added last is applied first
    if displacement is not None:
        vectors = (displacement.double().numpy() @ lps(target.dims)).swapaxes(0, target.dims - 1)
        image = sitk.GetImageFromArray(np.ascontiguousarray(vectors), isVector=True)
        image.CopyInformation(target.to_sitk())
        whole.AddTransform(sitk.DisplacementFieldTransform(image))
    return whole


def from_sitk_field(image: sitk.Image) -> Tensor:
    """A displacement image of SimpleITK, [*spatial, D] mm in RAS+."""
    dims = image.GetDimension()
    array = sitk.GetArrayFromImage(image).swapaxes(0, dims - 1) @ lps(dims)
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))
