"""Simulate undersampled k-space from an image: the network's border ``image`` and the reference ``label``."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, Randomizable
from torch import Tensor

from mdl_monai.errors import InputError
from mdl_monai.io.mask_file import load_mask
from mdl_monai.io.nifti_writer import DERIVATION
from mdl_monai.physics.fourier import fft2c
from mdl_monai.physics.masks import MASK_TYPES, sampling_mask


def undersample(image: Tensor, mask: Tensor) -> Tensor:
    """Image [1, H, W] or [1, H, W, D] and mask [H, W] to [3, ...]: real, imaginary part, mask of each slice."""
    slices = image if image.ndim == 3 else image[0].permute(2, 0, 1)  # [D, H, W]
    kspace = fft2c(slices) * mask
    border = torch.stack([kspace.real, kspace.imag, mask.expand_as(kspace.real)])  # [3, D, H, W]
    return border[:, 0] if image.ndim == 3 else border.permute(0, 2, 3, 1)


MIN_SIZE = 4  # pixels along each axis of a slice, below which there is nothing to undersample


def _check_ratio(*ratios: object) -> None:
    for ratio in ratios:
        if not isinstance(ratio, (int, float)) or not 0 < ratio <= 1:
            raise InputError(
                "the sampling ratio is a share of all points",
                expected="a number above 0 and at most 1",
                found=ratio,
                remedy="set it, for example, to 0.2",
            )


def _check_mask_type(mask_type: str) -> None:
    if mask_type not in MASK_TYPES:
        raise InputError(
            f"unknown mask type {mask_type!r}", expected=" or ".join(MASK_TYPES), remedy="set --mask_type"
        )


class SimulateKSpaced(MapTransform):
    """Replace the image by its masked k-space and mask, and keep it as the reference.

    Args:
        keys: one key, an image [1, H, W] or [1, H, W, D] with a peak of 1.
        label_key: where the fully sampled image goes.
        mask_type: one of `MASK_TYPES`; not used with a file.
        sampling_ratio: share of sampled points, above 0 and at most 1.
        seed: of the mask; every image of a size gets the same mask.
        mask_file: the user's own mask, DC in the centre (see `load_mask`).
        mask_key: name of the array in it.
    """

    def __init__(
        self,
        keys: KeysCollection,
        label_key: str = "label",
        mask_type: str = "pseudo_radial",
        sampling_ratio: float = 0.2,
        seed: int = 0,
        mask_file: str | None = None,
        mask_key: str | None = None,
    ) -> None:
        super().__init__(keys)
        _check_mask_type(mask_type)
        _check_ratio(sampling_ratio)
        self.label_key = label_key
        self.mask_type, self.sampling_ratio, self.seed = mask_type, sampling_ratio, seed
        self.mask_file = mask_file
        self._from_file = None if mask_file is None else load_mask(mask_file, mask_key)
        how = "the user's mask" if mask_file else f"{mask_type}, ratio {sampling_ratio:g}"
        self.told = f"retrospectively undersampled k-space: {how}"
        self._cache: dict[tuple[int, int], Tensor] = {}

    def mask_for(self, height: int, width: int, where: object) -> Tensor:
        """The mask [H, W] for slices of a size; `where` is for the message, should the file have another one."""
        if (height, width) not in self._cache:
            if self._from_file is None:
                rng = np.random.default_rng(self.seed)
                mask = sampling_mask(self.mask_type, self.sampling_ratio, height, width, rng)
            else:
                mask = self._from_file
                if mask.shape != (height, width):
                    raise InputError(
                        "the mask has another size than the image",
                        where=where,
                        expected=f"mask {self.mask_file} of {height} x {width}",
                        found=f"{mask.shape[0]} x {mask.shape[1]}",
                        remedy="give a mask of the image's size, or leave --mask_file out to generate one",
                    )
            self._cache[height, width] = torch.from_numpy(mask).float()
        return self._cache[height, width]

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Record with an image to record with ``image`` [3, ...] and the label [1, ...]."""
        record = dict(data)
        for key in self.key_iterator(record):
            image = record[key]
            meta = image.meta if isinstance(image, MetaTensor) else {}
            plain = torch.as_tensor(image).as_subclass(Tensor)
            where = meta.get("filename_or_obj", "image")
            if min(plain.shape[1:3]) < MIN_SIZE:
                raise InputError(
                    "the image is too thin to be a slice",
                    where=where,
                    expected=f"at least {MIN_SIZE} x {MIN_SIZE} pixels along the first two axes",
                    found=f"{plain.shape[1]} x {plain.shape[2]}",
                    remedy="reorder its axes so that the slices come last",
                )
            mask = self.mask_for(plain.shape[1], plain.shape[2], where)
            record[self.label_key] = image
            record[key] = MetaTensor(undersample(plain, mask), meta={**meta, DERIVATION: self.told})
        return record


class RandSimulateKSpaced(Randomizable, MapTransform):
    """`SimulateKSpaced` with a new mask of random type, ratio and angle each time: for training.

    Args:
        keys: one key, an image [1, H, W] with a peak of about 1.
        label_key: where the fully sampled image goes.
        mask_types: types to draw from, with their weights.
        sampling_ratio: range to draw the ratio from, evenly.
    """

    def __init__(
        self,
        keys: KeysCollection,
        label_key: str = "label",
        mask_types: Mapping[str, float] | Sequence[str] = ("pseudo_radial",),
        sampling_ratio: tuple[float, float] = (0.08, 0.55),
    ) -> None:
        MapTransform.__init__(self, keys)
        self.label_key = label_key
        weights = dict(mask_types) if isinstance(mask_types, Mapping) else dict.fromkeys(mask_types, 1.0)
        for mask_type in weights:
            _check_mask_type(mask_type)
        _check_ratio(*sampling_ratio)
        total = sum(weights.values())
        self.weights = {mask_type: weight / total for mask_type, weight in weights.items()}
        self.sampling_ratio = sampling_ratio

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Record with an image to record with ``image`` [3, H, W] and the label [1, H, W]."""
        record = dict(data)
        for key in self.key_iterator(record):
            rng = np.random.default_rng(self.R.randint(2**31))
            mask_type = str(rng.choice(list(self.weights), p=list(self.weights.values())))
            ratio = float(rng.uniform(*self.sampling_ratio))
            plain = torch.as_tensor(record[key]).as_subclass(Tensor)
            mask = sampling_mask(mask_type, ratio, plain.shape[1], plain.shape[2], rng, random_angle=True)
            record[self.label_key] = plain
            record[key] = undersample(plain, torch.from_numpy(mask).float())
        return record
