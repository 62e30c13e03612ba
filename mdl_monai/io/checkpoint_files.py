"""A training's checkpoint on disk: whole or absent, with its digest and the one before it."""

from __future__ import annotations

import hashlib
import logging
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


def save_checkpoint(state: dict[str, Any], path: Path) -> None:
    """Write ``path``, its digest, and keep what was there as `previous`.

    The digests are written before the files are renamed, and a file is whole if its digest is among them, whatever
    its name: at each moment one of the two files is a whole checkpoint.
    """
    with atomic_path(path) as temporary:
        torch.save(state, temporary)
        digests = {path: _digest(temporary)} | {
            previous(path): known for name, known in _digests(path).items() if name == path.name
        }
        text = "".join(f"{digest}  {file.name}\n" for file, digest in digests.items())
        atomic_write_text(path.with_name(DIGESTS), text)
        if path.is_file():
            path.replace(previous(path))


def load_checkpoint(path: Path) -> tuple[dict[str, Any], Path] | None:
    """The newest whole checkpoint and its file; nothing if there is none at all.

    Raises:
        InputError: what there is is damaged.
    """
    files = [file for file in (path, previous(path)) if file.is_file()]
    digests = set(_digests(path).values())
    damaged = ""
    for file in files:
        if not digests:
            logger.warning("%s lacks its digest in %s and is taken as it is", file, DIGESTS)
        if digests and _digest(file) not in digests:
            damaged = "its bytes are not those that were written"
        else:
            try:
                return torch.load(file, map_location="cpu", weights_only=True), file
            except Exception as error:  # what a broken file makes of torch.load is anybody's guess
                damaged = str(error).splitlines()[0]
        logger.warning("%s is damaged: %s", file, damaged)
    if files:
        raise InputError(
            "no checkpoint here is whole",
            where=" and ".join(map(str, files)),
            found=damaged,
            remedy="start anew with --resume false, from the best weights with --pretrained <copy of model.pt>",
        )
    return None


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digests(path: Path) -> dict[str, str]:
    """Digest by file name, as far as they are known."""
    listing = path.with_name(DIGESTS)
    if not listing.is_file():
        return {}
    lines = (line.split() for line in listing.read_text(encoding="utf-8", errors="replace").splitlines())
    return {words[1]: words[0] for words in lines if len(words) == 2}
