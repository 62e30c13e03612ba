"""A small phantom data set under the names that a config asks for: enough to build or time its workflow."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
from monai.bundle import ConfigParser
from monai.utils import ensure_tuple

from mdl_monai.phantoms.head import head_phantom

HEAD_MM = 208.0  # side of the field of view; the head phantom fits inside


def write_stand_in_data(folder: Path, parser: ConfigParser, size: int, n_subjects: int = 4) -> None:
    """Write `dataset.json` with the config's splits and keys, and MR phantoms of ``n_subjects`` a split.

    Args:
        folder: to be made.
        parser: config and metadata of a bundle. Its `split`, `train_split` and `val_split` name the lists,
            its `*_key` values the keys of a record; the network's spatial shape tells slices from volumes.
        size: voxels along each axis.
        n_subjects: subjects a split; no subject is in two.
    """
    folder.mkdir(parents=True)
    n_axes = len(parser["_meta_#network_data_format#inputs#image#spatial_shape"])
    shape = (size, size, size if n_axes == 3 else 1)
    config = parser.get()
    keys = [value for name, value in config.items() if name.endswith("_key") and isinstance(value, str)]
    named = [config.get(name) or () for name in ("train_split", "val_split", "split")]
    splits = [split for names in named for split in ensure_tuple(names)]
    listing: dict[str, list[dict[str, str]]] = {}
    for number, split in enumerate(splits):
        listing[split] = []
        for subject in range(number * n_subjects, (number + 1) * n_subjects):
            name = f"phantom{subject}.nii"
            phantom = head_phantom(subject, shape, (HEAD_MM / size,) * 3)
            image = phantom.mr if n_axes == 3 else phantom.mr[..., 0]
            nib.save(nib.Nifti1Image(image.numpy(), phantom.affine.numpy()), folder / name)
            record = dict.fromkeys(keys, name) | {"patient": f"phantom{subject}"}
            if "label_key" in config:
                record[config["label_key"]] = f"labels{subject}.nii"
                labels = phantom.hippocampus if n_axes == 3 else phantom.hippocampus[..., 0]
                nib.save(
                    nib.Nifti1Image(labels.numpy(), phantom.affine.numpy()), folder / f"labels{subject}.nii"
                )
            listing[split].append(record)
    (folder / "dataset.json").write_text(json.dumps(listing))
