"""Download and prepare the hippocampus set, Task04 of the Medical Segmentation Decathlon.

    python data_scripts/hippocampus.py --output_dir DIR

Source: the archive and the MD5 that MONAI's ``DecathlonDataset`` names. Licence: CC-BY-SA 4.0.

What is written: images/ and labels/, byte copies of the 260 labelled volumes (the challenge's own test volumes
have no labels and are left in the archive); LICENSE.txt, the attribution that the licence asks for; and last
dataset.json, so that a folder with a dataset.json is complete. Its lists `train` (175 volumes) and `test` (43)
are those of the project's figures; `fit` and `val` are the two parts of `train` that a training makes of it by
default (15 % of the scans by seed 0); `held_out` is every other one, listed apart so that nobody trains or tests on
it by accident.

A volume is one hippocampus. The source does not name the heads, but the grey values tell: volumes 2k-1 and 2k
are the two sides of one scan. Each record's `patient` says so, and whoever splits `train` further keeps such pairs
together; 12 of the test volumes (`other_side_in_train` of hippocampus_split.json) have their other side in `train`.

Trust. A cut download resumes, and the archive must have the known MD5. Independently of that, the content of
`train` and `test` is compared, before anything is written, with a digest over the decoded arrays that the
project's figures come from (hippocampus_split.json). Where the source cannot be reached, put the archive at
DIR/downloads/Task04_Hippocampus.tar; it is then checked in the same way.

Not verified, for want of a connection where this was written: that the address still answers.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nibabel as nib
import numpy as np
from csmri_convert import check_content, content_digest
from download import dataset_text, download
from monai.apps import DecathlonDataset

from mdl_monai.errors import InputError
from mdl_monai.io.atomic import atomic_path, atomic_write_text
from mdl_monai.io.splits import split_by_subject

TASK = "Task04_Hippocampus"
FOLDERS = {"images": "imagesTr", "labels": "labelsTr"}  # here, and in the archive
PROPERTIES = {
    "name": "Hippocampus",
    "source": "Medical Segmentation Decathlon Task04",
    "licence": "CC-BY-SA 4.0",
    "labels": {"0": "background", "1": "anterior", "2": "posterior"},
    "modality": "T1 MR",
}
LICENSE_TEXT = """\
Hippocampus: Task04 of the Medical Segmentation Decathlon, http://medicaldecathlon.com
Images and labels: Vanderbilt University Medical Center.

Creative Commons Attribution-ShareAlike 4.0 International (CC-BY-SA 4.0):
https://creativecommons.org/licenses/by-sa/4.0/ (its text: https://creativecommons.org/licenses/by-sa/4.0/legalcode)
Who passes the data on, changed or not, names the source and keeps the licence. To cite: Simpson AL, Antonelli M,
Bakas S, et al. A large annotated medical image dataset for the development and evaluation of segmentation
algorithms. arXiv:1902.09063, 2019.

Changes: none to the images and labels; their folders imagesTr and labelsTr are named images and labels here, and
dataset.json, with its lists, is new.
"""

Records = list[dict[str, str]]


def extract(archive: Path, folder: Path) -> Path:
    """Unpack the archive into `folder` and return the task's folder in it."""
    try:
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")  # refuses whatever would leave the folder
    except tarfile.TarError as error:
        raise InputError(
            "the archive cannot be unpacked safely",
            where=archive,
            found=error,
            remedy="delete it and run the command again; nothing was written",
        ) from error
    return folder / TASK


def split_names(source: Path, known: dict[str, Any]) -> dict[str, list[str]]:
    """File names of the lists `train`, `test` and, for every volume that neither names, `held_out`."""
    # the pattern passes over the ._hippocampus_* files that macOS leaves in archives
    images, labels = ({p.name for p in (source / f).glob("hippocampus_*.nii.gz")} for f in FOLDERS.values())
    names = {split: [f"hippocampus_{n:03d}.nii.gz" for n in known[split]] for split in ("train", "test")}
    named = {*names["train"], *names["test"]}
    missing = (images ^ labels) | (named - images)
    if missing:
        raise InputError(
            "the archive lacks the image or the label of a volume",
            where=TASK,
            expected=f"{len(named)} known volumes, and a label for every image of {FOLDERS['images']}",
            found=f"{len(missing)} without, among them {', '.join(sorted(missing)[:5])}",
            remedy="the source has changed, or it is not what this script takes it for; nothing was written",
        )
    return names | {"held_out": sorted(images - named)}


def record(name: str) -> dict[str, str]:
    """Record of a volume's file, with the scan that it comes from."""
    number = int(name.removeprefix("hippocampus_").removesuffix(".nii.gz"))
    return {"image": f"images/{name}", "label": f"labels/{name}", "patient": f"scan_{(number + 1) // 2:03d}"}


def parts_of_train(train: Records, fraction: float = 0.15, seed: int = 0) -> dict[str, Records]:
    """`fit` and `val`: what a training with these options, its default ones, learns from and validates on."""
    parts = split_by_subject([{**r, "subject": r["patient"]} for r in train], fraction, seed)
    return {
        name: [{k: v for k, v in r.items() if k != "subject"} for r in part]
        for name, part in zip(("fit", "val"), parts, strict=True)
    }


def decoded(source: Path, names: Iterable[str]) -> Iterator[np.ndarray]:
    """Voxels and affine of the image, then of the label, of each name."""
    for name in names:
        for folder in FOLDERS.values():
            image = nib.Nifti1Image.from_filename(source / folder / name)
            yield np.asanyarray(image.dataobj)
            yield np.asarray(image.affine)


def prepare(output_dir: Path, known: dict[str, Any] | None = None) -> dict[str, Records]:
    """Download, check and write the set.

    Args:
        output_dir: the folder of the set; made if missing.
        known: volume numbers of `train` and `test`, and under `content` a digest for each; by default those of
            the project.

    Returns:
        The lists of ``dataset.json``.

    Raises:
        InputError: the download fails; the archive, its volumes or their content are not the known ones; or
            the folder holds another data set. Nothing but the archive is written then.
    """
    known = known or json.loads(
        Path(__file__).with_name("hippocampus_split.json").read_text(encoding="utf-8")
    )
    archive = output_dir / "downloads" / f"{TASK}.tar"
    download(DecathlonDataset.resource[TASK], archive, DecathlonDataset.md5[TASK], "md5")
    with TemporaryDirectory(prefix=".unpacked_", dir=output_dir) as scratch:
        source = extract(archive, Path(scratch))
        names = split_names(source, known)
        for split, expected in known["content"].items():
            check_content(f"hippocampus {split}", content_digest(decoded(source, names[split])), expected)

        lists = {split: [record(name) for name in names[split]] for split in names}
        lists |= parts_of_train(lists["train"])
        index = output_dir / "dataset.json"
        text = dataset_text(index, PROPERTIES | lists)
        for here, there in FOLDERS.items():
            for name in (name for split in names.values() for name in split):
                with atomic_path(output_dir / here / name) as temporary:
                    shutil.copyfile(source / there / name, temporary)
    atomic_write_text(output_dir / "LICENSE.txt", LICENSE_TEXT)
    atomic_write_text(index, text)
    return lists


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output_dir", type=Path, required=True)
    options = parser.parse_args(arguments)
    lists = prepare(options.output_dir)
    counts = ", ".join(f"{split} {len(lists[split])}" for split in ("train", "test", "held_out"))
    print(f"prepared {options.output_dir}: {counts} volumes; content as expected; {PROPERTIES['licence']}")


if __name__ == "__main__":
    main()
