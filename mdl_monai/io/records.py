"""Lists of records: from `dataset.json` or a plain folder, with case and subject names."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.utils import ensure_tuple

from mdl_monai.errors import InputError
from mdl_monai.io.dicom.objects import image_files, is_dicom
from mdl_monai.io.plan import given_options

IMAGE_SUFFIXES = (".nii", ".nii.gz", ".png", ".h5", ".hdf5", ".mrd")
DICOM_SUFFIXES = (".zip",)  # and folders
PAIRED_FOLDERS = {"train": ("imagesTr", "labelsTr"), "test": ("imagesTs", "labelsTs")}

Record = dict[str, Any]


def stem(path: str | Path) -> str:
    """File name without its image suffix: ``a/b.nii.gz`` to ``b``."""
    name = Path(path).name
    for suffix in sorted(IMAGE_SUFFIXES, key=len, reverse=True):
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return Path(name).stem


def load_records(
    dataset_dir: str | Path,
    split: str | Sequence[str],
    image_key: str = "image",
    label_key: str | Sequence[str] | None = None,
    leave_out: Sequence[str] = (),
    only: Mapping[str, Any] | None = None,
) -> list[Record]:
    """Records of a data set: paths made absolute, with unique ``case`` and ``subject`` names.

    Args:
        dataset_dir: folder with a ``dataset.json`` of named lists of records; or with ``imagesTr/`` and
            ``labelsTr/`` (split "train") and perhaps ``imagesTs/`` and ``labelsTs/`` (split "test"), whose files
            have equal names; or a plain folder of image files, of DICOM series (each in its own folder or zip) or of
            the files of one series (then `split` does not matter).
        split: name of a list, or several names.
        image_key: key of the image file in a record; it names the case.
        label_key: key of the reference file, where a record must have one, or keys of several.
        leave_out: names of cases to drop.
        only: values that a record must have, by key; None or "null" for any.

    Raises:
        InputError: no such folder, nothing in it, no such split, a record without its key, a missing file, a case
            to drop that there is not, no record with the values.
    """
    references = list(ensure_tuple(label_key)) if label_key is not None else []
    folder = Path(dataset_dir).expanduser().resolve()
    if not folder.is_dir():
        raise InputError(
            "the data set folder does not exist",
            where=folder,
            remedy="set --dataset_dir to an existing folder",
        )
    splits = [str(s) for s in ensure_tuple(split)]
    if (folder / "dataset.json").is_file():
        records = _listed_records(folder, splits, image_key)
    elif (folder / PAIRED_FOLDERS["train"][0]).is_dir():
        records = _paired_records(folder, splits, image_key, references[0] if references else None)
    else:
        files = _image_files(folder) + _dicom_series(folder)
        if not files:
            raise InputError(
                "the folder holds no images",
                where=folder,
                expected="a dataset.json, imagesTr and labelsTr, DICOM series, or files ending in "
                + " or ".join(IMAGE_SUFFIXES),
                found=f"{sum(1 for _ in folder.iterdir())} other entries",
                remedy="set --dataset_dir to the folder that holds them",
            )
        records = [{image_key: str(p.relative_to(folder))} for p in files]
    for key, value in given_options(only or {}).items():
        found = sorted({str(record.get(key)) for record in records})
        records = [record for record in records if str(record.get(key)) == str(value)]
        if not records:
            raise InputError(f"no record has the {key} {value!r}", where=folder, found=", ".join(found[:10]))
    named = name_records(_resolved(folder, records, [image_key, *references]), folder, image_key)
    unknown = set(ensure_tuple(leave_out)) - {record["case"] for record in named}
    if unknown:
        raise InputError(
            "a case to leave out is not in the split", where=folder, found=", ".join(sorted(unknown))
        )
    return [record for record in named if record["case"] not in ensure_tuple(leave_out)]


def _image_files(folder: Path) -> list[Path]:
    """Image files of a folder; not the hidden ones, which archives made on a Mac bring along."""
    return sorted(
        p for p in folder.iterdir() if p.name.lower().endswith(IMAGE_SUFFIXES) and not p.name.startswith(".")
    )


def _dicom_series(folder: Path) -> list[Path]:
    """Folders and zips of DICOM in a folder, or the folder itself where it holds the files."""
    entries = [p for p in sorted(folder.iterdir()) if not p.name.startswith(".")]
    if any(is_dicom(p) for p in entries if p.is_file()):
        return [folder]
    return [
        p
        for p in entries
        if p.name.lower().endswith(DICOM_SUFFIXES) or (p.is_dir() and any(map(is_dicom, image_files(p))))
    ]


def _paired_records(folder: Path, splits: list[str], image_key: str, label_key: str | None) -> list[Record]:
    records: list[Record] = []
    for split in splits:
        if split not in PAIRED_FOLDERS or not (folder / PAIRED_FOLDERS[split][0]).is_dir():
            raise InputError(
                f"unknown split {split!r}",
                where=folder,
                expected=" or ".join(
                    f"{k} ({v[0]})" for k, v in PAIRED_FOLDERS.items() if (folder / v[0]).is_dir()
                ),
                remedy="name one of them with --split (or --train_split, --val_split)",
            )
        images, labels = PAIRED_FOLDERS[split]
        files = _image_files(folder / images)
        if not files:
            raise InputError("the folder holds no images", where=folder / images)
        alone = [p.name for p in files if not (folder / labels / p.name).is_file()]
        if label_key is not None and alone:
            raise InputError(
                "an image has no label map",
                where=folder / labels,
                expected="one of the same name for each image",
                found=f"none for {', '.join(alone[:5])}"
                + (f" and {len(alone) - 5} more" if len(alone) > 5 else ""),
                remedy="add it, or take the image away",
            )
        pair = {} if label_key is None else {label_key: labels}
        records += [
            {image_key: f"{images}/{p.name}", **{k: f"{v}/{p.name}" for k, v in pair.items()}} for p in files
        ]
    return records


def _listed_records(folder: Path, splits: list[str], image_key: str) -> list[Record]:
    listing = folder / "dataset.json"
    try:
        content = json.loads(listing.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError("dataset.json is not valid JSON", where=listing, found=error) from error
    lists = {
        k: v
        for k, v in (content.items() if isinstance(content, dict) else [])
        if isinstance(v, list) and all(isinstance(r, dict) for r in v)
    }
    records: list[Record] = []
    for split in splits:
        if split not in lists:
            raise InputError(
                f"unknown split {split!r}",
                where=listing,
                expected=f"one of {', '.join(sorted(lists)) or '(it has no list of records)'}",
                remedy="name one of them with --split (or --train_split, --val_split)",
            )
        records.extend(lists[split])
    if not records:
        raise InputError("the split is empty", where=listing, found=", ".join(splits))
    for number, record in enumerate(records):
        if image_key not in record:
            raise InputError(
                f"record {number} has no {image_key!r}",
                where=f"{listing}, {', '.join(splits)}",
                found=f"keys {', '.join(sorted(record))}",
                remedy="set --image_key to the key of the image file",
            )
    return records


def _resolved(folder: Path, records: list[Record], keys: list[str]) -> list[Record]:
    resolved = []
    for record in records:
        new = dict(record)
        for key in keys:
            if key not in record:
                raise InputError(
                    f"a record has no {key!r}",
                    where=folder,
                    found=record,
                    remedy="add it, or name the key that the records have",
                )
            path = folder / str(record[key])
            if not _exists(path):
                raise InputError(
                    "a file of the data set is missing",
                    where=path,
                    remedy="complete the data set, or take the record out of dataset.json",
                )
            new[key] = str(path)
        resolved.append(new)
    return resolved


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # too long a name, a folder that may not be read
        return False


def _case(path: Path) -> str:
    """Name of a file without its suffix; of a folder, whose dots belong to its name, the whole."""
    return path.name if path.is_dir() else stem(path)


def name_records(records: list[Record], folder: Path, image_key: str) -> list[Record]:
    """Add ``case`` (unique name of file or folder, else the path with underscores), ``subject`` and its unit."""
    counts = Counter(_case(Path(r[image_key])) for r in records)
    for record in records:
        path = Path(record[image_key])
        case = _case(path)
        if counts[case] > 1:
            relative = path.relative_to(folder) if path.is_relative_to(folder) else path
            # a file name that began with ".." would be hidden
            case = "_".join([*(p for p in relative.parts[:-1] if p not in (relative.anchor, "..")), case])
        record["case"] = case
        patient = record.get("patient")
        record["subject"] = case if patient is None else str(patient)
        record["subject_unit"] = "case" if patient is None else "patient"
    twice = [case for case, n in Counter(r["case"] for r in records).items() if n > 1]
    if twice:
        raise InputError("a file is listed twice", where=folder, found=", ".join(sorted(twice)[:5]))
    return records
