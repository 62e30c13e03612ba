"""Raw k-space files in and coil images together: what a network for one coil needs to reconstruct a scan."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import CenterSpatialCrop, MapTransform, SpatialPad
from torch import Tensor

from mdl_monai.io.kspace_file import load_kspace
from mdl_monai.io.nifti_writer import DERIVATION
from mdl_monai.io.records import stem
from mdl_monai.physics.fourier import ifft2c
from mdl_monai.transforms.kspace import SimulateKSpaced


class LoadKSpaced(MapTransform):
    """Load a raw k-space file (fastMRI, ISMRMRD), its slices and coils one behind the other.

    Args:
        keys: one key, the file.
        name: key of the network's input.
        label_key: key of the fully sampled coil images, where there is a simulation.
        simulation: leave samples out as this does, of k-space that is fully sampled; None: take it as it is.
    """

    def __init__(
        self,
        keys: KeysCollection,
        name: str = "image",
        label_key: str = "label",
        simulation: SimulateKSpaced | None = None,
    ) -> None:
        super().__init__(keys)
        self.name, self.label_key, self.simulation = name, label_key, simulation

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """File to ``image`` [3, H, W, slices * coils] (real, imaginary, mask), and perhaps ``label`` [1, ...]."""
        path = data[self.keys[0]]
        raw = load_kspace(path)
        coils = raw.data.shape[1]
        kspace, mask = raw.data.flatten(0, 1), raw.mask.float().repeat_interleave(coils, 0)
        meta = {
            "affine": torch.as_tensor(raw.affine), "filename_or_obj": str(path), "coils": coils, "size": raw.size,
            "case": data.get("case", stem(path)), "patient": str(data.get("patient", "")),
        }  # fmt: skip
        record: dict[Hashable, Any] = {}
        if self.simulation is not None:
            label = ifft2c(kspace).abs()
            record[self.label_key] = MetaTensor(label.permute(1, 2, 0)[None], meta=meta)
            mask = mask * self.simulation.mask_for(mask.shape[-2], mask.shape[-1], path)
            kspace = kspace * mask
            meta[DERIVATION] = self.simulation.told
        border = torch.stack([kspace.real, kspace.imag, mask]).permute(0, 2, 3, 1)
        record[self.name] = MetaTensor(border, meta=meta)
        return record


class CombineCoilsd(MapTransform):
    """Root of the sum of squares over the coils, in the size that the scanner shows.

    Args:
        keys: magnitudes [1, H, W, slices * coils].
        meta_key: the item of `LoadKSpaced`, whose metadata they get.
    """

    def __init__(
        self, keys: KeysCollection, meta_key: str = "image", allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.meta_key = meta_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Magnitudes of coils to images [1, rows, columns, slices]; ``adjoint`` is that of k-space as it is."""
        record = dict(data)
        border = record[self.meta_key]
        real, imaginary, _ = torch.as_tensor(border).as_subclass(Tensor).cpu().permute(0, 3, 1, 2)
        record["adjoint"] = ifft2c(torch.complex(real, imaginary)).abs().permute(1, 2, 0)[None]
        for key in ("adjoint", *self.key_iterator(record)):
            if record[key] is not None:
                record[key] = self._combined(record[key], border.meta)
        return record

    def _combined(self, magnitudes: Any, meta: dict[str, Any]) -> MetaTensor:
        coils = torch.as_tensor(magnitudes).as_subclass(Tensor).cpu().unflatten(-1, (-1, int(meta["coils"])))
        image = MetaTensor(coils.square().sum(-1).sqrt(), meta=meta)
        size = (*(int(n) for n in meta["size"]), image.shape[-1])
        return SpatialPad(size)(CenterSpatialCrop(size)(image))  # type: ignore[return-value]
