"""How much a file may hold: decided by its header, before anything is read."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence

from mdl_monai.errors import InputError

MAX_BYTES = 4 * 2**30
"""Of an array in memory. `MAX_GIB`, where it is set, counts instead."""
MAX_GIB = "MDL_MAX_GIB"
"""Environment variable, so that it holds in a loader's workers too."""


def max_bytes() -> int:
    """The limit that holds.

    Raises:
        InputError: `MAX_GIB` is no number above 0.
    """
    text = os.environ.get(MAX_GIB, "")
    if not text:
        return MAX_BYTES
    try:
        size = float(text) * 2**30
        if 0 < size < math.inf:
            return int(size)
    except ValueError:
        pass
    raise InputError(f"{MAX_GIB} is no size", expected="GiB, a number above 0", found=repr(text))


def refuse_large(shape: Sequence[int], voxel_bytes: int, where: object) -> int:
    """Raise `InputError` where an array of a declared shape would take more than `max_bytes`; else its bytes."""
    size, limit = math.prod(int(n) for n in shape) * voxel_bytes, max_bytes()
    if size > limit:
        raise InputError(
            "the file announces too large an array", where=where, expected=f"at most {limit / 2**30:.3g} GiB",
            found=f"{' x '.join(map(str, shape))}, {size / 2**30:.4g} GiB",
            remedy=f"cut it into parts, or set {MAX_GIB}=<GiB> if you trust it and have the memory",
        )  # fmt: skip
    return size
