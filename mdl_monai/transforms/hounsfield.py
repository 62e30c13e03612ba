"""Between HU and a network's unit."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from monai.config import KeysCollection
from monai.transforms import MapTransform


class _OfHounsfieldd(MapTransform):
    """What both ways share."""

    def __init__(self, keys: KeysCollection, hu_range: Sequence[float]) -> None:
        super().__init__(keys)
        self.low, self.high = hu_range


class ToHounsfieldd(_OfHounsfieldd):
    """-1 to 1 becomes the range of HU that was trained on, in whole HU; what lies beyond is clipped.

    Args:
        keys: images in the network's unit, `MetaTensor`.
        hu_range: HU of -1 and of 1.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Record with images to the same in HU."""
        record = dict(data)
        for key in self.key_iterator(record):
            hu = (record[key].clamp(-1, 1) + 1) * (0.5 * (self.high - self.low)) + self.low
            record[key] = hu.round()
        return record


class FromHounsfieldd(_OfHounsfieldd):
    """The way back: a range of HU becomes -1 to 1, clipped.

    Args:
        keys: tensors whose first channel is in HU; further channels (a mask) stay.
        hu_range: HU of -1 and of 1.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Record with images in HU to the same in the network's unit."""
        record = dict(data)
        for key in self.key_iterator(record):
            image = record[key].clone()
            image[0] = ((image[0] - self.low) * (2 / (self.high - self.low)) - 1).clamp(-1, 1)
            record[key] = image
        return record
