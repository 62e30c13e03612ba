"""Simulate a measurement by a sensing operator: the network's input ``image`` and the reference ``label``."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, Randomizable
from torch import Tensor

from mdl_monai.io.nifti_writer import DERIVATION
from mdl_monai.networks.padded import pad_to_multiple
from mdl_monai.physics.sampling import Sampling
from mdl_monai.physics.sensing import SensingOperator, from_channels, to_channels

PADDING = "padding"
"""Metadata of a measured image: what was added to whole blocks, as `pad_to_multiple` tells it."""


class SimulateSensingd(MapTransform):
    """Measure images; images of one size are all measured in the same way.

    Args:
        keys: one key, an image [c, H, W(, D)]: c = 1, or 2 for real and imaginary part.
        operator: what measures.
        sampling: what it measures, drawn once for each size.
        seed: of that draw.
        label_key: where the image goes.
        noise: standard deviation of Gaussian noise in each real part of a measurement, for images of peak 1.
    """

    def __init__(
        self,
        keys: KeysCollection,
        operator: SensingOperator,
        sampling: Sampling,
        seed: int = 0,
        label_key: str = "label",
        noise: float = 0.0,
    ) -> None:
        MapTransform.__init__(self, keys)
        self.operator, self.sampling, self.seed = operator, sampling, seed
        self.label_key, self.noise = label_key, noise
        self.told = f"simulated measurement of an image: {sampling.told}"

    def generator(self) -> np.random.Generator:
        """Where the randomness of a case comes from."""
        return np.random.default_rng(self.seed)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Record with an image to record with ``image`` [c + P, ...], A^H y and sampling, and the label [c, ...]."""
        record = dict(data)
        for key in self.key_iterator(record):
            image = record[key]
            meta = image.meta if isinstance(image, MetaTensor) else {}
            plain = torch.as_tensor(image).as_subclass(Tensor)
            slices = plain[None] if plain.ndim == 3 else plain.permute(3, 0, 1, 2)
            slices, padding = pad_to_multiple(slices, self.operator.multiple)
            border = self._measured(slices, self.generator())
            border = border[0] if plain.ndim == 3 else border.permute(1, 2, 3, 0)
            record[self.label_key] = image
            told = {DERIVATION: self.told, PADDING: padding, "padded": tuple(slices.shape[-2:])}
            record[key] = MetaTensor(border, meta={**meta, **told}) if meta else border
        return record

    @torch.no_grad()
    def _measured(self, slices: Tensor, rng: np.random.Generator) -> Tensor:
        """Slices [D, c, H, W] to the network's input [D, c + P, H, W]."""
        sampling = self.sampling.draw(slices.shape[-2], slices.shape[-1], rng)
        sampling = sampling.expand(slices.shape[0], -1, -1, -1)
        measurement = self.operator.A(from_channels(slices), sampling)
        if self.noise:
            values = torch.view_as_real(measurement) if measurement.is_complex() else measurement
            values += self.noise * torch.from_numpy(rng.standard_normal(values.shape, dtype=np.float32))
        adjoint = to_channels(self.operator.A_adjoint(measurement, sampling))
        return torch.cat([adjoint, sampling], 1)


class RandSimulateSensingd(Randomizable, SimulateSensingd):
    """`SimulateSensingd` with a new draw for each image: for training."""

    def generator(self) -> np.random.Generator:
        """A new one for each image."""
        return np.random.default_rng(self.R.randint(2**31))
