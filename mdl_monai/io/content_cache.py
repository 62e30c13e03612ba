"""Arrays on disk, keyed by the content that they were computed from."""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from mdl_monai.errors import InputError
from mdl_monai.io.atomic import atomic_path

STALE_SECONDS = 24 * 3600
SEAL = "content_key"  # member of an entry that holds the key of its other members


def content_key(*parts: Any) -> str:
    """SHA-256 of `parts`, 64 hexadecimal digits: equal for equal content, whatever file or object it came from.

    Arrays count with data type, shape and values (a tensor like the array that it converts to; of a `MetaTensor`
    the values alone, so hand its affine over too); numbers with their type; mappings without their order; lists
    and tuples alike. A result's key needs all that decides it: inputs, options, the method's name and version.

    Raises:
        TypeError: a part of another kind (a path, say, whose content may change).
    """
    return _digest(parts).hex()


def _digest(part: Any) -> bytes:
    if isinstance(part, np.generic):
        part = part.item()
    if isinstance(part, Tensor):
        part = part.numpy(force=True)
    if part is None or isinstance(part, bool | int | float):
        kind, content = type(part).__name__, repr(part).encode()
    elif isinstance(part, str):
        kind, content = "str", part.encode("utf-8", "surrogatepass")
    elif isinstance(part, bytes):
        kind, content = "bytes", part
    elif isinstance(part, np.ndarray) and part.dtype.kind in "biufcSU":
        kind, content = f"array {part.dtype.str} {part.shape}", part.tobytes()
    elif isinstance(part, Mapping):
        kind, content = "mapping", b"".join(sorted(_digest(k) + _digest(v) for k, v in part.items()))
    elif isinstance(part, list | tuple):
        kind, content = "sequence", b"".join(_digest(p) for p in part)
    else:
        raise TypeError(f"no content key for a {type(part).__name__}: {part!r:.80}")
    # No kind holds a zero byte and all digests have one length: two contents never spell the same bytes.
    return hashlib.sha256(kind.encode() + b"\0" + content).digest()


class ContentCache:
    """One compressed ``.npz`` an entry: whole or absent, also after a kill, with several processes at work.

    Args:
        folder: is made when the first entry is put.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def path(self, key: str) -> Path:
        """Where the entry of `key` lies: folders of the first two digits keep each of them small."""
        return self.folder / key[:2] / f"{key}.npz"

    def get(self, key: str) -> dict[str, np.ndarray] | None:
        """The arrays of an entry, by name; None where there is none, or where it is damaged."""
        try:
            with self.path(key).open("rb") as file, np.load(file, allow_pickle=False) as entry:
                arrays = {name: entry[name] for name in entry.files}
            # ZIP's own check sums miss a damaged array header that asks for fewer bytes than there are.
            return arrays if arrays.pop(SEAL).item() == content_key(arrays) else None
        except Exception:  # damaged bytes make zipfile, zlib and numpy raise a dozen kinds
            return None

    def put(self, key: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Write an entry, in place of the one that is there.

        Raises:
            TypeError: an array of objects.
            OSError: the disk is full, or the folder cannot be written.
        """
        members: dict[str, Any] = {**arrays, SEAL: np.array(content_key(arrays))}
        path = self.path(key)
        with atomic_path(path) as temporary:
            np.savez_compressed(temporary, **members)
        for left in path.parent.glob(".*.npz"):  # by writers that were killed
            try:
                if time.time() - left.stat().st_mtime > STALE_SECONDS:
                    left.unlink()
            except FileNotFoundError:  # a living one renamed it, or another put took it away
                pass


def user_cache_dir() -> Path:
    """The user's cache folder for this package, by the platform's convention."""
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "mdl_monai"
    named = Path(os.environ.get("LOCALAPPDATA" if sys.platform == "win32" else "XDG_CACHE_HOME", ""))
    return (named if named.is_absolute() else Path.home() / ".cache") / "mdl_monai"


def cache_folder(cache_dir: str | Path | None, not_inside: str | Path) -> Path:
    """The folder to cache in, made if missing: `cache_dir`, or the user's.

    Raises:
        InputError: it lies inside `not_inside`, where it would pass for data, or it cannot be written.
    """
    try:
        folder = Path(cache_dir).expanduser().resolve() if cache_dir else user_cache_dir().resolve()
        if folder.is_relative_to(Path(not_inside).expanduser().resolve()):
            raise InputError(
                "the cache folder lies inside the atlas folder",
                where=folder,
                expected=f"a folder outside of {not_inside}",
                remedy="name another with --cache_dir",
            )
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except (OSError, RuntimeError) as error:  # RuntimeError: the user has no home folder
        raise InputError(
            "the cache folder cannot be written",
            where=cache_dir or "the user's cache folder",
            found=error,
            remedy="name another with --cache_dir",
        ) from error
    return folder
