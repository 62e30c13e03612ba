"""``python -m mdl_monai.check PATH...``: what a bundle would refuse, before it is run.

One line a file or DICOM series: ``ok`` or ``refused``, its path, and why. Exit code 0: all can be used; 1: something
is refused; 2: wrong use. Nothing of the headers that names a patient is shown.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mdl_monai.errors import InputError
from mdl_monai.io.dicom.objects import is_dicom
from mdl_monai.io.kspace_file import load_kspace
from mdl_monai.io.label_map import label_values
from mdl_monai.io.limits import MAX_GIB, max_bytes
from mdl_monai.io.records import DICOM_SUFFIXES, IMAGE_SUFFIXES
from mdl_monai.transforms.load import LoadInputd
from mdl_monai.transforms.multi_coil import HDF5

LISTING = "dataset.json"
LABELS = ("label", "mask", "seg")
"""A key or a folder whose name begins so holds label maps, which may be empty."""
SINGLE = (*IMAGE_SUFFIXES, *DICOM_SUFFIXES)  # a file is an item of its own


class Item(NamedTuple):
    """Something to check: a file, or the folder of a DICOM series."""

    path: Path
    is_label: bool = False


def items_of(path: Path) -> Iterator[Item]:
    """What there is to check in a path: a file itself, the records of a data set, else all images below a folder.

    Raises:
        InputError: a ``dataset.json`` that cannot be read, or lists a file that there is not.
    """
    if path.name == LISTING or (path / LISTING).is_file():
        yield from _listed(path if path.name == LISTING else path / LISTING)
        return
    if not path.is_dir():
        yield Item(path, _names_label(path.parent.name))
        return
    for parent, folders, names in os.walk(path):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        files = [Path(parent, name) for name in sorted(names) if not name.startswith(".")]
        others = [file for file in files if not file.name.lower().endswith(SINGLE)]
        is_label = _names_label(Path(parent).name)
        yield from (Item(file, is_label) for file in files if file.name.lower().endswith(SINGLE))
        if any(file.suffix.lower() == ".dcm" or is_dicom(file) for file in others):
            yield Item(Path(parent))


def _listed(listing: Path) -> Iterator[Item]:
    try:
        content = json.loads(listing.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{LISTING} is not valid JSON", where=listing, found=type(error).__name__) from error
    lists = content.values() if isinstance(content, dict) else []
    records = [r for part in lists if isinstance(part, list) for r in part if isinstance(r, dict)]
    seen: set[Path] = set()
    for key, name in ((key, name) for record in records for key, name in record.items()):
        if not isinstance(name, str) or not name or "\0" in name:
            continue
        path = listing.parent / name
        is_file = name.lower().endswith(SINGLE)
        if path not in seen and (is_file or ("/" in name and path.is_dir())):
            seen.add(path)
            yield Item(path, _names_label(key))
    if not seen:
        raise InputError(f"{LISTING} lists no image", where=listing, expected="named lists of records")


def _names_label(name: str) -> bool:
    return name.lower().startswith(LABELS)


def check_item(item: Item, loader: LoadInputd) -> str:
    """Read an item as a bundle would, and say in a few words what it is.

    Raises:
        InputError: it would be refused.
    """
    if item.path.suffix.lower() in HDF5:
        raw = load_kspace(item.path)
        return f"k-space {' x '.join(map(str, raw.data.shape))}"
    if item.is_label:
        label: Any = loader._read(str(item.path))
        return f"{_shape(label)}, {len(label_values(label, where=item.path))} labels"
    image: Any = loader({"image": str(item.path)})["image"]
    sizes = np.linalg.norm(np.asarray(image.affine, dtype=float)[:3, :3], axis=0)[: image.ndim - 1]
    return f"{_shape(image)}, {' x '.join(f'{mm:.3g}' for mm in sizes)} mm"


def _shape(image: Any) -> str:
    return " x ".join(map(str, image.shape[1:]))


def in_one_line(error: InputError) -> str:
    """The message of an error without its place, which stands before it."""
    parts = (part.strip() for part in str(error).splitlines())
    return "; ".join(part for part in parts if part and not part.startswith("where:"))


def _finding(item: Item, loader: LoadInputd) -> tuple[bool, str]:
    try:
        return True, f"ok       {item.path}: {check_item(item, loader)}"
    except InputError as error:
        return False, f"refused  {item.path}: {in_one_line(error)}"
    except Exception as error:  # a gap in the gate is no reason to stop; its message may quote a header
        return False, f"refused  {item.path}: it cannot be read ({type(error).__name__})"


def check_paths(paths: Sequence[Path], loader: LoadInputd) -> Iterator[tuple[bool, str]]:
    """For each thing to check whether it can be used, and a line that says so."""
    for path in paths:
        empty = True
        try:
            for item in items_of(path):
                empty = False
                yield _finding(item, loader)
        except (InputError, OSError) as error:
            told = (
                in_one_line(error)
                if isinstance(error, InputError)
                else f"it cannot be read ({error.strerror})"
            )
            yield False, f"refused  {path}: {told}"
            continue
        if empty:
            yield False, f"refused  {path}: no image found; expected: {' '.join(IMAGE_SUFFIXES)} or DICOM"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    parser = argparse.ArgumentParser(prog="python -m mdl_monai.check", description=__doc__.split("\n")[0])
    parser.add_argument(
        "path", nargs="+", type=Path, help=f"image, folder, DICOM series or folder of {LISTING}"
    )
    parser.add_argument("--axes", type=int, nargs="+", choices=(2, 3), default=(2, 3), help="2, 3 or both")
    parser.add_argument("--modality", nargs="+", default=(), help="that DICOM series must be of, such as MR")
    parser.add_argument(
        "--dicom_allow", nargs="+", default=(), help="faults of a DICOM series to put up with"
    )
    parser.add_argument("--max_gib", help="largest array; to a bundle it is told by " + MAX_GIB)
    options = parser.parse_args(arguments)
    if options.max_gib is not None:
        os.environ[MAX_GIB] = options.max_gib
    try:
        max_bytes()
        loader = LoadInputd(
            "image", spatial_dims=options.axes, dicom_allow=options.dicom_allow, modality=options.modality
        )
    except InputError as error:
        parser.error(in_one_line(error))
    missing = [str(path) for path in options.path if not path.exists()]
    if missing:
        parser.error(f"no such file or folder: {', '.join(missing)}")
    refused = 0
    for good, line in check_paths(options.path, loader):
        print(line.encode("utf-8", "backslashreplace").decode(), flush=True)  # noqa: T201
        refused += not good
    return int(refused > 0)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # what reads the lines has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
