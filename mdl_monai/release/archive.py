"""What of a folder is released, and a zip of it that is the same, byte for byte, wherever it is made."""

from __future__ import annotations

import os
import subprocess
import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from mdl_monai.errors import InputError
from mdl_monai.io.atomic import atomic_path


def release_files(folder: Path) -> list[PurePosixPath]:
    """Files of ``folder`` that are released, relative to it and sorted.

    In a git checkout those of the last commit, from which nothing may differ; elsewhere, and where git ignores the
    folder, all that are not hidden. Large files that git does not hold belong to them, too.

    Raises:
        InputError: something is not committed, a large file is missing, git does not read its checkout.
    """
    changed = _git(folder, "status", "--porcelain", "--untracked-files=all", "--", ".").splitlines()
    if changed:
        raise InputError(
            "the folder differs from the last commit", where=folder, found=", ".join(changed[:5]),
            remedy="commit it first, or take the changes back",
        )  # fmt: skip
    names = {PurePosixPath(name) for name in _git(folder, "ls-files", "-z").split("\0") if name}
    if not names:
        paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
        names = {PurePosixPath(path.as_posix()) for path in paths}
    names |= {PurePosixPath(entry["path"]) for entry in large_files(folder)}
    return sorted(n for n in names if not any(p.startswith(".") or p == "__pycache__" for p in n.parts))


def _git(folder: Path, *arguments: str) -> str:
    """Output of a git command in ``folder``; empty where there is no checkout or no git."""
    command = ["git", "--no-optional-locks", "-C", str(folder), *arguments]
    # a hook's variables name its own repository
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        ended = subprocess.run(command, capture_output=True, env={**environment, "LC_ALL": "C"})
    except FileNotFoundError:
        return ""
    message = ended.stderr.decode(errors="replace").strip()
    if ended.returncode and "not a git repository" not in message:
        raise InputError("git does not read the checkout", where=folder, found=message)
    return os.fsdecode(ended.stdout)


def large_files(bundle: Path) -> list[dict[str, Any]]:
    """Entries of the bundle's `large_files.yml` (or .yaml, .json), which MONAI downloads; all must be there.

    Raises:
        InputError: the list cannot be read, or a file that it names is missing.
    """
    entries: list[dict[str, Any]] = []
    for listing in sorted(bundle.glob("large_files.*")):
        try:
            entries += [
                dict(entry, path=_text(entry["path"]))
                for entry in yaml.safe_load(listing.read_bytes())["large_files"]
            ]
        except (yaml.YAMLError, LookupError, TypeError, ValueError, RecursionError) as error:
            found = str(error).partition("\n")[0]
            raise InputError(
                "the list of large files cannot be read", where=listing.name, found=found
            ) from error
    for entry in entries:
        path = PurePosixPath(entry["path"])
        if path.is_absolute() or ".." in path.parts:
            raise InputError("a large file lies outside of the bundle", where=bundle, found=str(path)[:80])
        if not (bundle / entry["path"]).is_file():
            raise InputError(
                "a large file of the bundle is missing", where=entry["path"],
                remedy="get it with `python -m monai.bundle download_large_files --bundle_path <bundle>`",
            )  # fmt: skip
    return entries


def _text(value: Any) -> str:
    if not isinstance(value, str):  # str() of a few nested YAML aliases can fill the memory
        raise TypeError(f"a path is a {type(value).__name__}")
    return value


def write_zip(bundle: Path, path: Path, names: Sequence[PurePosixPath] | None = None) -> None:
    """Write files of the bundle, those that are released if none are named, to the zip ``path``.

    They lie below a folder of the bundle's name. Nothing is compressed: weights and pictures hardly shrink, and what
    zlib makes of the rest differs between its versions. Times and permissions are fixed.
    """
    bundle = bundle.resolve()
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for name in release_files(bundle) if names is None else names:
            entry = zipfile.ZipInfo(f"{bundle.name}/{name}", (1980, 1, 1, 0, 0, 0))
            entry.create_system = 3  # Unix, whose permissions these are
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, (bundle / name).read_bytes())
