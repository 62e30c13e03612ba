"""Small atlas libraries as files: phantom heads of 30 x 36 x 34 voxels, and slices of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.transforms import Compose, CopyItemsd, Orientationd, ScaleIntensityRangePercentilesd, Spacingd
from torch import Tensor

from mdl_monai.phantoms.anatomy import Tissue
from mdl_monai.phantoms.head import HeadPhantom, head_phantom
from mdl_monai.registration.affine import AffineRegistration
from mdl_monai.registration.volume import Volume
from mdl_monai.transforms.atlas_library import AtlasLibrary
from mdl_monai.transforms.atlases import RegisterAtlasesd, SelectAtlasesd
from mdl_monai.transforms.load import LoadInputd
from mdl_monai.transforms.load_label import LoadImageAndLabeld

Pair = tuple[nib.Nifti1Image, nib.Nifti1Image]
LABELS = (1, 2)
AFFINE = AffineRegistration(shrink=(2,), iterations=30)
SIZES = {2: (48, 52), 3: (30, 36, 34)}
SPACING = {2: 4.0, 3: 6.0}  # mm
OBLIQUE = np.array([[0.96, -0.28, 0, 5], [0.28, 0.96, 0, 3], [0, 0, 1, -7], [0, 0, 0, 1]])


@cache
def _head(subject: int, dims: int) -> HeadPhantom:
    return head_phantom(subject, (*SIZES[dims], 1)[:3], (SPACING[dims],) * 3)


def head(subject: int, shift: Sequence[int] = (0, 0, 0), dims: int = 3) -> Pair:
    """Image and label map, shifted by whole voxels: ventricles, and in 3D the deep grey matter too."""
    phantom = _head(subject, dims)
    label = torch.zeros_like(phantom.tissue)
    label[phantom.tissue == Tissue.VENTRICLE] = 1
    if dims == 3:
        label[phantom.tissue == Tissue.DEEP_GREY] = 2
    moved = [np.roll(v.numpy(), shift, (0, 1, 2)).reshape(SIZES[dims]) for v in (phantom.mr * 900, label)]
    affine = phantom.affine.numpy()
    return nib.Nifti1Image(moved[0], affine), nib.Nifti1Image(moved[1], affine)


def reoriented(image: nib.Nifti1Image, axes: str) -> nib.Nifti1Image:
    now, then = nib.io_orientation(image.affine), nib.orientations.axcodes2ornt(axes)
    return image.as_reoriented(nib.orientations.ornt_transform(now, then))


def save(folder: Path, pairs: Mapping[str, Pair], split: str = "train", **more: Any) -> Path:
    """Files with their listing; `more`: further keys of a record, by case."""
    folder.mkdir(parents=True, exist_ok=True)
    records = []
    for name, (image, label) in pairs.items():
        nib.save(image, folder / f"{name}.nii.gz")
        nib.save(label, folder / f"{name}_label.nii.gz")
        records.append({"image": f"{name}.nii.gz", "label": f"{name}_label.nii.gz", **more.get(name, {})})
    (folder / "dataset.json").write_text(json.dumps({split: records}))
    return folder


def normalisation() -> ScaleIntensityRangePercentilesd:
    return ScaleIntensityRangePercentilesd("image", 0.5, 99.5, 0.0, 1.0, clip=True)


def library(
    folder: Path,
    cache_dir: Path,
    dims: int = 3,
    affine: AffineRegistration = AFFINE,
    labels: Sequence[int] | None = None,
) -> AtlasLibrary:
    """As the bundles make it: each atlas on its own grid."""
    labels = labels or (LABELS if dims == 3 else (1,))
    load = Compose([LoadImageAndLabeld("image", "label", labels, [dims]), normalisation()])
    return AtlasLibrary(folder, "train", load, affine=affine, cache_dir=cache_dir, progress=False)


def preprocessing(
    atlases: AtlasLibrary,
    count: int = 3,
    dims: int = 3,
    spacing: float | None = None,
    deformable: Callable[[Volume, Sequence[Volume], Tensor], Tensor] | None = None,
    **options: Any,
) -> Compose:
    """As the bundles': from a record to the fusion network's input."""
    pixdim = [spacing or SPACING[dims]] * dims
    return Compose(
        [
            LoadInputd("image", spatial_dims=[dims]),
            CopyItemsd("image", names="native"),
            Orientationd("image", axcodes="RAS"[:dims], labels=None),
            Spacingd("image", pixdim=pixdim, padding_mode="border"),
            normalisation(),
            SelectAtlasesd("image", atlases, count),
            RegisterAtlasesd(
                "image", atlases, LABELS if dims == 3 else (1,), count, atlases.affine, deformable, **options
            ),
        ]
    )


def record(folder: Path, pair: Pair, name: str = "target", **more: Any) -> dict[str, Any]:
    """Of a target, saved in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    nib.save(pair[0], folder / f"{name}.nii.gz")
    return {"image": str(folder / f"{name}.nii.gz"), "case": name, **more}


class Counting:
    """A deformable stage that shifts by 0.3 mm and counts its calls and atlases."""

    def __init__(self, shift: float = 0.3) -> None:
        self.shift = shift
        self.calls: list[int] = []

    def __call__(self, target: Volume, atlases: Sequence[Volume], affines: Tensor) -> Tensor:
        self.calls.append(len(atlases))
        return torch.full((len(atlases), *target.values.shape, target.dims), self.shift)


class CountingAffine(AffineRegistration):
    """Counts its calls."""

    def __init__(self, iterations: int = 30) -> None:
        super().__init__(shrink=(2,), iterations=iterations)
        self.calls = 0

    def __call__(self, target: Volume, atlas: Volume, start: Tensor | None = None) -> Tensor:
        self.calls += 1
        return super().__call__(target, atlas, start)


def fill(atlas_dir: Path, cache_dir: Path, target: dict[str, Any], result: Path) -> None:
    """One whole run into a cache, for a process of its own."""
    torch.set_num_threads(1)
    made = preprocessing(library(atlas_dir, cache_dir))(target)
    np.save(result, made["image"].numpy())
