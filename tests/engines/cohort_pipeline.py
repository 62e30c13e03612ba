"""Slices of phantom heads and their preprocessing: a module of its own, as workers import it by name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.transforms import Compose, ScaleIntensityd
from torch import Tensor

from mdl_monai.phantoms.anatomy import Tissue
from mdl_monai.phantoms.head import head_phantom
from mdl_monai.registration.affine import AffineRegistration
from mdl_monai.registration.volume import RegistrationError, Volume
from mdl_monai.transforms.atlas_library import AtlasLibrary
from mdl_monai.transforms.atlases import RegisterAtlasesd, SelectAtlasesd
from mdl_monai.transforms.load import LoadInputd
from mdl_monai.transforms.load_label import LoadImageAndLabeld


def save(folder: Path, name: str, subject: int, label: bool) -> dict[str, str]:
    phantom = head_phantom(subject, (24, 28, 1), (8.0, 8.0, 8.0))
    affine = phantom.affine.numpy()
    nib.save(nib.Nifti1Image(phantom.mr[..., 0].numpy(), affine), folder / f"{name}.nii")
    if not label:
        return {"image": str(folder / f"{name}.nii"), "case": name}
    white = (phantom.tissue[..., 0] == Tissue.WHITE).numpy().astype(np.uint8)
    nib.save(nib.Nifti1Image(white, affine), folder / f"{name}_label.nii")
    return {"image": f"{name}.nii", "label": f"{name}_label.nii"}


def pipeline(atlas_dir: Path, cache: Path, stage: Any, affine: Any = None) -> Compose:
    affine = affine or AffineRegistration(shrink=(1,), iterations=10)
    load = Compose([LoadImageAndLabeld("image", "label", [1], [2]), ScaleIntensityd("image")])
    library = AtlasLibrary(atlas_dir, "train", load, affine=affine, cache_dir=cache, progress=False)
    return Compose(
        [
            LoadInputd("image", spatial_dims=[2]),
            ScaleIntensityd("image"),
            SelectAtlasesd("image", library, 3),
            RegisterAtlasesd("image", library, [1], 3, affine, stage),
        ]
    )


class Refusing:
    """A stage that finds no way to the atlas whose grey values have the sum `bad`."""

    def __init__(self, bad: float) -> None:
        self.bad = bad

    def __call__(self, target: Volume, atlases: Sequence[Volume], affines: Tensor) -> Tensor:
        if any(abs(float(a.values.sum()) - self.bad) < 1e-3 for a in atlases):
            raise RegistrationError("no way was found")
        return torch.zeros(len(atlases), *target.values.shape, target.dims)
