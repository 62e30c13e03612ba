"""HDF5 data sets, read only where they lie in the file itself and what they unpack to is bounded."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from mdl_monai.errors import InputError
from mdl_monai.io.limits import refuse_large

RATIO = 1040
"""No filter of HDF5 packs an array into less than this part of its size, but for one that was never written."""
FLOOR_BYTES = 2**24
"""An array may be mostly unwritten up to this size."""


def own_member(group: h5py.Group, name: str, where: object) -> Any:
    """A member of a group; None where there is none.

    Raises:
        InputError: it is a link to another place or file.
    """
    if name not in group:
        return None
    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise InputError(
            f"{name} lies elsewhere: it is a link", where=where, expected="an array in the file itself",
            remedy="copy what it links to into the file (h5repack does)",
        )  # fmt: skip
    return group[name]


def stored_array(group: h5py.Group, name: str, where: Path, max_axes: int = 5) -> h5py.Dataset | None:
    """A data set of a group that may be read whole; None where there is none.

    Raises:
        InputError: no data set, its values lie in other files, too large, chunks larger than need be, far more
            than is stored.
    """
    found = own_member(group, name, where)
    if found is None:
        return None
    if not isinstance(found, h5py.Dataset) or found.shape is None or len(found.shape) > max_axes:
        raise InputError(f"{name} is no array", where=where, found=type(found).__name__)
    if found.is_virtual or found.external:
        raise InputError(f"the values of {name} lie in other files", where=where, remedy="copy them into it")
    item = max(1, found.dtype.itemsize)
    size = refuse_large(found.shape, item, where)
    chunk = math.prod(found.chunks or (0,)) * item
    stored = found.id.get_storage_size()
    if max(size, chunk) > FLOOR_BYTES and (chunk > 2 * size or size > RATIO * stored):
        raise InputError(
            f"{name} unpacks to far more than is stored", where=where, expected=f"at most {RATIO} times as much",
            found=f"{size} bytes, chunks of {chunk}, from {stored}", remedy="store it without chunks",
        )  # fmt: skip
    return found


def refuse_long_rows(stored: h5py.Dataset, where: Path) -> None:
    """Refuse a compound array whose rows of variable length say that they are longer than the file.

    HDF5 makes room for as much as a row says, up to 16 GiB, before it looks whether there is so much. So the lengths
    are read from the chunks themselves, where they are 32 bits at the place of the row.

    Raises:
        InputError: such a row; chunks that a filter packed, which do not show it.
    """
    kind, chunks, size = stored.id.get_type(), [], where.stat().st_size
    places = [
        kind.get_member_offset(n)
        for n in range(kind.get_nmembers())
        if isinstance(kind.get_member_type(n), h5py.h5t.TypeVlenID)
    ]
    if stored.chunks is None:
        if stored.id.get_offset() is not None:
            chunks.append((stored.id.get_offset(), stored.size * kind.get_size()))
    else:
        if stored.id.get_create_plist().get_nfilters():
            raise InputError("the lines are packed", where=where, remedy="unpack them: h5repack -f NONE")
        stored.id.chunk_iter(lambda info: chunks.append((info.byte_offset, info.size)))
    with where.open("rb") as file:
        for start, length in chunks:
            file.seek(start)
            rows = np.frombuffer(file.read(min(length, size)), np.uint8)
            rows = rows[: len(rows) // kind.get_size() * kind.get_size()].reshape(-1, kind.get_size())
            for place in places:
                longest = rows[:, place : place + 4].copy().view("<u4").max(initial=0)
                if 4 * int(longest) > size:
                    raise InputError(
                        "the lines announce more than the file holds", where=where, remedy="copy it again",
                        expected=f"at most {size} bytes", found=f"{4 * int(longest)}",
                    )  # fmt: skip
