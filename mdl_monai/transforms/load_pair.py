"""Load an MR image with the CT of the same patient on the same grid."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.data import MetaTensor

from mdl_monai.errors import InputError
from mdl_monai.io.label_map import check_grid, check_label_map
from mdl_monai.transforms.body_mask import body_mask
from mdl_monai.transforms.load import LoadInputd


class LoadImageAndCTd(LoadInputd):
    """`LoadInputd` for the MR image, and the CT with the mask in which it counts.

    Args:
        image_key, ct_key: file names in the record.
        mask_key: that of the mask; None: the body, found in the MR image.
    """

    def __init__(self, image_key: str, ct_key: str, mask_key: str | None) -> None:
        super().__init__(image_key, "image", (3,))
        self.image_key, self.ct_key, self.mask_key = image_key, ct_key, mask_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Record with file names to ``image`` [1, X, Y, Z] and ``label`` [2, X, Y, Z]: CT in HU, mask.

        Raises:
            InputError: as `LoadInputd`; CT or mask of another grid, a CT that is not in HU.
        """
        image: Any = self._image(data, self.image_key)
        ct: Any = self._image(data, self.ct_key)
        check_grid(ct, image, "CT", where=data[self.ct_key], affines=(ct.affine, image.affine))
        if float(ct.min()) > -500:
            raise InputError(
                "the CT is not in HU", where=data[self.ct_key], expected="air, near -1000",
                found=f"nothing below {float(ct.min()):g}", remedy="apply its slope and intercept",
            )  # fmt: skip
        if self.mask_key is None:
            mask = body_mask(torch.as_tensor(image)[0], torch.as_tensor(image.pixdim))[None].float()
        else:
            mask = self._read(data[self.mask_key])
            check_label_map(mask, image, (1,), where=data[self.mask_key], affines=(mask.affine, image.affine))
        both = torch.cat((torch.as_tensor(ct), torch.as_tensor(mask)))
        return {"image": image, "label": MetaTensor(both, meta=dict(image.meta))}
