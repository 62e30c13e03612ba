"""From what a network with an operator gives to images to look at, measure and save."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import CenterSpatialCrop, MapTransform, SpatialPad
from monai.utils import convert_to_tensor
from torch import Tensor

from mdl_monai.transforms.sensing import PADDING


class ShowReconstructiond(MapTransform):
    """Magnitudes of complex images, in the size of the input; and beside them what was measured.

    Adds ``adjoint``, the image A^H y treated in the same way, and ``mask`` [H, W(, D)], both of the network's input.
    Of a result with one channel more, sigma of `WithUncertainty`, that becomes ``uncertainty`` [1, H, W(, D)].

    Args:
        keys: images [c, H, W(, D)], c = 1, or 2 for real and imaginary part.
        meta_key: the network's input [c + P, H, W(, D)], whose metadata they get.
        channels: c.
    """

    def __init__(
        self, keys: KeysCollection, channels: int, meta_key: str = "image", allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.channels, self.meta_key = channels, meta_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Record with images [1, H, W(, D)]."""
        record = dict(data)
        border = record[self.meta_key]
        record["mask"] = convert_to_tensor(border, device="cpu")[self.channels]
        record["adjoint"] = border[: self.channels]
        for key in ("adjoint", *self.key_iterator(record)):
            if record[key] is None:
                continue
            image = convert_to_tensor(record[key], device="cpu")
            if image.shape[0] == self.channels + 1:
                record["uncertainty"] = self._shown(image[-1:], border.meta)
                image = image[:-1]
            if self.channels == 2:
                image = image.square().sum(0, keepdim=True).sqrt()
            record[key] = self._shown(image, border.meta)
        return record

    def _shown(self, image: Tensor, meta: dict[str, Any]) -> MetaTensor:
        left, right, top, bottom = meta.get(PADDING, (0, 0, 0, 0))
        if image.shape[1:3] == tuple(meta.get("padded", ())):
            image = image[:, top : image.shape[1] - bottom, left : image.shape[2] - right]
        if "size" in meta:  # a scanner's raw data: what it shows of the field of view
            size = (*(int(n) for n in meta["size"]), *image.shape[3:])
            image = SpatialPad(size)(CenterSpatialCrop(size)(image))
        return MetaTensor(image, meta=meta)
