"""An image on its grid in space, as registration sees it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import SimpleITK as sitk
import torch
from monai.data import MetaTensor
from torch import Tensor

from mdl_monai.errors import InputError

PLACE = "structure_place"
"""Key in an image's meta data of its `Place`, as a list of its centre and its radius."""


class Place(NamedTuple):
    """Where a structure lies in an image."""

    centre: Tensor
    """[D] float64, mm RAS+."""
    radius: float
    """Of the ball, or in 2D the disc, of its size, mm."""


class RegistrationError(Exception):
    """A pair of images cannot be registered; the message is the reason in one sentence."""


@dataclass(frozen=True)
class Volume:
    """Grey values or labels with the place of their voxels. World coordinates are in mm, RAS+, as NIfTI's.

    A 2D image lives in its own plane: two coordinates, whatever the slice's place in the body.
    """

    values: Tensor
    """[*spatial], two or three axes."""
    affine: Tensor
    """[D + 1, D + 1] float64, from voxel index to mm."""
    place: Place | None = None
    """Of the structure that is to be segmented, where it was looked for."""

    @property
    def dims(self) -> int:
        """Number of spatial axes."""
        return self.values.ndim

    @property
    def spacing(self) -> Tensor:
        """[D], mm between voxels along each axis."""
        return self.affine[:-1, :-1].norm(dim=0)

    @classmethod
    def from_image(cls, image: MetaTensor) -> Volume:
        """A `MetaTensor` [1, *spatial] with its affine.

        Raises:
            InputError: not one channel, or not two or three axes.
        """
        if image.ndim not in (3, 4) or image.shape[0] != 1:
            raise InputError(
                "registration takes one grey-value image or label map",
                where=image.meta.get("filename_or_obj"),
                expected="one channel and two or three axes",
                found=f"shape {tuple(image.shape)}, channel first",
            )
        values = torch.as_tensor(image).as_subclass(Tensor)[0]
        affine = plane_affine(torch.as_tensor(image.affine, dtype=torch.float64), values.ndim)
        found = image.meta.get(PLACE)
        place = None if found is None else Place(torch.tensor(found[:-1], dtype=torch.float64), found[-1])
        return cls(values, affine, place)

    def with_values(self, values: Tensor) -> Volume:
        """Other values on the same grid."""
        return Volume(values, self.affine, self.place)

    def standardised(self) -> Volume:
        """Float32 values of mean 0 and variance 1; zeros for a constant image."""
        values = self.values.double()
        centred = values - values.mean()
        deviation = centred.square().mean().sqrt()
        if deviation <= 1e-6 * values.abs().amax():
            return self.with_values(torch.zeros_like(values, dtype=torch.float32))
        return self.with_values((centred / deviation).float())

    def to_sitk(self) -> sitk.Image:
        """The same image for SimpleITK, whose world is LPS and whose first axis changes fastest."""
        array = np.ascontiguousarray(self.values.cpu().numpy().T)
        image: Any = sitk.GetImageFromArray(array)
        flip = lps(self.dims)
        axes = flip @ self.affine[:-1, :-1].numpy()
        spacing = np.linalg.norm(axes, axis=0)
        image.SetSpacing(spacing.tolist())
        image.SetDirection((axes / spacing).ravel().tolist())
        image.SetOrigin((flip @ self.affine[:-1, -1].numpy()).tolist())
        return image


def lps(dims: int) -> np.ndarray:
    """[D, D], from RAS+ to LPS and back: the first two axes change their sign."""
    return np.diag([-1.0, -1.0, 1.0][:dims])


def plane_affine(affine: Tensor, dims: int) -> Tensor:
    """Affine of a grid of `dims` axes out of a NIfTI's [4, 4].

    A slice keeps its two in-plane axes where the world's first two axes span its plane, and else its spacing alone.
    """
    if affine.shape[0] == dims + 1:
        return affine
    out = torch.eye(dims + 1, dtype=torch.float64)
    axes = affine[:3, :dims]
    spacing = axes.norm(dim=0)
    if torch.allclose(axes[:dims].norm(dim=0), spacing, rtol=1e-4):
        out[:dims, :dims], out[:dims, -1] = axes[:dims], affine[:dims, -1]
    else:
        out[:dims, :dims] = torch.diag(spacing)
    return out
