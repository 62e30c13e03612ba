"""A training's checkpoint on disk: whole or absent, with its digest and the one before it."""

from __future__ import annotations

import hashlib
import logging
import os
import zipfile
from pathlib import Path
from typing import Any

import torch

from mdl_monai.errors import InputError
from mdl_monai.io.atomic import atomic_path, atomic_write_text

DIGESTS = "checkpoint.sha256"  # as `sha256sum --check` reads it

logger = logging.getLogger(__name__)


def previous(path: Path) -> Path:
    """Where the checkpoint before the newest is kept: checkpoint.pt, checkpoint.previous.pt."""
    return path.with_suffix(f".previous{path.suffix}")


def save_tensors(content: Any, path: Path) -> None:
    """`torch.save` beside the target, then rename; equal content gives equal bytes.

    torch writes the name of the file into it, and tells no reason of a failure: it gets an open file instead.
    """
    _clear(path)
    with atomic_path(path) as temporary:
        _write(content, temporary)


def save_checkpoint(state: dict[str, Any], path: Path) -> None:
    """Write ``path`` and its digest, and keep the newest whole one that was there as `previous`.

    The digests of both are written before the files are renamed, and a file is whole if its digest is among them,
    whatever its name: at each moment one of the two files is a whole checkpoint.
    """
    _clear(path)
    known = _digests(path)
    kept = next((file for file in _files(path) if not _fault(file, known)), None)
    with atomic_path(path) as temporary:
        _write(state, temporary)
        digests = {path: sha256(temporary)} | ({previous(path): sha256(kept)} if kept else {})
        text = "".join(f"{digest}  {file.name}\n" for file, digest in digests.items())
        atomic_write_text(path.with_name(DIGESTS), text)
        if kept == path:
            path.replace(previous(path))


def load_checkpoint(path: Path) -> tuple[dict[str, Any], Path] | None:
    """The newest whole checkpoint and its file; nothing if there is none at all.

    Raises:
        InputError: what there is is damaged.
    """
    known, files, fault = _digests(path), _files(path), ""
    if path not in files and (files or known):
        logger.warning("%s is missing", path)
    for file in files:
        if not (fault := _fault(file, known)):
            try:
                return dict(torch.load(file, map_location="cpu", weights_only=True)), file
            except Exception as error:  # what a broken file makes of torch.load is anybody's guess
                fault = _told(error)
        logger.warning("%s is damaged: %s", file, fault)
    if fault:
        raise InputError(
            "no checkpoint here is whole",
            where=" and ".join(map(str, files)),
            found=fault,
            remedy="start anew with --resume false, from the best weights with --pretrained <copy of model.pt>",
        )
    return None


def _files(path: Path) -> list[Path]:
    """The newest one and the one before it, as far as they are there."""
    return [file for file in (path, previous(path)) if file.is_file()]


def _fault(file: Path, known: dict[str, str]) -> str:
    """What is wrong with a file; empty if nothing is."""
    if known:
        return "" if sha256(file) in known.values() else "its bytes are not those that were written"
    logger.warning("%s lacks its digest in %s", file, DIGESTS)
    try:
        with zipfile.ZipFile(file) as archive:  # torch itself does not look at the sums in it
            broken = archive.testzip()
    except Exception as error:
        return _told(error)
    return f"{broken} in it is not what was written" if broken else ""


def _told(error: Exception) -> str:
    told = f"{type(error).__name__}: {error}".splitlines()[0]
    # torch would tell how to load it all the same, and run what is in it
    return "what is no tensor in it could run code" if "weights" in told.lower() else told


def _clear(path: Path) -> None:
    """Take away what processes that were killed while they wrote have left."""
    for left in path.parent.glob(f".????????.{path.name}"):
        left.unlink(missing_ok=True)


def _write(content: Any, path: Path) -> None:
    with path.open("wb") as file:
        torch.save(content, file)
        file.flush()
        os.fsync(file.fileno())  # a disk that is full may say so only now, before anything else is moved


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digests(path: Path) -> dict[str, str]:
    """Digest by file name, as far as they are known."""
    listing = path.with_name(DIGESTS)
    if not listing.is_file():
        return {}
    lines = (line.split() for line in listing.read_text(encoding="utf-8", errors="replace").splitlines())
    return {words[1]: words[0] for words in lines if len(words) == 2}
