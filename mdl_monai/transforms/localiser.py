"""Find a structure by a small segmentation network, and crop an image around it."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import Crop, InvertibleTransform, MapTransform
from scipy import ndimage
from torch import nn

from mdl_monai.errors import InputError
from mdl_monai.handlers.load_weights import LoadWeights
from mdl_monai.registration.volume import PLACE, Place, Volume

UNIT_BALL = {2: math.pi, 3: 4 / 3 * math.pi}


class Localiser:
    """Centre and size of the likeliest structure in an image.

    Args:
        network: from [1, 1, *spatial], mean 0 and standard deviation 1, to logits [1, 2, *spatial].
        path: its weights, read when first needed.
        spacing: mm of the grid that the network was trained on, along all axes.
    """

    def __init__(self, network: nn.Module, path: str | Path, spacing: float) -> None:
        self.network, self.path, self.spacing = network, Path(path), spacing
        self._ready = False

    @torch.no_grad()
    def __call__(self, image: Volume) -> Place | None:
        """None where nothing looks like the structure."""
        if not self._ready:
            LoadWeights(str(self.path), self.network)()
            self.network.eval()
            self._ready = True
        size = [
            max(8, round(n * float(mm) / self.spacing))
            for n, mm in zip(image.values.shape, image.spacing, strict=True)
        ]
        device = next(self.network.parameters()).device
        small = nn.functional.interpolate(image.standardised().values[None, None].float(), size, mode="area")
        p = torch.softmax(self.network(small.to(device)).float(), dim=1)[0, 1].cpu().numpy()
        parts, count = ndimage.label(p > max(0.05, 0.5 * float(p.max())))
        if not count:
            return None
        mass = ndimage.sum_labels(p, parts, range(1, count + 1))
        best = p * (parts == 1 + int(np.argmax(mass)))
        scale = np.asarray(image.values.shape) / np.asarray(size)
        middle = (np.asarray(ndimage.center_of_mass(best)) + 0.5) * scale - 0.5
        affine = image.affine.numpy()
        voxel = abs(np.linalg.det(affine[:-1, :-1])) * scale.prod()
        volume = max(float(best.sum()), 1.0) * voxel
        radius = (volume / UNIT_BALL[image.dims]) ** (1 / image.dims)
        return Place(torch.from_numpy(affine[:-1, :-1] @ middle + affine[:-1, -1]), float(radius))


class CropAroundStructured(MapTransform, InvertibleTransform):
    """Cut a box of one size around the structure, smaller at the image's edge; `Invertd` puts it back.

    The crop's meta data say where it lies, see `Place`.

    Args:
        keys: images [1, *spatial] of one grid; the first is searched.
        locate: finds the structure.
        size: voxels along each axis.

    Raises:
        InputError: the structure is not found.
    """

    def __init__(self, keys: KeysCollection, locate: Localiser, size: Sequence[int]) -> None:
        super().__init__(keys)
        self.locate, self.size, self.cropper = locate, tuple(size), Crop()

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Record with images to the same with their crops."""
        record = dict(data)
        first = record[self.keys[0]]
        volume = Volume.from_image(first)
        place = self.locate(volume)
        if place is None:
            raise InputError(
                "the structure is not found in the image",
                where=first.meta.get("filename_or_obj"),
                remedy="see whether the image shows it, and the usual way round",
            )
        inverse = torch.linalg.inv(volume.affine)
        middle = (inverse[:-1, :-1] @ place.centre + inverse[:-1, -1]).round().int()
        box = Crop.compute_slices(roi_center=middle, roi_size=self.size)
        for key in self.key_iterator(record):
            record[key] = self.cropper(record[key], box)
            record[key].meta[PLACE] = [*place.centre.tolist(), place.radius]
        return record

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Record with crops to the same on the images' own grids, 0 outside the crop."""
        record = dict(data)
        for key in self.key_iterator(record):
            record[key] = self.cropper.inverse(record[key])
        return record
