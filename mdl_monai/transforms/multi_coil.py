"""Complex images and raw multi-coil k-space in, for networks with an operator."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from torch import Tensor

from mdl_monai.errors import InputError
from mdl_monai.io.hdf5 import stored_array
from mdl_monai.io.kspace_file import KSpace, load_kspace
from mdl_monai.io.nifti_writer import DERIVATION
from mdl_monai.io.records import stem
from mdl_monai.physics.coil_calibration import coil_maps
from mdl_monai.physics.fourier import ifft2c
from mdl_monai.physics.sampling import CoilSampling
from mdl_monai.transforms.intensity import INTENSITY_SCALE
from mdl_monai.transforms.load import LoadInputd

HDF5 = (".h5", ".hdf5", ".mrd")


class LoadComplexd(LoadInputd):
    """`LoadInputd` that also takes fully sampled k-space of one coil (HDF5), as complex images.

    Arguments as for `LoadInputd`. HDF5 gives [2, H, W, D], real and imaginary part; others give [1, H, W(, D)].
    """

    channels = (1, 2)

    def _read(self, path: Any) -> Any:
        if not str(path).lower().endswith(HDF5):
            return super()._read(path)
        raw = load_kspace(path)
        if raw.data.shape[1] > 1 or not bool(raw.mask.all()):
            raise InputError(
                "the k-space is no complex image", where=path, expected="one coil, every sample acquired",
                found=f"{raw.data.shape[1]} coils, {raw.mask.float().mean():.0%} acquired",
                remedy="reconstruct a scanner's raw data with OVERLAY=kspace",
            )  # fmt: skip
        image = ifft2c(raw.data[:, 0]).permute(1, 2, 0)
        meta = {
            "affine": torch.as_tensor(raw.affine),
            "filename_or_obj": str(path),
            "original_channel_dim": 0,
        }
        return MetaTensor(torch.stack([image.real, image.imag]), meta=meta)


class LoadMultiCoild(MapTransform):
    """Raw k-space of one or several coils to the input of a network with `Sense`.

    Sensitivity maps come from the file's array ``maps`` [slices, coils, rows, columns], or else are estimated from
    the middle of k-space.

    Args:
        keys: one key, the file (fastMRI's HDF5 layout or ISMRMRD).
        name: key of the network's input.
        label_key: key of the fully sampled image, where there is a simulation: combined by the file's own maps, or
            else the root of the sum of squares.
        method: of estimating the maps, see `mdl_monai.physics.coil_calibration`.
        simulation: its mask leaves samples out of k-space that is fully sampled; None: take it as it is.
        seed: of that mask.
    """

    def __init__(
        self,
        keys: KeysCollection,
        name: str = "image",
        label_key: str = "label",
        method: str = "low_frequencies",
        simulation: CoilSampling | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(keys)
        self.name, self.label_key, self.method = name, label_key, method
        self.simulation, self.seed = simulation, seed

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """File to ``image`` [3 + 2 C, H, W, slices] (A^H y, mask, maps), and perhaps ``label`` [2, ...]."""
        path = data[self.keys[0]]
        raw = load_kspace(path)
        kspace, mask = raw.data, raw.mask.float()[:, None]  # [S, C, H, W], [S, 1, H, W]
        meta = {
            "affine": torch.as_tensor(raw.affine), "filename_or_obj": str(path), "size": raw.size,
            "case": data.get("case", stem(path)), "patient": str(data.get("patient", "")),
        }  # fmt: skip
        full = kspace
        if self.simulation is not None:
            rng = np.random.default_rng(self.seed)
            mask = mask * self.simulation.mask(kspace.shape[-2], kspace.shape[-1], rng)
            kspace = kspace * mask
            meta[DERIVATION] = f"retrospectively undersampled k-space: {self.simulation.told}"
        given = given_maps(Path(path), raw)
        maps = given if given is not None else self._estimated(kspace, mask, path)
        record: dict[Hashable, Any] = {INTENSITY_SCALE: torch.ones(1, 1, 1, 1)}
        if self.simulation is not None:
            # not by maps of the samples that are left: their error would be in the reference too
            label = _combined(full, given) if given is not None else _root_of_sum_of_squares(full)
            record[self.label_key] = MetaTensor(_slices_last(label), meta=meta)
        border = torch.cat([_combined(kspace, maps), mask, maps.real, maps.imag], 1)
        record[self.name] = MetaTensor(_slices_last(border), meta=meta)
        return record

    def _estimated(self, kspace: Tensor, mask: Tensor, path: Any) -> Tensor:
        if kspace.shape[1] == 1:
            return torch.ones_like(kspace)
        return torch.stack(
            [coil_maps(k, m[0], self.method, where=path) for k, m in zip(kspace, mask, strict=True)]
        )


def given_maps(path: Path, raw: KSpace) -> Tensor | None:
    """The file's own array ``maps``, complex [slices, coils, rows, columns]; None if there is none."""
    with h5py.File(path, "r") as file:
        stored = stored_array(file, "maps", path) if "maps" in file else None
        if stored is None:
            return None
        if stored.shape != tuple(raw.data.shape) or stored.dtype.kind != "c":
            raise InputError(
                "the sensitivity maps do not fit the k-space", where=path,
                expected=f"maps: complex {list(raw.data.shape)}", found=f"{stored.dtype} {list(stored.shape)}",
            )  # fmt: skip
        return torch.from_numpy(stored[()]).to(torch.complex64)


def _combined(kspace: Tensor, maps: Tensor) -> Tensor:
    """Adjoint image of [S, C, H, W], as [S, 2, H, W]."""
    image = (maps.conj() * ifft2c(kspace)).sum(1)
    return torch.stack([image.real, image.imag], 1)


def _root_of_sum_of_squares(kspace: Tensor) -> Tensor:
    """Magnitude image of [S, C, H, W], as [S, 2, H, W]."""
    magnitude = ifft2c(kspace).abs().square().sum(1).sqrt()
    return torch.stack([magnitude, torch.zeros_like(magnitude)], 1)


def _slices_last(images: Tensor) -> Tensor:
    return images.permute(1, 2, 3, 0).contiguous()
