"""Feature networks without down-sampling, for label fusion: as published, and without learning."""

from __future__ import annotations

from collections import OrderedDict

import torch
import torch.nn.functional as F
from monai.networks.blocks import Convolution
from torch import Tensor, nn


class PlainFeatures(nn.Sequential):
    """A plain stack of 3 x 3 (x 3) convolutions with ReLU between them, as in the published Deep Fusion Net.

    The paper names neither depth nor width; the field of view is 2 `layers` + 1 voxels.

    Args:
        spatial_dims: 2 or 3.
        width: channels of each layer and features at the end.
        layers: number of convolutions.
    """

    def __init__(self, spatial_dims: int, width: int = 16, layers: int = 3) -> None:
        convolutions = (
            Convolution(
                spatial_dims, width if n else 1, width, adn_ordering="A", act="relu",
                conv_only=n == layers - 1,
            )
            for n in range(layers)
        )  # fmt: skip
        super().__init__(OrderedDict((f"layer{n}", layer) for n, layer in enumerate(convolutions)))


class PatchFeatures(nn.Module):
    r"""The intensities around a voxel: non-local fusion on them is patch-based fusion, which learns nothing.

    With features x / (h sqrt(n)) of the n voxels x of a patch the weight of two patches is
    :math:`exp(-|x - y|^2 / (n h^2))`. Coupe et al., NeuroImage 54, 2011, doi:10.1016/j.neuroimage.2010.09.018; h is
    a constant here.

    Args:
        spatial_dims: 2 or 3.
        radius: r, of patches of 2 r + 1 voxels an axis.
        bandwidth: h, in standard deviations of the image.
    """

    kernel: Tensor

    def __init__(self, spatial_dims: int, radius: int = 1, bandwidth: float = 0.3) -> None:
        super().__init__()
        self.radius = radius
        side = 2 * radius + 1
        n = side**spatial_dims
        kernel = torch.eye(n).view(n, 1, *([side] * spatial_dims)) / (bandwidth * n**0.5)
        self.register_buffer("kernel", kernel, persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """[N, 1, *spatial] to [N, n, *spatial]; the image goes on by its border's values."""
        padded = F.pad(image, [self.radius] * (2 * (image.dim() - 2)), mode="replicate")
        return F.conv3d(padded, self.kernel) if image.dim() == 5 else F.conv2d(padded, self.kernel)
