"""What atlases and a target tell about one another before their labels are fused."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def standardised(images: Tensor, seen: Tensor) -> Tensor:
    """Images [B, N, *spatial] with mean 0 and standard deviation 1 where `seen` is above 0, and 0 elsewhere."""
    inside = (seen > 0).to(images.dtype)
    axes = list(range(2, images.dim()))
    count = inside.sum(dim=axes, keepdim=True).clamp_min(1)
    centred = (images - (images * inside).sum(dim=axes, keepdim=True) / count) * inside
    variance = centred.square().sum(dim=axes, keepdim=True) / count
    return centred / torch.sqrt(variance + 1e-8)


def atlas_distance(target: Tensor, atlases: Tensor, seen: Tensor) -> Tensor:
    """Mean squared distance of the features of the target [B, C, *spatial] and each atlas [B, K, C, *spatial].

    Returns:
        [B, K] over the voxels of `seen` [B, K, *spatial]; 1e4 for an atlas that is seen nowhere.
    """
    inside = seen.to(target.dtype).flatten(2)
    distance = (target[:, None] - atlases).square().sum(dim=2).flatten(2)
    count = inside.sum(dim=2)
    return torch.where(count > 0, (distance * inside).sum(dim=2) / count.clamp_min(1), 1e4)


def same_meaning(first: Tensor, second: Tensor) -> Tensor:
    """Whether each label of one segmentation meets none of another's labels [B, L, *spatial] more than its own.

    Two segmentations of one structure may miss one another, but labels that were exchanged meet each other.

    Returns:
        Boolean [B]; the first label, background, does not count.
    """
    a, b = first[:, 1:].flatten(2), second[:, 1:].flatten(2)
    overlap = a @ b.transpose(1, 2)
    own = torch.diagonal(overlap, dim1=1, dim2=2)
    return (own >= overlap.amax(dim=2)).all(dim=1)


def undecided_tiles(labels: Tensor, seen: Tensor, radius: int, tile: int) -> Tensor:
    """Tiles in whose windows the atlases differ, or of which no atlas sees all.

    Args:
        labels: [B, K, L, *spatial], 0 where not seen.
        seen: boolean [B, K, *spatial].
        radius: of the window, in voxels.
        tile: voxels an axis; the last tile may reach over the edge.

    Returns:
        Boolean [B, *tiles an axis].
    """
    against = torch.where(seen[:, :, None], 1 - labels, 0.0).amax(
        dim=1
    )  # of the strongest opponent of each label
    against = torch.maximum(against, 1.0 - seen.any(dim=1, keepdim=True).to(against.dtype))
    padding: list[int] = []
    for n in against.shape[2:][::-1]:
        padding += [radius, (-n) % tile + radius]
    padded, side = F.pad(against, padding), tile + 2 * radius
    pooled = F.max_pool3d(padded, side, tile) if padded.dim() == 5 else F.max_pool2d(padded, side, tile)
    return pooled.amin(dim=1) > 1e-4  # linear warping leaves a label at 1 up to rounding
