"""What a 2D network for several views sees of a volume in a training step: one slice of one view."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, Randomizable
from torch import Tensor

from mdl_monai.inferers.orthogonal_views import AXES, axes_of


class RandViewSliced(Randomizable, MapTransform):
    """A random slice of a random view of a volume, one that the mask reaches into; a single slice is its own.

    Args:
        keys: volumes [C, X, Y, Z] of one grid, right-anterior-superior; the last channel of the last is the mask.
        views: to draw from, of axial, coronal, sagittal.
    """

    def __init__(self, keys: KeysCollection, views: Sequence[str] = tuple(AXES)) -> None:
        MapTransform.__init__(self, keys)
        self.axes = axes_of(views)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Record with volumes to record with plain tensors [C, H, W]."""
        record = dict(data)
        volumes = {key: torch.as_tensor(record[key]).as_subclass(Tensor) for key in self.key_iterator(record)}
        mask = volumes[self.keys[-1]][-1] > 0.5
        flat = [axis for axis in range(3) if mask.shape[axis] == 1]
        axis = flat[-1] if flat else self.axes[self.R.randint(len(self.axes))]
        reached = mask.movedim(axis, 0).flatten(1).any(1).nonzero().flatten()
        index = int(reached[self.R.randint(len(reached))]) if len(reached) else mask.shape[axis] // 2
        return record | {key: volume.select(1 + axis, index) for key, volume in volumes.items()}
