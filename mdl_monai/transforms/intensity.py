"""Intensities: to a peak of 1 for the network, and back to the input's for the saved file."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

INTENSITY_SCALE = "intensity_scale"


class ScaleToPeakd(MapTransform):
    """Divide each slice by its own largest magnitude; the divisor is kept under ``intensity_scale``.

    Args:
        keys: one key, an image [c, H, W] or [c, H, W, D], real and imaginary part if c is 2.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Scale the image; an empty slice stays as it is."""
        record = dict(data)
        for key in self.key_iterator(record):
            image = record[key]
            magnitude = torch.as_tensor(image).square().sum(0, keepdim=True).sqrt()
            peak = magnitude.amax(dim=(1, 2), keepdim=True)
            peak = torch.where(peak > 0, peak, 1.0)
            record[key] = image / peak
            record[INTENSITY_SCALE] = peak
        return record


class RestoreIntensityd(MapTransform):
    """Multiply by the divisor of `ScaleToPeakd` and take over the input's metadata.

    Args:
        keys: images on the input's grid.
        meta_key: the item whose metadata (affine, case) they get.
    """

    def __init__(
        self, keys: KeysCollection, meta_key: str = "image", allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.meta_key = meta_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Images in the input's intensity, as `MetaTensor`."""
        record = dict(data)
        meta = record[self.meta_key].meta
        scale = torch.as_tensor(record[INTENSITY_SCALE]).cpu()
        for key in self.key_iterator(record):
            if record[key] is not None:  # a scan has no reference
                record[key] = MetaTensor(torch.as_tensor(record[key]).cpu() * scale, meta=meta)
        return record
