"""What a segmentation network is made for: labels, voxel spacing, patch size, stage widths, mirror images or not.

A training takes them from its data or from options; they go beside its weights, see `plan`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch

from mdl_monai.errors import InputError
from mdl_monai.io.check_input import check_header
from mdl_monai.io.label_map import check_labels, label_values
from mdl_monai.io.nifti_reader import nifti_header, read_nifti
from mdl_monai.io.options import flag
from mdl_monai.io.plan import Plan, given_options, read_plan
from mdl_monai.io.records import Record, load_records

MAX_PATCH_VOXELS = 2**19  # 0.5 million: V-Net trains on a batch of four in about 2.5 GB


def plan_of_weights(ckpt_path: str | Path, default: Mapping[str, Any], **options: Any) -> Plan:
    """The plan of trained weights: options that are set, else ``plan.json`` beside the weights, else `default`.

    Args:
        ckpt_path: file of the weights.
        default: the plan of the bundle's own weights: ``labels``, ``spacing`` (mm), ``patch_size`` (voxels),
            ``features``, and ``mirror``, whether it knows mirror images.
        options: entries of the plan that the user set; None or "null" for those not set.

    Raises:
        InputError: an unreadable ``plan.json``, or an entry that is none.
    """
    return _checked(read_plan(ckpt_path, default, **options))


def plan_of_data(
    dataset_dir: str | Path,
    split: str | Sequence[str],
    image_key: str,
    label_key: str,
    default: Mapping[str, Any],
    **options: Any,
) -> Plan:
    """The plan for a training: options that are set; the rest from its images and label maps.

    Labels are those of ``dataset.json`` (``{"labels": {"1": "anterior"}}``), else all that the maps hold. Spacing
    is the median of the images; the patch is their median size at that spacing, rounded up to what the network
    halves without a rest and cut to 0.5 million voxels. Without a data set (a consumer that wants the network
    alone) it is `default`.

    Args:
        dataset_dir, split, image_key, label_key: as for `load_records`.
        default, options: as for :func:`plan_of_weights`.

    Raises:
        InputError: a label map that is none, a label that there is not, what `load_records` raises.
    """
    given = given_options(options)
    if not Path(dataset_dir).expanduser().is_dir():
        return _checked({**default, **given})
    records = load_records(dataset_dir, split, image_key, label_key)
    plan = {**default, **given}
    names = _names(Path(dataset_dir).expanduser())
    plan["labels"] = _labels(records, label_key, given.get("labels") or sorted(names))
    plan["names"] = {str(n): names[n] for n in plan["labels"] if n in names}
    sizes, spacings = _grids(records, image_key)
    if "spacing" not in given:
        plan["spacing"] = [round(float(mm), 4) for mm in np.median(spacings, axis=0)]
    if "patch_size" not in given:
        size = np.median(sizes * spacings / np.asarray(plan["spacing"], dtype=float), axis=0)
        plan["patch_size"] = _patch(size, 2 ** (len(_checked(plan)["features"]) - 1))
    return _checked(plan)


def _checked(plan: Plan) -> Plan:
    """Lists of positive numbers in their types; what else a plan holds stays."""
    for name, kind, count in (
        ("labels", int, 0),
        ("spacing", float, 3),
        ("patch_size", int, 3),
        ("features", int, 0),
    ):
        value: Any = plan.get(name)
        items: list[Any] = (
            list(value)
            if isinstance(value, Sequence | np.ndarray) and not isinstance(value, str)
            else [value]
        )
        try:
            numbers = [kind(item) for item in items]
        except (TypeError, ValueError):
            numbers = []
        if not numbers or not all(n > 0 for n in numbers) or (count and len(numbers) != count):
            raise InputError(
                f"{name} is no list of {count or ''} positive numbers".replace("  ", " "),
                found=value,
                remedy=f"give it as --{name} '{[1, 2] if not count else [1, 1, 1]}'",
            )
        plan[name] = numbers
    plan["mirror"] = flag(plan.get("mirror", False))
    if len(set(plan["labels"])) < len(plan["labels"]):
        raise InputError("a label is named twice", found=plan["labels"], remedy="set --labels '[1, 2]'")
    return plan


def _names(folder: Path) -> dict[int, str]:
    """Names by label of ``dataset.json``, written as {"1": "name"} or as {"name": 1}, background left out."""
    listing = folder / "dataset.json"
    if not listing.is_file():
        return {}
    content = json.loads(listing.read_text(encoding="utf-8"))  # `load_records` has read it before
    labels = content.get("labels") if isinstance(content, dict) else None
    names: dict[int, str] = {}
    for a, b in (labels or {}).items() if isinstance(labels, dict) else ():
        number, name = (a, b) if str(a).lstrip("-").isdigit() else (b, a)
        if str(number).isdigit() and int(number) > 0:
            names[int(number)] = str(name)
    return names


def _labels(records: Sequence[Record], label_key: str, known: Sequence[int]) -> list[int]:
    """The labels to learn: the known ones, all of which some map holds, or else what the maps hold."""
    held: set[int] = set()
    known = [int(n) for n in known]
    for record in records:
        path = record[label_key]
        check_header(path)
        image = read_nifti(path)
        values = label_values(torch.from_numpy(np.asarray(image.dataobj, dtype=np.float64)), where=path)
        if known:
            check_labels(values, known, where=path)
        held.update(values)
    missing = sorted(set(known) - held)
    if missing or not held:
        raise InputError(
            "no case holds a label that is to be learned",
            where=Path(records[0][label_key]).parent,
            expected=", ".join(map(str, known)) or "a label above 0",
            found=", ".join(map(str, sorted(held))) or "background alone",
            remedy="take it out of --labels (or of dataset.json), or add cases that hold it",
        )
    return known or sorted(held)


def _grids(records: Sequence[Record], image_key: str) -> tuple[np.ndarray, np.ndarray]:
    """Sizes in voxels and spacings in mm of all images along right, anterior and superior, each [N, 3]."""
    sizes, spacings = [], []
    for record in records:
        check_header(record[image_key], (3,))
        header = nifti_header(record[image_key])
        affine = header.get_best_affine()
        order = np.argsort(nib.io_orientation(affine)[:, 0])  # array axis of each world axis
        sizes.append(np.asarray(header.get_data_shape()[:3])[order])
        spacings.append(np.asarray(nib.affines.voxel_sizes(affine))[order])
    return np.asarray(sizes), np.asarray(spacings)


def _patch(size: np.ndarray, stride: int) -> list[int]:
    patch = [stride * max(1, math.ceil(round(float(n), 3) / stride)) for n in size]
    while math.prod(patch) > MAX_PATCH_VOXELS:
        patch[patch.index(max(patch))] -= stride
    return patch
