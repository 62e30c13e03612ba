"""One atlas after another, for methods that want both images on one grid."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import SimpleITK as sitk
import torch
from torch import Tensor

from mdl_monai.registration.geometry import from_sitk_field, resampled
from mdl_monai.registration.volume import Volume


def register_each(
    target: Volume,
    atlases: Sequence[Volume],
    affines: Tensor,
    register: Callable[[sitk.Image, sitk.Image], sitk.Image],
) -> Tensor:
    """Displacements u [K, *spatial, D] float32, mm in the target's world: the atlas's point is affine (x + u).

    None where an image is constant or the fields of view do not meet.

    Args:
        target: the fixed image.
        atlases: K images of any sizes, spacings and frames.
        affines: [K, D + 1, D + 1], from the target's world to each atlas's.
        register: from target and resampled atlas, both of mean 0 and variance 1, to a displacement image.
    """
    fixed, fields = target.standardised(), []
    for atlas, affine in zip(atlases, affines, strict=True):
        moving = resampled(target, atlas, affine).standardised()
        if fixed.values.any() and moving.values.any():
            fields.append(from_sitk_field(register(fixed.to_sitk(), moving.to_sitk())))
        else:
            fields.append(torch.zeros(*target.values.shape, target.dims))
    return torch.stack(fields)
