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
from torch import Tensor, nn

from mdl_monai.errors import InputError
from mdl_monai.handlers.load_weights import LoadWeights
from mdl_monai.registration.volume import PLACE, Place, Volume

UNIT_BALL = {2: math.pi, 3: 4 / 3 * math.pi}
COPIES = ((0.0, 1.0), (0.3, 1.0), (-0.3, 1.0), (0.0, 0.8), (0.0, 1.25))
"""Turned about the last two axes' normal [rad] and scaled: what looks like the structure in one alone is not it."""


class Localiser:
    """Centre and size of the likeliest structure in an image, by the mean over turned and scaled copies of it.

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
        p = self._probability(small.to(device)).cpu().numpy()
        parts, count = ndimage.label(p > max(0.05, 0.5 * float(p.max())))
        if not count:
            return None
        mass = ndimage.sum_labels(p, parts, range(1, count + 1))
        best = p * (parts == 1 + int(np.argmax(mass)))
        scale = np.asarray(image.values.shape) / np.asarray(size)
        middle = (np.asarray(ndimage.center_of_mass(best)) + 0.5) * scale - 0.5
        return place_of(image, middle, max(float(best.sum()), 1.0) * scale.prod())

    def _probability(self, image: Tensor) -> Tensor:
        """[1, 1, *spatial] to [*spatial]."""
        found = torch.zeros_like(image)
        for angle, scale in COPIES:
            logits = self.network(turned(image, angle, scale)).float()
            found += turned(torch.softmax(logits, dim=1)[:, 1:], -angle, 1 / scale)
        return found[0, 0] / len(COPIES)


def place_of(image: Volume, middle: np.ndarray, voxels: float) -> Place:
    """Place of a structure of so many voxels about a point [D] in voxels; its radius is that of a ball as large."""
    affine = image.affine.numpy()
    size = voxels * abs(np.linalg.det(affine[:-1, :-1]))
    radius = (size / UNIT_BALL[image.dims]) ** (1 / image.dims)
    return Place(torch.from_numpy(affine[:-1, :-1] @ middle + affine[:-1, -1]), float(radius))


def turned(image: Tensor, angle: float, scale: float) -> Tensor:
    """Image [1, 1, *spatial] turned about its middle in the plane of its last two axes, and shrunk by a scale.

    Edges are continued; with angle 0 and scale 1 it is the image itself.
    """
    if angle == 0 and scale == 1:
        return image
    dims = image.dim() - 2
    inverse = torch.eye(dims, dtype=image.dtype, device=image.device)
    cos, sin = math.cos(angle), math.sin(angle)
    inverse[:2, :2] = torch.tensor([[cos, -sin], [sin, cos]])  # grids count the last axis first
    size = torch.tensor(image.shape[2:][::-1], dtype=image.dtype, device=image.device)
    inverse = scale * inverse * size[None] / size[:, None]  # between voxels and halves of the image
    theta = torch.cat((inverse, torch.zeros_like(inverse[:, :1])), dim=1)[None]
    grid = nn.functional.affine_grid(theta, list(image.shape), align_corners=False)
    return nn.functional.grid_sample(image, grid, padding_mode="border", align_corners=False)


class CropAroundStructured(MapTransform, InvertibleTransform):
    """Cut a box of one size around the structure, smaller at the image's edge; `Invertd` puts it back.

    The crop's meta data say where it lies, see `Place`.

    Args:
        keys: images [1, *spatial] of one grid; the first is searched.
        locate: finds the structure.
        size: voxels along each axis.
        label_key: a label map of the same grid, whose foreground is the structure: an atlas needs no search.

    Raises:
        InputError: the structure is not found.
    """

    def __init__(
        self, keys: KeysCollection, locate: Localiser, size: Sequence[int], label_key: str | None = None
    ) -> None:
        super().__init__(keys)
        self.locate, self.size, self.label_key, self.cropper = locate, tuple(size), label_key, Crop()

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Record with images to the same with their crops."""
        record = dict(data)
        first = record[self.keys[0]]
        volume = Volume.from_image(first)
        known = (
            torch.as_tensor(record[self.label_key])[0].nonzero().double()
            if self.label_key
            else torch.empty(0)
        )
        place = place_of(volume, known.mean(0).numpy(), len(known)) if len(known) else self.locate(volume)
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
