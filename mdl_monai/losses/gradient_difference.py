"""Loss on edges: synthetic images shall change as much from voxel to voxel as true ones."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class GradientDifferenceLoss(nn.Module):
    r"""Sum over the axes of the mean of :math:`(|\partial_i x| - |\partial_i y|)^2`, by differences of neighbours.

    It counters the blur that a mean squared error leaves. Nie et al.: Medical image synthesis with context-aware
    generative adversarial networks, MICCAI 2017, doi:10.1007/978-3-319-66179-7_48. In float32 under autocast too.
    """

    def forward(self, pred: Tensor, reference: Tensor, mask: Tensor | None = None) -> Tensor:
        """Images [B, C, H, W(, D)] of equal shape to a scalar.

        Args:
            pred, reference: the images x and y.
            mask: [B or 1, 1, H, W(, D)], 1 where images count; a difference counts where both its voxels do. None
                for everywhere.

        Raises:
            ValueError: if the shapes do not fit.
        """
        if pred.shape != reference.shape:
            raise ValueError(
                f"pred {tuple(pred.shape)} and reference {tuple(reference.shape)} differ in shape"
            )
        if mask is not None and mask.shape[2:] != pred.shape[2:]:
            raise ValueError(f"mask {tuple(mask.shape)} does not fit images {tuple(pred.shape)}")
        x, y = (image if image.dtype == torch.float64 else image.float() for image in (pred, reference))
        weight = torch.ones_like(x) if mask is None else mask.to(x).expand_as(x)
        total = x.new_zeros(())
        for axis in range(2, x.ndim):
            last = x.shape[axis] - 1
            both = weight.narrow(axis, 0, last) * weight.narrow(axis, 1, last)
            error = (x.diff(dim=axis).abs() - y.diff(dim=axis).abs()).square()
            total = total + (error * both).sum() / both.sum().clamp_min(1)
        return total
