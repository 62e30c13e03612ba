"""Records to train on and to validate on, which share no subject."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mdl_monai.errors import InputError
from mdl_monai.io.records import Record, load_records, name_records


def named_splits(
    splits: Mapping[str, Sequence[Mapping[str, Any]]], image_key: str = "image"
) -> dict[str, list[Record]]:
    """Lists of records by name, each with ``case`` and ``subject``.

    Records that another tool (MONAI Label) has set in a data set hold the files alone, and are named here.
    """
    return {
        name: [dict(r) for r in records]
        if all("case" in r for r in records)
        else name_records([dict(r) for r in records], Path("/"), image_key)
        for name, records in splits.items()
    }


def split_by_subject(
    records: Sequence[Record], fraction: float, seed: int
) -> tuple[list[Record], list[Record]]:
    """Set the records of a random `fraction` of the subjects (at least one) aside: (the rest, set aside).

    Raises:
        InputError: fraction outside (0, 1), or fewer than two subjects.
    """
    if not 0 < fraction < 1:
        raise InputError(
            "val_fraction must lie between 0 and 1", found=fraction, remedy="set --val_fraction 0.15"
        )
    subjects = sorted({r["subject"] for r in records})
    if len(subjects) < 2:
        raise InputError(
            "training needs two subjects or more to set some aside for validation",
            found=f"{len(subjects)} subject",
            remedy="name a validation list with --val_split",
        )
    random.Random(seed).shuffle(subjects)
    aside = set(subjects[: max(1, min(len(subjects) - 1, round(fraction * len(subjects))))])
    return [r for r in records if r["subject"] not in aside], [r for r in records if r["subject"] in aside]


def _identity(record: Record, image_key: str) -> str:
    """What two lists must not share: the patient, or, where it is not told, the file."""
    return record["subject"] if record["subject_unit"] == "patient" else record[image_key]


def train_val_records(
    dataset_dir: str | Path,
    train_split: str | Sequence[str],
    val_split: str | Sequence[str] | None,
    val_fraction: float,
    seed: int,
    image_key: str = "image",
    label_key: str | Sequence[str] | None = None,
    only: Mapping[str, Any] | None = None,
) -> dict[str, list[Record]]:
    """``{"train": records, "val": records}``; without `val_split`, a seeded fraction of the training subjects.

    Raises:
        InputError: as :func:`load_records`; also where a subject is in both lists.
    """
    train = load_records(dataset_dir, train_split, image_key, label_key, only=only)
    if not val_split:
        train, val = split_by_subject(train, val_fraction, seed)
        return {"train": train, "val": val}
    val = load_records(dataset_dir, val_split, image_key, label_key, only=only)
    both = {_identity(r, image_key) for r in train} & {_identity(r, image_key) for r in val}
    if both:
        raise InputError(
            "training and validation share subjects",
            where=dataset_dir,
            found=", ".join(sorted(both)[:5]),
            remedy="name lists that do not",
        )
    return {"train": train, "val": val}
