"""Structure loss between images of different contrast: the distance of their MIND descriptors."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mdl_monai.losses.mind import MindDistance, mind, region_offsets

PATCH_RADIUS, PATCH_SIGMA, REACH = 3, 2.0, 4  # patches of 7 x 7, offsets over 9 x 9, as published


class MindLoss(nn.Module):
    r"""Mean of :math:`|MIND(x, r) - MIND(y, r)|` over the mask's voxels and the offsets r, from 0 (equal) to 1.

    It keeps the anatomy of an image that a network translates to another contrast: descriptors do not know linear
    changes of grey values, nor their sign. A true pair of MR and CT is still far from 0. Yang et al.: Unsupervised
    MR-to-CT synthesis using structure-constrained CycleGAN, IEEE TMI 2020, doi:10.1109/TMI.2020.3015379; descriptors
    of patches of 7 x 7 (sigma 2) at offsets over 9 x 9. In float32 under autocast too.

    Args:
        stride: between the offsets, in voxels: 1, the paper's, takes 80 (728 in 3D), 2 takes 24 (124), which tell
            misplaced images from true pairs as well.

    Raises:
        ValueError: a stride other than 1, 2 or 4.
    """

    def __init__(self, stride: int = 2) -> None:
        super().__init__()
        self.offsets = {dims: region_offsets(dims, REACH, stride) for dims in (2, 3)}

    def describe(self, image: Tensor) -> Tensor:
        """[B, 1, H, W(, D)] to descriptors [B, offsets, H, W(, D)], float32 or float64."""
        return mind(image, PATCH_RADIUS, PATCH_SIGMA, self.offsets[image.ndim - 2])

    def forward(self, pred: Tensor, reference: Tensor, mask: Tensor | None = None) -> Tensor:
        """Distance of images from references; the gradient reaches the images alone.

        Args:
            pred, reference: [B, 1, H, W(, D)].
            mask: [B or 1, 1, H, W(, D)], 1 in the body and 0 elsewhere; None for everywhere. A voxel of it is
                judged by its surroundings, 7 voxels wide, which may lie outside. Where it is empty the distance is 0.

        Returns:
            A scalar, the mean over the batch.

        Raises:
            ValueError: shapes that differ, or more than one channel.
        """
        if pred.shape != reference.shape or pred.shape[1] != 1 or pred.ndim not in (4, 5):
            raise ValueError(
                f"pred {tuple(pred.shape)} and reference {tuple(reference.shape)} must both be [B, 1, H, W(, D)]"
            )
        if mask is not None and mask.shape[1:] != pred.shape[1:]:
            raise ValueError(f"mask {tuple(mask.shape)} does not fit images {tuple(pred.shape)}")
        inside = torch.ones_like(pred[:1]) if mask is None else mask
        with torch.no_grad():
            wanted = self.describe(reference)
        found = self.describe(pred)
        return MindDistance(wanted, inside.to(found))(found).mean()
