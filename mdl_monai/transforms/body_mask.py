"""Find the body in an MR image, and scale the image by what is inside, so that the scanner's unit does not matter."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from torch import Tensor

from mdl_monai.errors import InputError

SMOOTHING_MM, CLOSING_MM = 1.5, 6.0
SMALLEST_MM, SHARE, LEAST_CONTRAST = 60.0, (0.05, 0.95), 4.0
"""Of a head that can be worked on: extent along each axis, share of the image, inside against outside."""


def body_mask(values: Tensor, spacing: Tensor) -> Tensor:
    """The largest bright region, closed and without holes.

    Smoothed values above half of Otsu's threshold; half, as Otsu alone separates fat from the rest.

    Args:
        values: [*spatial], any unit; slices of a size of 1 are taken for planes.
        spacing: mm along each axis.

    Returns:
        [*spatial] bool; nothing is True where all values are equal.
    """
    thick = [n > 1 for n in values.shape]
    plane = np.ascontiguousarray(values.squeeze().double().numpy())
    low, high = np.percentile(plane, (0, 99))
    if plane.ndim < 2 or high <= low:
        return torch.zeros_like(values, dtype=torch.bool)
    image = sitk.GetImageFromArray(((plane - low) / (high - low)).clip(0, 1))
    mm = [float(s) for s, kept in zip(spacing, thick, strict=True) if kept][
        ::-1
    ]  # SimpleITK's axes are reversed
    image.SetSpacing(mm)
    image = sitk.SmoothingRecursiveGaussian(image, SMOOTHING_MM) if min(image.GetSize()) >= 4 else image
    otsu = sitk.OtsuThresholdImageFilter()
    otsu.Execute(image)
    inside = image > 0.5 * otsu.GetThreshold()
    reach = [max(1, round(CLOSING_MM / s)) for s in mm]
    grown = sitk.ConstantPad(inside, reach, reach)  # closing stops short of an image's edge
    closed = sitk.BinaryMorphologicalClosing(grown, reach)  # scalp and brain become one
    parts = sitk.RelabelComponent(sitk.ConnectedComponent(closed), sortByObjectSize=True)
    filled = sitk.BinaryFillhole(parts == 1)
    size = [n + 2 * r for n, r in zip(image.GetSize(), reach, strict=True)]
    cut = filled[tuple(slice(r, n - r) for n, r in zip(size, reach, strict=True))]
    return torch.from_numpy(sitk.GetArrayFromImage(cut) > 0).reshape(values.shape)


class BodyMaskd(MapTransform):
    """Add the mask of the body under another key, [1, *spatial], 1 inside.

    Args:
        keys: one image [1, *spatial] `MetaTensor`.
        name: key of the mask.

    Raises:
        InputError: nothing in the image looks like a head.
    """

    def __init__(self, keys: KeysCollection, name: str = "body") -> None:
        super().__init__(keys)
        self.name = name

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Record with an image to the same with the mask beside it."""
        record = dict(data)
        image = record[self.keys[0]]
        values = torch.as_tensor(image).as_subclass(Tensor)[0].cpu()
        spacing = torch.as_tensor(image.pixdim)
        mask = body_mask(values, spacing)
        refuse_no_head(values, mask, spacing, image.meta.get("filename_or_obj"))
        record[self.name] = MetaTensor(mask[None].float(), meta=dict(image.meta))
        return record


def refuse_no_head(values: Tensor, mask: Tensor, spacing: Tensor, where: object) -> None:
    """Raise `InputError` where a mask is none of a head: too small, or hardly brighter than its surroundings."""
    expected = f"a region of {SMALLEST_MM:g} mm or more along each axis, brighter than the air around it"
    remedy = "give a T1 MR image of a head with its spacing in the header"
    what = "no head is found in the image"
    if not mask.any():
        raise InputError(what, where=where, expected=expected, found="nothing bright", remedy=remedy)
    if float(values.min()) < -200:
        raise InputError(
            "the image is no MR", where=where, expected="intensities of 0 and more",
            found=f"{float(values.min()):g}: a CT in HU?", remedy=remedy,
        )  # fmt: skip
    places = mask.nonzero()
    extent = (places.amax(0) - places.amin(0) + 1) * spacing
    thick = torch.tensor(mask.shape) > 1
    share, outside = float(mask.float().mean()), values[~mask]
    if bool((extent[thick] < SMALLEST_MM).any()) or share < SHARE[0]:
        found = "one of " + " x ".join(f"{mm:.0f}" for mm in extent[thick].tolist()) + " mm"
        raise InputError(what, where=where, expected=expected, found=found, remedy=remedy)
    inside, around = float(values[mask].median()), float(outside.median()) if outside.numel() else math.nan
    if share > SHARE[1] or inside < LEAST_CONTRAST * max(around, 0.0):
        found = f"median {inside:g} inside and {around:g} outside, {share:.0%} of the image"
        raise InputError(what, where=where, expected=expected, found=found, remedy=remedy)


class ScaleInMaskd(MapTransform):
    """Percentiles inside a mask to -1 and 1, clipped: an image times 0.01 or 100 gives the same.

    Args:
        keys: images [1, *spatial].
        mask_key: the mask, 1 inside.
        lower, upper: percentiles.
    """

    def __init__(self, keys: KeysCollection, mask_key: str = "body", lower: float = 0.5, upper: float = 99.5):
        super().__init__(keys)
        self.mask_key, self.lower, self.upper = mask_key, lower, upper

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Record with images to the same with scaled ones."""
        record = dict(data)
        inside = torch.as_tensor(record[self.mask_key]).as_subclass(Tensor) > 0
        for key in self.key_iterator(record):
            values = torch.as_tensor(record[key]).as_subclass(Tensor)[inside].cpu().double().numpy()
            low, high = np.percentile(values, (self.lower, self.upper))
            if high <= low:
                where = record[key].meta.get("filename_or_obj")
                raise InputError("the head has one grey value only", where=where, found=f"{low:g}")
            record[key] = ((record[key] - low) * (2.0 / (high - low)) - 1).clamp(-1, 1)
        return record
