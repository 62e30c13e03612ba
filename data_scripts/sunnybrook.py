"""Download and prepare the Sunnybrook Cardiac Data, the set of the MICCAI 2009 left ventricle challenge.

    python data_scripts/sunnybrook.py --output_dir DIR

Source: the Cardiac Atlas Project, https://www.cardiacatlas.org/sunnybrook-cardiac-data/: five archives of DICOM
series (the first of 434 MB), one of manual contours and a table of patients. Licence: CC0 1.0.

What is written: images/ and labels/, a 2D NIfTI pair PATIENT_SLICE.nii.gz for each slice with an endocardial contour;
and last dataset.json, so that a folder with a dataset.json is complete. Its lists `train` (15 patients, 260 slices)
and `test` (15 patients, 266 slices) are those of the project's figures, and are the challenge's training and
validation sets; `fit` and `val` are the two parts of `train` that a training makes of it by default (15 % of the
patients by seed 0); `held_out` is every other slice, listed apart so that nobody trains or tests on it by accident.

- Arrays are [x, y]: x counts the columns of the DICOM image from the left, y its rows from the top. Where the slice
  lies in the patient is left out: no method here uses it for 2D slices.
- Images are the stored grey values, unscaled. Each slice of the copy that the project's figures come from was scaled
  to 0..255, so what depends on the absolute grey value will differ.
- Spacing is that of the DICOM header, in mm; it differs between patients. The figures' copy holds none and counts as
  1.25 mm throughout (a 320 mm field of view, 256 pixels), so distances and areas in mm will differ from the figures.
- Labels: 1 inside the endocardial contour (papillary muscles belong to the cavity), 0 elsewhere. A contour is a text
  file, one `x y` a line, in pixels from the top left. Integer coordinates are taken as pixel centres, as published
  readers do, and a pixel belongs where its centre lies inside (:func:`sunnybrook_convert.rasterised`).

Trust. A cut download resumes, and every file must have the known SHA-256. The source publishes none: they are those
that the `scd` data set of torch-em records (constantinpape/torch-em, torch_em/data/datasets/medical/scd.py), as are
the addresses. A digest over the decoded arrays, as for the other sets, cannot be had, for the figures' copy is
another conversion. What can be known is checked before anything is written (sunnybrook_split.json): the patients of
`train` and `test`, the numbers of their slices, each label's size and place to 1.5 pixels, and each patient's images
against a coarse picture of them, which tells patients and orientations apart, but not the phases of a heart beat. Of
a patient's short-axis series, that is taken which has all contoured slices and looks most like this picture.

Where the source cannot be reached, put its files under DIR/downloads, named as in `SOURCES`.

Not verified, for want of a connection where this was written: that the addresses still answer, and all that follows
about the archives, which is known from the code of others who read them. SCDnnnnnnn/SERIES/IM-ssss-NNNN.dcm holds
slice NNNN, a number within the series that counts phases first; the short-axis series are named CINESAX_n. The
table's columns PatientID (SCDnnnnnnn) and OriginalID (SC-HF-I-1) tie them to
SC-HF-I-01/contours-manual/IRCCI-expert/IM-0001-NNNN-icontour-manual.txt. Whether (0, 0) is the corner or the centre
of the first pixel: half a pixel, which the check on the labels cannot tell. Of patients outside `train` and `test`
nothing is known; where two of their series fit, the one with the most images is taken.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile, ZipFile

import nibabel as nib
import numpy as np
from download import dataset_text, download
from hippocampus import Records, parts_of_train
from sunnybrook_convert import (
    CHANGED,
    Member,
    likeness,
    rasterised,
    read_contour,
    read_image,
    size_and_place,
)
from tqdm import tqdm

from mdl_monai.errors import InputError
from mdl_monai.io.atomic import atomic_path, atomic_write_text

HOST = "https://www.cardiacatlas.org/share/download.php"
CONTOURS, PATIENTS = "SCD_ManualContours.zip", "scd_patientdata.csv"
SOURCES = {  # public share links and SHA-256
    "SCD_IMAGES_01.zip": (
        f"{HOST}?id=98&token=kUVtCTMzfjlHwunzFYST7yNGFnlUtV7W&download",
        "708ce04db1ac33948a00b9052d44e9548c6807121a4841f4c35080d6db127b72",
    ),
    "SCD_IMAGES_02.zip": (
        f"{HOST}?id=99&token=2euh4WH03DynHi9Y5elb2HSWJaJIeWER&download",
        "ea97bd11dfc1154bdcf02b6466c00637bc7e0dc04b5ddc3d94d68a7cd7a3e6a5",
    ),
    "SCD_IMAGES_03.zip": (
        f"{HOST}?id=100&token=eT37AbXslu1JQp1GSZy2BmmWzWmXDdfx&download",
        "5b065fadef1b523bbabfec0d85327f375f743f2dd72810a5927b21b834b45deb",
    ),
    "SCD_IMAGES_04.zip": (
        f"{HOST}?id=101&token=Qn0dY2lHTyTIBF5qNHRkbHdUSnWnS4Yy&download",
        "2a8d7054d9b89b5af4c9764b4b04eecee57b61b71b69f5ac69ec12629e9a615c",
    ),
    "SCD_IMAGES_05.zip": (
        f"{HOST}?id=102&token=nYALJl6kS6cj5jgK9R8CKDpgQwZn1pm3&download",
        "e65a818fe89c665c344317222a052360e210936c81f89ceb9d36e8e3c6e2d6e9",
    ),
    CONTOURS: (
        f"{HOST}?id=61&token=gFjv8psvCQu2vDYldUW9TYUIDic11fDt&download",
        "93d8e06dfa53fc384e78810aeac86c336b5bdecbff1c9c175ec9254851cc2162",
    ),
    PATIENTS: (
        f"{HOST}?id=66&token=Y1D66ieUdbXFlqmZ4icHJheJy44MXUPY&download",
        "c39eb11924d021e8ec51bb984daa57d1adadcc8eb7e342640181ce151dae5ded",
    ),
}
PROPERTIES = {
    "name": "Sunnybrook cardiac data (MICCAI 2009 LV challenge)",
    "source": "Cardiac Atlas Project, https://www.cardiacatlas.org/sunnybrook-cardiac-data/",
    "licence": "CC0 1.0",
    "citation": "Radau P, Lu Y, Connelly K, Paul G, Dick AJ, Wright GA. Evaluation framework for algorithms "
    "segmenting short axis cardiac MRI. The MIDAS Journal, 2009. http://hdl.handle.net/10380/3070",
    "modality": "cine MR, short axis, ED and ES",
    "labels": {"0": "background", "1": "left ventricle, endocardium"},
    "spacing": "in mm, that of the DICOM header; between slices nominal",
}
IMAGE = re.compile(r"(?:^|/)(SCD\d+)/([^/]+)/IM-\d{4}-(\d{4})\.dcm$")
CONTOUR = re.compile(
    r"(?:^|/)(SC-[A-Z-]+\d+)/contours-manual/IRCCI-expert/IM-0001-(\d{4})-icontour-manual\.txt$"
)
THICKNESS_MM = 8.0  # as the challenge describes all slices
# Against the figures' copy, images of another patient reach 0.94, and mirrored or transposed ones 0.92.
LIKENESS = 0.97
# Between conversions of a contour: half a pixel of origin in x and in y, and whether pixels on its edge count.
TOLERANCE_PX = 1.5

Numbers = dict[str, set[str]]  # of slices, by patient


class Slice(NamedTuple):
    """Image and label [X, Y], and the spacing of x and y in mm."""

    image: np.ndarray
    label: np.ndarray
    spacing: tuple[float, float]


def padded(patient: str) -> str:
    """Name of a patient with at least two digits, as in the contours: SC-HF-I-1 to SC-HF-I-01."""
    return re.sub(r"\d+$", lambda digits: digits[0].zfill(2), patient.strip())


def opened(path: Path) -> ZipFile:
    """The archive, for reading."""
    try:
        return ZipFile(path)
    except BadZipFile as error:
        remedy = "delete it and run the command again; nothing was written"
        raise InputError("the archive cannot be read", where=path, found=error, remedy=remedy) from error


def contour_members(archive: ZipFile) -> dict[str, dict[str, Member]]:
    """Endocardial contours by patient and number of the slice."""
    found: defaultdict[str, dict[str, Member]] = defaultdict(dict)
    for name in archive.namelist():
        if match := CONTOUR.search(name):
            found[padded(match[1])][match[2]] = Member(archive, name)
    return dict(sorted(found.items()))


def image_members(archives: list[ZipFile]) -> dict[str, dict[str, dict[str, Member]]]:
    """Images by patient, series and number of the slice; patients named as in the images (SCDnnnnnnn)."""
    found: defaultdict[str, defaultdict[str, dict[str, Member]]] = defaultdict(lambda: defaultdict(dict))
    for archive in archives:
        for name in archive.namelist():
            if match := IMAGE.search(name):
                found[match[1]][match[2]][match[3]] = Member(archive, name)
    return {patient: dict(series) for patient, series in found.items()}


def image_names(table: Path) -> dict[str, str]:
    """Name of each patient in the images, by that in the contours."""
    with table.open(newline="", encoding="utf-8-sig") as file:
        rows = csv.DictReader(file)
        columns = rows.fieldnames or []
        if not {"PatientID", "OriginalID"} <= set(columns):
            raise InputError(
                "the table of patients lacks a column",
                where=table,
                expected="PatientID and OriginalID",
                found=", ".join(columns),
                remedy=CHANGED,
            )
        return {padded(row["OriginalID"]): row["PatientID"].strip() for row in rows}


def fitting_series(series: dict[str, dict[str, Member]], numbers: set[str]) -> list[dict[str, Member]]:
    """The series that have all slices of these numbers, the short-axis ones if any are; most images first."""
    fitting = {name: files for name, files in series.items() if numbers <= files.keys()}
    named = [name for name in fitting if "CINESAX" in name] or list(fitting)
    return [fitting[name] for name in sorted(named, key=lambda n: (len(fitting[n]), n), reverse=True)]


def without_image(series: dict[str, dict[str, Member]], numbers: set[str]) -> set[str]:
    """The slices that even the series with the most of them lacks."""
    return min((numbers - files.keys() for files in series.values()), key=len, default=numbers)


def check_slices(numbers: Numbers, lacking: Numbers, known: Numbers) -> None:
    """Refuse archives whose slices are not those of the lists, or have no image.

    Args:
        numbers: slices with a contour, by patient.
        lacking: those of them without image.
        known: those that the lists name; other patients may have any.
    """

    def names(slices: Numbers) -> list[str]:
        return sorted(f"{patient}_{n}" for patient in slices for n in slices[patient])

    missing = names({p: known[p] - numbers.get(p, set()) for p in known})
    unknown = names({p: numbers.get(p, set()) - known[p] for p in known})
    for what, found in (
        ("a known slice has no contour", missing),
        ("a known patient has a contour of an unknown slice", unknown),
        ("a contour has no image in the patient's series", names(lacking)),
    ):
        if found:
            raise InputError(
                what,
                expected=f"{len(names(known))} slices of {len(known)} known patients, an image for every contour",
                found=f"{len(found)}, among them {', '.join(found[:5])}",
                remedy=CHANGED,
            )


def read_patient(
    patient: str, contours: dict[str, Member], fitting: list[dict[str, Member]], known: dict[str, Any] | None
) -> dict[str, Slice]:
    """The patient's slices by their numbers, checked against what is known of them, if anything is."""
    candidates = ({n: read_image(files[n]) for n in contours} for files in fitting)
    if known is None:
        images = next(candidates)
    else:

        def alike(candidate: dict[str, tuple[np.ndarray, tuple[float, float]]]) -> float:
            return likeness([image for image, _ in candidate.values()], known["picture"])

        images = max(candidates, key=alike)
        if not alike(images) >= LIKENESS:
            raise InputError(
                f"the images of {patient} are not those that the project's figures come from",
                expected=f"a correlation with their coarse picture of at least {LIKENESS}",
                found=f"{alike(images):.3f} at best, {len(fitting)} series compared",
                remedy=CHANGED,
            )
    slices = {}
    for number, (image, spacing) in images.items():
        label = rasterised(read_contour(contours[number]), image.shape)
        if not label.any():
            raise InputError("a contour encloses no pixel", where=contours[number], remedy=CHANGED)
        if known is not None:
            expected, found = np.array(known["slices"][number]), size_and_place(label)
            if np.abs(found - expected).max() > TOLERANCE_PX:
                raise InputError(
                    f"the contour of {patient}_{number} is not the one that the project's figures come from",
                    where=contours[number],
                    expected=f"radius, x and y within {TOLERANCE_PX} pixels of {expected.tolist()}",
                    found=found.round(1).tolist(),
                    remedy=CHANGED,
                )
        slices[number] = Slice(image, label, spacing)
    return slices


def read_slices(paths: dict[str, Path], known: dict[str, Any]) -> dict[str, dict[str, Slice]]:
    """All slices with a contour, by patient and number, checked against what is known of the patients."""
    names = image_names(paths[PATIENTS])
    with ExitStack() as stack:
        archives = {name: stack.enter_context(opened(p)) for name, p in paths.items() if name != PATIENTS}
        contours = contour_members(archives.pop(CONTOURS))
        images = image_members(list(archives.values()))
        series = {p: images.get(names.get(p, ""), {}) for p in contours}
        lacking = {p: without_image(series[p], set(contours[p])) for p in contours}
        for p in lacking.keys() - known.keys():  # nothing is known of the others' slices: keep what is whole
            contours[p] = {n: m for n, m in contours[p].items() if n not in lacking[p]}
        contours = {p: members for p, members in contours.items() if members}
        numbers = {p: set(contours[p]) for p in contours}
        check_slices(
            numbers,
            {p: lacking[p] for p in lacking.keys() & known.keys()},
            {p: set(known[p]["slices"]) for p in known},
        )
        return {
            p: read_patient(p, contours[p], fitting_series(series[p], numbers[p]), known.get(p))
            for p in tqdm(contours, desc="patients", leave=False)
        }


def prepare(output_dir: Path, known: dict[str, Any] | None = None) -> dict[str, Records]:
    """Download, convert, check and write the set.

    Args:
        output_dir: the folder of the set; made if missing.
        known: under `train` and `test`, by patient: `slices`, the radius and centre of each label by the number of
            its slice (`size_and_place`), and `picture` (`likeness`); by default those of the project.

    Returns:
        The lists of ``dataset.json``.

    Raises:
        InputError: the download fails; the archives, their slices, images or contours are not the known ones; or
            the folder holds another data set. Nothing but the downloads is written then.
    """
    known = known or json.loads(Path(__file__).with_name("sunnybrook_split.json").read_text(encoding="utf-8"))
    paths = {name: output_dir / "downloads" / name for name in SOURCES}
    for name, (url, sha256) in SOURCES.items():
        download(url, paths[name], sha256)
    slices = read_slices(paths, {**known["train"], **known["test"]})
    members = {split: list(known[split]) for split in ("train", "test")}
    members["held_out"] = sorted(slices.keys() - {*known["train"], *known["test"]})
    lists: dict[str, Records] = {
        split: [
            {"patient": p, "image": f"images/{p}_{n}.nii.gz", "label": f"labels/{p}_{n}.nii.gz"}
            for p in members[split]
            for n in sorted(slices[p])
        ]
        for split in members
    }
    lists |= parts_of_train(lists["train"])
    index = output_dir / "dataset.json"
    text = dataset_text(index, PROPERTIES | lists)
    for patient, by_number in slices.items():
        for number, (image, label, spacing) in by_number.items():
            affine = np.diag([*spacing, THICKNESS_MM, 1.0])
            for folder, array in (("images", image), ("labels", label)):
                with atomic_path(output_dir / folder / f"{patient}_{number}.nii.gz") as temporary:
                    nib.save(nib.Nifti1Image(array, affine), temporary)
    atomic_write_text(index, text)
    return lists


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output_dir", type=Path, required=True)
    options = parser.parse_args(arguments)
    lists = prepare(options.output_dir)
    counts = ", ".join(f"{split} {len(lists[split])}" for split in ("train", "test", "held_out"))
    print(
        f"prepared {options.output_dir}: {counts} slices; known slices as expected; {PROPERTIES['licence']}"
    )


if __name__ == "__main__":
    main()
