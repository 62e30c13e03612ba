"""A small phantom data set under the names that a config asks for, and a workflow on it: to build or time it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.bundle import ConfigParser, ConfigWorkflow
from monai.utils import ensure_tuple
from torch import Tensor

from mdl_monai.phantoms.head import head_phantom
from mdl_monai.phantoms.heart import heart_phantom

HEAD_MM = 208.0  # side of the field of view; the head phantom fits inside


def workflow_in(folder: str, config: Path, **options: Any) -> ConfigWorkflow:
    """The workflow of a bundle's flattened `config`, not initialised yet, on the CPU, which reads ``folder``/data.

    It writes into ``folder`` alone, registrations too, which would else go to the user's cache.
    """
    settings: dict[str, Any] = {
        "bundle_root": str(config.parents[1]),
        "dataset_dir": f"{folder}/data",
        "output_dir": f"{folder}/output",
        "cache_dir": f"{folder}/cache",
        "device": "$torch.device('cpu')",
        "progress": False,
    }
    return ConfigWorkflow(str(config), logging_file=False, **settings | options)


def write_stand_in_data(folder: Path, parser: ConfigParser, size: int, n_subjects: int = 4) -> None:
    """Write `dataset.json` with the config's splits and keys, and MR phantoms of ``n_subjects`` a split.

    They are heads, or hearts where slices have labels; of a head that has a CT too, volumes of one slice. Other
    volumes have voxels of the config's `spacing` if it names one, even if that makes the head small, so that nothing
    resamples them to a larger grid.

    Args:
        folder: to be made.
        parser: config and metadata of a bundle. Its `split`, `train_split`, `val_split` and `atlas_split` name the
            lists, its `*_key` values the keys of a record, its `labels` the values of the label maps; the network's
            spatial shape tells slices from volumes.
        size: voxels along each axis.
        n_subjects: subjects a split; no subject is in two.
    """
    folder.mkdir(parents=True)
    config = parser.get()
    n_axes = len(parser["_meta_#network_data_format#inputs#image#spatial_shape"])
    keys = [value for name, value in config.items() if name.endswith("_key") and isinstance(value, str)]
    named = [config.get(name) or () for name in ("train_split", "val_split", "split", "atlas_split")]
    splits = dict.fromkeys(split for names in named for split in ensure_tuple(names) if "@" not in split)
    values = torch.tensor([0, *(config.get("labels") or (1, 2))], dtype=torch.int32)
    listing: dict[str, list[dict[str, str]]] = {}
    for number, split in enumerate(splits):
        listing[split] = []
        for subject in range(number * n_subjects, (number + 1) * n_subjects):
            name = f"phantom{subject}.nii"
            if "ct_key" in config:
                listing[split].append(_head_with_ct(folder, f"phantom{subject}", size, config))
                continue
            image, label, affine = _phantom(subject, size, n_axes, "label_key" in config)
            if n_axes == 3 and config.get("spacing"):
                affine = np.diag([*config["spacing"], 1.0])
            nib.save(nib.Nifti1Image(image.numpy(), affine), folder / name)
            record = dict.fromkeys(keys, name) | {"patient": f"phantom{subject}"}
            if "label_key" in config:
                record[config["label_key"]] = f"labels{subject}.nii"
                label = values[label.long().clamp_max(len(values) - 1)]
                nib.save(nib.Nifti1Image(label.numpy(), affine), folder / record[config["label_key"]])
            listing[split].append(record)
    (folder / "dataset.json").write_text(json.dumps(listing))


def _head_with_ct(folder: Path, name: str, size: int, config: dict) -> dict[str, str]:
    """Write an axial slice of MR, CT and mask; return its record."""
    head = head_phantom(int(name.removeprefix("phantom")), (size, size, 1), (HEAD_MM / size,) * 3)
    images = {"image_key": head.mr, "ct_key": head.ct, "mask_key": (head.tissue > 0).float()}
    record = {"patient": name, "view": "axial"}
    for key, image in images.items():
        record[config[key]] = f"{name}_{key.removesuffix('_key')}.nii"
        nib.save(nib.Nifti1Image(image.numpy(), head.affine.numpy()), folder / record[config[key]])
    return record


def _phantom(subject: int, size: int, n_axes: int, has_labels: bool) -> tuple[Tensor, Tensor, np.ndarray]:
    """Image, label map and affine."""
    if n_axes == 2 and has_labels:
        heart = heart_phantom(subject, (size, size))
        return heart.mr, heart.endocardium, heart.affine.numpy()
    head = head_phantom(subject, (size, size, size if n_axes == 3 else 1), (HEAD_MM / size,) * 3)
    cut = (...,) if n_axes == 3 else (..., 0)
    return head.mr[cut], head.hippocampus[cut], head.affine.numpy()
