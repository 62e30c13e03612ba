"""Take a mask apart from the image that it lies behind."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from monai.config import KeysCollection
from monai.transforms import MapTransform


class SplitMaskd(MapTransform):
    """The last channel becomes a mask of its own, so that the image alone is left.

    Args:
        keys: image and mask in one, [C + 1, *spatial].
        names: further keys of the mask, [1, *spatial]; several for images that share it.
    """

    def __init__(self, keys: KeysCollection, names: Sequence[str]) -> None:
        super().__init__(keys)
        self.names = names

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Record to the same with the image and mask apart."""
        record = dict(data)
        for key in self.key_iterator(record):
            both = record[key]
            record |= {key: both[:-1], **dict.fromkeys(self.names, both[-1:])}
        return record
