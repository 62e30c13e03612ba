"""Inputs of the demo that need no download: real images that installed libraries carry, and our phantoms."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
from PIL import Image
from pydicom.data import get_testdata_file

from mdl_monai.io.atomic import atomic_write_text
from mdl_monai.phantoms.dead_leaves import dead_leaves
from mdl_monai.phantoms.head import head_phantom
from mdl_monai.phantoms.heart import heart_phantom

SPLIT, NO_REFERENCE, ATLASES = "demo", "demo_without_reference", "train"
N_ATLASES, N_TARGETS = 11, 2  # of label fusion
REAL, PHANTOM = "real", "phantom, not evidence"
MNI152 = "MNI152 mean brain, carried by nilearn"

Lists = dict[str, list[dict[str, str]]]
Writer = Callable[[Path], Lists]


def _save(
    folder: Path,
    name: str,
    image: np.ndarray,
    origin: str,
    patient: str,
    affine: np.ndarray | None = None,
    label: np.ndarray | None = None,
) -> dict[str, str]:
    folder.mkdir(parents=True, exist_ok=True)
    affine = np.eye(4) if affine is None else affine
    nib.save(nib.Nifti1Image(image.astype(np.float32), affine), folder / f"{name}.nii.gz")
    record = {"image": f"{name}.nii.gz", "origin": origin, "patient": patient}
    if label is not None:
        record["label"] = f"{name}_label.nii.gz"
        nib.save(nib.Nifti1Image(label, affine), folder / record["label"])
    return record


def write_mr_slices(folder: Path) -> Lists:
    """MR slices for reconstruction: the MNI152 mean brain, two MR scans of pydicom's, and phantom heads."""
    from nilearn.datasets import load_mni152_template  # an extra, slow to import

    brain = np.asarray(load_mni152_template(resolution=1).dataobj)
    records = [
        _save(folder, "mni152_axial", brain[:, :, 90], f"{REAL}: {MNI152}", "mni152"),
        _save(folder, "mni152_coronal", brain[:, 110, :], f"{REAL}: {MNI152}", "mni152"),
        _save(folder, "mni152_sagittal", brain[80, :, :], f"{REAL}: {MNI152}", "mni152"),
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
    return {SPLIT: records}


def write_photographs(folder: Path) -> Lists:
    """Grey images of 256 x 256 pixels: the two photographs that scikit-learn carries, and a drawing."""
    from sklearn.datasets import load_sample_image  # comes with nilearn, slow to import

    leaves = (dead_leaves(256, np.random.default_rng(0)) * 255).round().astype(np.uint8)
    drawn = {"leaves": (Image.fromarray(leaves), f"{PHANTOM}: dead leaves, of the kind that was trained on")}
    for name, author in (("china", "danielbuechele; trained on"), ("flower", "vultilion; validated on")):
        photograph = Image.fromarray(load_sample_image(f"{name}.jpg")).convert("L")
        side, left = photograph.height, (photograph.width - photograph.height) // 2
        square = photograph.crop((left, 0, left + side, side)).resize((256, 256), Image.Resampling.LANCZOS)
        drawn[name] = square, f"{REAL}: photograph carried by scikit-learn, CC-BY 2.0, by {author}"
    for name, (image, _) in drawn.items():
        image.save(folder / f"{name}.png")
    return {SPLIT: [{"image": f"{n}.png", "origin": told, "patient": n} for n, (_, told) in drawn.items()]}


def write_hippocampus_crops(folder: Path) -> Lists:
    """T1 MR crops around both hippocampi of the MNI152 mean brain, without reference.

    Phantoms have one, but a network that was trained on real crops finds nothing in a drawing.
    """
    from nilearn.datasets import load_mni152_template

    brain = load_mni152_template(resolution=1)
    records = []
    for side, x in (("left", -28), ("right", 28)):
        corner = np.linalg.solve(brain.affine, [x, -22, -16, 1])[:3].round().astype(int) - (18, 26, 18)
        crop = brain.slicer[tuple(slice(n, n + size) for n, size in zip(corner, (36, 52, 36), strict=True))]
        records.append(
            _save(
                folder,
                f"mni152_{side}",
                np.asarray(crop.dataobj),
                f"{REAL}: {MNI152}; no reference",
                "mni152",
                crop.affine,
            )
        )
    return {NO_REFERENCE: records}


def write_phantom_hippocampi(folder: Path) -> Lists:
    """T1 MR crops around the right hippocampus of phantom heads."""
    corner, size = np.array([56, 1, 1]), (36, 52, 36)  # of a field of view that reaches from side to side
    box = tuple(slice(n, n + length) for n, length in zip(corner, size, strict=True))

    def draw(subject: int) -> tuple[np.ndarray, ...]:
        head = head_phantom(subject, (92, 86, 84), (1.0, 1.0, 1.0))
        affine = head.affine.numpy()
        affine[:3, 3] += corner
        return head.mr[box].numpy(), affine, head.hippocampus[box].numpy()

    return _atlases_and_targets(folder, draw)


def write_phantom_hearts(folder: Path) -> Lists:
    """Short-axis MR slices of phantom hearts."""

    def draw(subject: int) -> tuple[np.ndarray, ...]:
        heart = heart_phantom(subject)
        return heart.mr.numpy(), heart.affine.numpy(), heart.endocardium.numpy()

    return _atlases_and_targets(folder, draw)


def write_phantom_heads(folder: Path) -> Lists:
    """MR slices of phantom heads in three views, with their CT; one head for the baselines to learn from."""
    lists: Lists = {SPLIT: [], "train": []}
    for subject, name in enumerate(lists):
        head = head_phantom(subject, (190, 230, 220), (1.0, 1.0, 1.0))
        for view, axis in (("axial", 2), ("coronal", 1), ("sagittal", 0)):
            middle = head.mr.shape[axis] // 2
            box = tuple(slice(middle, middle + 1) if a == axis else slice(None) for a in range(3))
            affine = head.affine.numpy().copy()
            affine[axis, 3] += middle
            record = {"view": view, "origin": PHANTOM, "patient": f"phantom{subject}"}
            for key, values in (("mr", head.mr), ("ct", head.ct)):
                case = f"phantom{subject}_{view}_{key}"
                record[key] = _save(folder, case, values[box].numpy(), PHANTOM, "", affine)["image"]
            lists[name].append(record)
    return lists


def _atlases_and_targets(folder: Path, draw: Callable[[int], tuple[np.ndarray, ...]]) -> Lists:
    """Targets and, of other subjects, atlases; a subject's drawing is image, affine and label map."""
    records = []
    for subject in range(N_TARGETS + N_ATLASES):
        image, affine, label = draw(subject)
        name = f"phantom{subject}"
        records.append(_save(folder, name, image, PHANTOM, name, affine, label))
    return {SPLIT: records[:N_TARGETS], ATLASES: records[N_TARGETS:]}


def write_inputs(writer: Writer, folder: Path) -> None:
    """Let a writer fill the folder and list its records in ``dataset.json``.

    Those under "demo" have a reference and are evaluated; those under "demo_without_reference" have none. Those
    under "train" are the atlases, where the bundle needs some.
    """
    folder.mkdir(parents=True, exist_ok=True)
    atomic_write_text(folder / "dataset.json", json.dumps(writer(folder), indent=1) + "\n")
