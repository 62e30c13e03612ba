"""How alike a target and many atlases are on one grid: normalised mutual information, or deep features."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from mdl_monai.io.content_cache import content_key

BINS = 32
SAMPLES = 4096  # voxels whose percentiles bound the bins: sorting all would take longer than all the rest


def normalised_mutual_information(target: Tensor, atlases: Tensor, valid: Tensor) -> Tensor:
    """(H(target) + H(atlas)) / H(target, atlas) of grey values in 32 bins, over each atlas's valid voxels.

    Args:
        target: [*spatial].
        atlases: [N, *spatial].
        valid: [N, *spatial], voxels that count are above 0.5.

    Returns:
        [N], from 1 (independent, or nothing valid) to 2 (one tells the other).
    """
    n = len(atlases)
    joint = _binned(target.flatten()[None]) * BINS + _binned(atlases.flatten(1))
    joint = joint + torch.arange(n, device=joint.device)[:, None] * BINS**2
    counts = torch.bincount(joint[valid.flatten(1) > 0.5], minlength=n * BINS**2)
    p = counts.view(n, BINS, BINS).double()
    p = p / p.sum((1, 2), keepdim=True).clamp_min(1)
    both = _entropy(p.flatten(1))
    score = (_entropy(p.sum(1)) + _entropy(p.sum(2))) / both.clamp_min(1e-12)
    return torch.where(both > 0, score, 1.0).float()


def _binned(rows: Tensor) -> Tensor:
    """Bins of each row [N, voxels] between its 0.5th and 99.5th percentile."""
    some = rows[:, :: max(1, rows.shape[1] // SAMPLES)].float().sort(1).values
    last = some.shape[1] - 1
    low, high = some[:, int(0.005 * last)], some[:, int(0.995 * last)]
    width = (high - low).clamp_min(torch.finfo(torch.float32).tiny)
    return ((rows - low[:, None]) / width[:, None] * BINS).clamp(0, BINS - 1).long()


def _entropy(p: Tensor) -> Tensor:
    return -torch.special.xlogy(p, p).sum(1)


class DeepFeatureSimilarity:
    """Minus the squared distance of a network's features, of unit length at a voxel, in the mean over valid voxels.

    An atlas's features are kept, so a library costs one pass of the network for each atlas, however many targets.

    Args:
        network: any module from [B, 1, *spatial] to feature maps [B, C, *any size]; put into evaluation mode.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network.eval()
        self._known: dict[str, Tensor] = {}

    def features(self, image: Tensor) -> Tensor:
        """Of one image [*spatial], which is brought to mean 0 and standard deviation 1: [C, *any size]."""
        own = ((image - image.mean()) / image.std().clamp_min(1e-6))[None, None]
        with torch.no_grad():
            found = self.network(own.to(next(self.network.parameters()).device))
        return functional.normalize(found[0].float().cpu(), dim=0)

    def __call__(self, target: Tensor, atlases: Tensor, valid: Tensor) -> Tensor:
        """As for :func:`normalised_mutual_information`, from -4 to 0, where more is more alike."""
        own = self.features(target)
        return torch.stack(
            [self._alike(own, self._of_atlas(a), v) for a, v in zip(atlases, valid, strict=True)]
        )

    def _of_atlas(self, image: Tensor) -> Tensor:
        key = content_key(image)
        if key not in self._known:
            self._known[key] = self.features(image)
        return self._known[key]

    @staticmethod
    def _alike(own: Tensor, other: Tensor, valid: Tensor) -> Tensor:
        weight = functional.interpolate(valid[None, None].float(), own.shape[1:], mode="area")[0, 0]
        distance = (own - other).square().sum(0)
        return torch.where(weight.sum() > 0, -(weight * distance).sum() / weight.sum().clamp_min(1e-12), -4.0)
