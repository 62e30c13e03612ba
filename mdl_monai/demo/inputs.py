"""Inputs of the demo that need no download: real images that installed libraries carry, and our phantom."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
from pydicom.data import get_testdata_file

from mdl_monai.io.atomic import atomic_write_text
from mdl_monai.phantoms.head import head_phantom

SPLIT = "demo"
REAL, PHANTOM = "real", "phantom, not evidence"

Writer = Callable[[Path], list[dict[str, str]]]


def _save(folder: Path, name: str, image: np.ndarray, origin: str, patient: str) -> dict[str, str]:
    folder.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(image.astype(np.float32), np.eye(4)), folder / f"{name}.nii.gz")
    return {"image": f"{name}.nii.gz", "origin": origin, "patient": patient}


def write_mr_slices(folder: Path) -> list[dict[str, str]]:
    """MR slices for reconstruction: the MNI152 mean brain, two MR scans of pydicom's, and phantom heads."""
    from nilearn.datasets import load_mni152_template  # an extra, slow to import

    brain = np.asarray(load_mni152_template(resolution=1).dataobj)
    source = "MNI152 mean brain, carried by nilearn"
    records = [
        _save(folder, "mni152_axial", brain[:, :, 90], f"{REAL}: {source}", "mni152"),
        _save(folder, "mni152_coronal", brain[:, 110, :], f"{REAL}: {source}", "mni152"),
        _save(folder, "mni152_sagittal", brain[80, :, :], f"{REAL}: {source}", "mni152"),
    ]
    for name in ("examples_overlay", "MR_small"):
        scan = pydicom.dcmread(str(get_testdata_file(f"{name}.dcm", download=False)))
        records.append(
            _save(
                folder,
                name.lower(),
                scan.pixel_array.T[:, ::-1],
                f"{REAL}: MR among pydicom's test files",
                name,
            )
        )
    for subject in (0, 1):
        head = head_phantom(subject, (256, 256, 1), (0.9, 0.9, 5.0)).mr[..., 0]
        records.append(_save(folder, f"phantom{subject}", head.numpy(), PHANTOM, f"phantom{subject}"))
    return records


def write_inputs(writer: Writer, folder: Path) -> None:
    """Let a writer fill the folder and list its records in ``dataset.json`` under the split "demo"."""
    folder.mkdir(parents=True, exist_ok=True)
    atomic_write_text(folder / "dataset.json", json.dumps({SPLIT: writer(folder)}, indent=1) + "\n")
