"""Atomic writing: beside the target, synced to disk, renamed; a reader never sees half a file."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mdl_monai.errors import InputError


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it takes the place of ``path``, on failure it goes.

    The temporary name ends in the whole name of the target, so writers that look at the suffix (".nii.gz")
    see the same one. Missing folders are made. File and folder are synced before and after the rename, so the
    target holds either the old or the new content, whenever the machine stops.

    Args:
        path: the file to write.

    Raises:
        FileNotFoundError: nothing was written to the temporary path.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{secrets.token_hex(4)}.{target.name}")
    try:
        yield temporary
        _sync(temporary)
        temporary.replace(target)
        if os.name == "posix":  # elsewhere a folder cannot be opened
            _sync(target.parent)
    except OSError as error:
        if error.errno and error.filename in (None, str(temporary)):  # the one that the user knows
            error.filename = str(target)
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: str | os.PathLike[str], may_replace: Callable[[Path], bool]) -> Iterator[Path]:
    """Yield a temporary folder beside ``path``; on success it takes the place of ``path``, on failure it goes.

    An old folder is moved aside, then the new one to its place, then the old one is deleted: whenever the machine
    stops, ``path`` is the old folder, the new one or absent (then the old one lies beside it, under a hidden name),
    never a part or a mixture.

    Args:
        path: the folder to write.
        may_replace: told an existing folder that is not empty, whether it may go.

    Raises:
        InputError: there is something that may not be replaced.
        FileNotFoundError: nothing was written to the temporary folder.
    """
    target = Path(path)
    if target.is_symlink() or (target.exists() and not _may_go(target, may_replace)):
        raise InputError(
            "there is something else where the result goes",
            where=target,
            remedy="name another output_dir, or move it away",
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    mark = secrets.token_hex(4)
    temporary, old = (target.with_name(f".{mark}.{kind}.{target.name}") for kind in ("new", "old"))
    temporary.mkdir()
    try:
        yield temporary
        written = list(temporary.rglob("*"))
        if not written:
            raise FileNotFoundError(f"nothing was written to {target}")
        for item in (*written, temporary):
            if item.is_file() or os.name == "posix":  # elsewhere a folder cannot be opened
                _sync(item)
        try:
            if target.exists():
                target.rename(old)
            temporary.rename(target)
        except BaseException:
            if old.exists() and not target.exists():
                old.rename(target)
            raise
        if os.name == "posix":
            _sync(target.parent)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _may_go(target: Path, may_replace: Callable[[Path], bool]) -> bool:
    return target.is_dir() and (not any(target.iterdir()) or may_replace(target))


def atomic_write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write ``text`` as UTF-8 to ``path``, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
