"""What a training step sees of a target's atlases: some of them, a few of which have failed."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, Randomizable
from torch import Tensor

from mdl_monai.networks.fusion_border import FusionInput, join_fusion_input, split_fusion_input


class RandAtlasesd(Randomizable, MapTransform):
    """Random atlases of a larger number, of random contrast, some absent and some wrong, as a plain tensor.

    So a network meets any number of atlases, and registrations that failed without being noticed: their image and
    labels are mirrored or moved together, as an atlas of other anatomy would be.

    Args:
        keys: the input of a label fusion network, [1 + N (L + 2), *spatial], images in [0, 1].
        n_labels: L, background included.
        count: K, of the result [1 + K (L + 2), *spatial].
        absent: up to so many of them, but never all, are not valid anywhere.
        wrong: probability of each to be wrong.
        gamma: largest change of an image's logarithmic gamma, of the target's and of each atlas's.
    """

    def __init__(
        self,
        keys: KeysCollection,
        n_labels: int,
        count: int,
        absent: int = 3,
        wrong: float = 0.1,
        gamma: float = 0.4,
    ) -> None:
        MapTransform.__init__(self, keys)
        self.n_labels, self.count, self.absent = n_labels, count, absent
        self.wrong, self.gamma = wrong, gamma

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Record with the input of N atlases to the same with that of K."""
        record = dict(data)
        for key in self.key_iterator(record):
            record[key] = self._some(torch.as_tensor(record[key]).as_subclass(Tensor))
        return record

    def _some(self, image: Tensor) -> Tensor:
        parts = split_fusion_input(image[None], (len(image) - 1) // (self.n_labels + 2), self.n_labels)
        there = parts.valid[0].flatten(1).any(1).nonzero()[:, 0].numpy()
        chosen = self.R.permutation(there)[: self.count]
        images, labels, valid = (x[0, chosen] for x in (parts.images, parts.labels, parts.valid))
        for k in range(len(chosen)):
            if self.R.random() < self.wrong:
                self._misplace(images[k][None], labels[k], valid[k][None])
            images[k] = self._contrast(images[k])
        valid[: self.R.randint(max(0, min(self.absent, len(chosen) - 1)) + 1)] = 0
        target = self._contrast(parts.target[0, 0])[None]
        missing = self.count - len(chosen)
        grown = (torch.cat((x, x.new_zeros(missing, *x.shape[1:])))[None] for x in (images, labels, valid))
        return join_fusion_input(FusionInput(target[None], *grown))[0]

    def _misplace(self, *maps: Tensor) -> None:
        dims = maps[0].ndim - 1
        mirrored = [axis + 1 for axis in range(dims) if self.R.random() < 0.5]
        moved = [int(self.R.uniform(-0.3, 0.3) * n) for n in maps[0].shape[1:]]
        for x in maps:
            x.copy_(x.flip(mirrored).roll(moved, dims=list(range(1, dims + 1))))

    def _contrast(self, image: Tensor) -> Tensor:
        return image.clamp_min(0) ** float(torch.tensor(self.R.uniform(-self.gamma, self.gamma)).exp())
