"""Download and prepare the brain MR-CT pairs of SynthRAD2023, Task 1.

    python data_scripts/synthrad.py --output_dir DIR [--slices]

Source: Task1.zip (14.5 GB, with the pelvis) of https://doi.org/10.5281/zenodo.7260705. Licence: CC BY-NC 4.0, not
for commercial use. DIR takes about 18 GB with the archive, which may be deleted afterwards.

What is written: images/PATIENT_{mr,ct,mask}.nii.gz, byte copies of the 180 patients' volumes (1 mm; MR and CT
registered, faces removed; the mask is the dilated outline of the patient); LICENSE.txt; and last dataset.json, so
that a folder with a dataset.json is complete. Its lists `train` (125 patients), `val` (18) and `test` (18) are
those of the project's figures; `held_out` is everyone else, listed apart so that nobody trains or tests on them by
accident. ``--slices`` adds the folder DIR/slices, a set in the form of the figures' copy: the middle axial, coronal
and sagittal slice of each volume, index n // 2 of n. Either folder serves as ``--dataset_dir``.

What differs from the copy that the project's figures come from:

- The copy has such slices only (16 of them are missing), its MR has 8 bits, and its HU were restored from two
  anchors, air and brain: mean error 6.6 HU, bone 12. Here all is original. That the copy's slices are those of index
  n // 2 was seen in it: its three views agree where they cross if they are, and less if any is its neighbour.
- Arrays of slices lie as in the copy, but the affines here are the source's. Those of the copy call the first two
  axes right and anterior, while the face has low y in all of its sagittal slices: half a turn about the vertical
  axis (if it kept the source's order of x). So, once their affines have brought them to RAS, the heads of the copy
  face the other way than those of this set, or of any scanner.

Trust. The archive must have the MD5 that Zenodo's record publishes; a cut download resumes, and each file is checked
against its CRC-32 in the archive. Where the source cannot be reached, put the archive at DIR/downloads/Task1.zip; it
is then checked in the same way.

Not verified, for want of a connection where this was written: that the address still answers, and the headers of
the volumes. MD5 and names in the archive were read in others' copies of the record and of the archive's listing.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import nibabel as nib
from download import dataset_text, download
from sunnybrook import CHANGED, opened
from tqdm import tqdm

from mdl_monai.errors import InputError
from mdl_monai.io.atomic import atomic_path, atomic_write_text

ARCHIVE = "Task1.zip"
SOURCE = (
    "https://zenodo.org/api/records/7260705/files/Task1.zip/content",
    "360bc61e2320d5c5a7145454a81c566a",
)
MEMBER = re.compile(r"Task1/brain/(1B[A-Z]\d{3})/(mr|ct|mask)\.nii\.gz")
KINDS = ("mr", "ct", "mask")
VIEWS = {
    "axial": "LPS",
    "coronal": "LSA",
    "sagittal": "PSL",
}  # where a slice's axes run to; the third is across it
PROPERTIES = {
    "name": "SynthRAD2023, Task 1, brain, training set",
    "source": "https://doi.org/10.5281/zenodo.7260705",
    "licence": "CC BY-NC 4.0",
    "modality": "T1 MR, and CT in HU",
}
LICENSE_TEXT = """\
SynthRAD2023 Grand Challenge dataset, Task 1, brain: https://doi.org/10.5281/zenodo.7260705
Images: UMC Groningen, UMC Utrecht and Radboud UMC Nijmegen.

Creative Commons Attribution-NonCommercial 4.0 International (CC BY-NC 4.0):
https://creativecommons.org/licenses/by-nc/4.0/ (its text: https://creativecommons.org/licenses/by-nc/4.0/legalcode)
Who passes the data on names the source, says what was changed, and makes no commercial use of it. To cite:
Thummerer A, van der Bijl E, Galapon A Jr, et al. SynthRAD2023 Grand Challenge dataset: generating synthetic CT for
radiotherapy. Medical Physics 50, 2023, doi:10.1002/mp.16529.

Changes: PATIENT/mr.nii.gz is named images/PATIENT_mr.nii.gz here, and likewise ct and mask; dataset.json, with its
lists, is new. Of the folder slices, if it is here: single slices were taken out of the volumes.
"""

Members = dict[str, dict[str, str]]  # names in the archive, by patient and kind
Patients = dict[str, list[str]]  # of each list


def check_patients(found: Members, known: Patients) -> None:
    """Refuse an archive without the three files of a patient that it or a list names."""
    patients = {*found, *(p for split in known.values() for p in split)}
    missing = [f"{p}/{kind}" for p in sorted(patients) for kind in KINDS if kind not in found.get(p, {})]
    if missing:
        raise InputError(
            "the archive lacks a file of a patient",
            where=ARCHIVE,
            expected=f"{', '.join(KINDS)} of {len(patients)} patients",
            found=f"{len(missing)} missing, among them {', '.join(missing[:5])}",
            remedy=CHANGED,
        )


def record(patient: str, view: str | None) -> dict[str, str]:
    """Record of a patient's volume, or of its middle slice in a view."""
    name = f"images/{patient}_{view}" if view else f"images/{patient}"
    files = {kind: f"{name}_{kind}.nii.gz" for kind in KINDS}
    return {"patient": patient, "centre": patient[2], **({"view": view} if view else {}), **files}


def index_text(index: Path, patients: Patients, views: Iterable[str | None]) -> str:
    """What the dataset.json at `index` will hold; refuses one that holds something else."""
    lists = {split: [record(p, v) for p in patients[split] for v in views] for split in patients}
    return dataset_text(index, PROPERTIES | lists)


def reoriented(image: Any, axes: str) -> Any:
    """The same image in space, with the array's axes running to `axes`, such as "LPS"."""
    now, then = nib.io_orientation(image.affine), nib.orientations.axcodes2ornt(axes)
    return image.as_reoriented(nib.orientations.ornt_transform(now, then))


def middle_slices(volume: Any) -> dict[str, Any]:
    """The middle slice [., ., 1] of a volume [., ., .] in each view, where it lies in space.

    The middle of n voxels is index n // 2, counted to the left, back and top: so was the figures' copy made.
    """
    volume = reoriented(volume, "LPS")  # reads the file, once
    slices = {}
    for view, axes in VIEWS.items():
        turned = reoriented(volume, axes)
        n = turned.shape[2]
        middle = n // 2 if axes[2] in "LPS" else n - 1 - n // 2
        slices[view] = turned.slicer[:, :, middle : middle + 1]
    return slices


def prepare(output_dir: Path, slices: bool = False, known: Patients | None = None) -> Patients:
    """Download, check and write the set.

    Args:
        output_dir: the folder of the set; made if missing.
        slices: write the set of middle slices too, to the folder ``slices`` in it.
        known: patients of `train`, `val` and `test`; by default those of the project.

    Returns:
        The patients of each list of ``dataset.json``.

    Raises:
        InputError: the download fails; the archive or its files are not the known ones; or a folder holds
            another data set. Nothing but the archive is written then.
    """
    known = known or json.loads(Path(__file__).with_name("synthrad_split.json").read_text(encoding="utf-8"))
    archive = output_dir / "downloads" / ARCHIVE
    download(SOURCE[0], archive, SOURCE[1], "md5")
    with opened(archive) as source:
        found: defaultdict[str, dict[str, str]] = defaultdict(dict)
        for name in source.namelist():
            if match := MEMBER.fullmatch(name):
                found[match[1]][match[2]] = name
        check_patients(found, known)
        listed = {p for split in known.values() for p in split}
        patients = known | {"held_out": sorted(found.keys() - listed)}
        folder = output_dir / "slices"
        texts = {output_dir: index_text(output_dir / "dataset.json", patients, [None])}
        if slices:
            texts[folder] = index_text(folder / "dataset.json", patients, VIEWS)

        for patient in tqdm(sorted(found), desc="patients", leave=False):
            for kind in KINDS:
                path = output_dir / "images" / f"{patient}_{kind}.nii.gz"
                with (
                    atomic_path(path) as temporary,
                    source.open(found[patient][kind]) as file,
                    temporary.open("wb") as copy,
                ):
                    shutil.copyfileobj(file, copy)
                if slices:
                    volume = nib.Nifti1Image.from_filename(path)
                    for view, image in middle_slices(volume).items():
                        with atomic_path(folder / "images" / f"{patient}_{view}_{kind}.nii.gz") as temporary:
                            nib.save(image, temporary)
    for place, text in texts.items():
        atomic_write_text(place / "LICENSE.txt", LICENSE_TEXT)
        atomic_write_text(place / "dataset.json", text)
    return patients


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument(
        "--slices", action="store_true", help="write the middle slices too, to OUTPUT_DIR/slices"
    )
    options = parser.parse_args(arguments)
    patients = prepare(options.output_dir, options.slices)
    counts = ", ".join(f"{split} {len(names)}" for split, names in patients.items())
    print(f"prepared {options.output_dir}: {counts} patients; {PROPERTIES['licence']}")


if __name__ == "__main__":
    main()
