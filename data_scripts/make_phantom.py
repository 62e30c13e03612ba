"""Write a data set of phantom heads: 2D T1-like MR slices for the reconstruction bundle, split by subject.

    python data_scripts/make_phantom.py --output_dir DIR [--subjects 6] [--slices 12] [--seed 0]

The images are drawings (`mdl_monai.phantoms`): they serve tests and demos and are no evidence. The last
subject is `test`, the one before it `val`, the others are `train`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from tqdm import tqdm

from mdl_monai.errors import InputError
from mdl_monai.io.atomic import atomic_path, atomic_write_text
from mdl_monai.phantoms.head import head_phantom

PIXELS, PIXEL_MM, SLICE_DISTANCE_MM = 256, 0.9, 7.0


def split_of(subject: int, n_subjects: int) -> str:
    """Name of the list that a subject belongs to."""
    return {n_subjects - 1: "test", n_subjects - 2: "val"}.get(subject, "train")


def make_phantom(
    output_dir: Path, n_subjects: int, n_slices: int, seed: int
) -> dict[str, list[dict[str, str]]]:
    """Write the slices and `dataset.json`, which comes last; return its content.

    Slices are uint16 with peak 65535, rows from front to back, columns from left to right.
    """
    if n_subjects < 3 or n_slices < 1:
        raise InputError(
            "train, val and test need a subject each, and every subject a slice",
            expected="--subjects 3 or more, --slices 1 or more",
            found=f"--subjects {n_subjects} --slices {n_slices}",
        )
    records: dict[str, list[dict[str, str]]] = {"train": [], "val": [], "test": []}
    spacing = (PIXEL_MM, PIXEL_MM, SLICE_DISTANCE_MM)
    for subject in tqdm(range(n_subjects), desc="subjects"):
        mr = head_phantom(subject, (PIXELS, PIXELS, n_slices), spacing, seed=seed).mr
        for index, image in enumerate(torch.rot90(mr).unbind(-1)):
            values = (image / image.max() * 65535).round().numpy().astype(np.uint16)
            name = f"images/phantom{subject:02d}_z{index:02d}.nii.gz"
            with atomic_path(output_dir / name) as temporary:
                nib.save(nib.Nifti1Image(values, np.diag([*spacing, 1.0])), temporary)
            record = {"image": name, "patient": f"phantom{subject:02d}"}
            records[split_of(subject, n_subjects)].append(record)
    atomic_write_text(output_dir / "dataset.json", json.dumps(records, indent=1) + "\n")
    return records


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--subjects", type=int, default=6)
    parser.add_argument("--slices", type=int, default=12, help="slices of a subject, 7 mm apart")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    records = make_phantom(options.output_dir, options.subjects, options.slices, options.seed)
    counts = ", ".join(f"{name} {len(rows)}" for name, rows in records.items())
    print(f"wrote {options.output_dir / 'dataset.json'}: {counts} slices")


if __name__ == "__main__":
    main()
