"""Compare a bundle with what was released, file by file; nothing of the bundle is run.

::

    python -m mdl_monai.release.verify BUNDLE --source SOURCE [--version V] [--digest SHA256]
    python -m mdl_monai.release.verify BUNDLE --digest SHA256

BUNDLE is its folder, under the name that it was released with. With SOURCE, where `mdl_monai.release.fetch` would get
it, each file is told that is changed, missing or additional. The digest is the SHA-256 of the released zip, which
`publish` prints and the index holds: from another place than the bundle itself it finds malice too. Without SOURCE it
says whether the folder as a whole is what was released.

Exit code 0: all is as it was released; 1: it is not; 2: wrong use, or the release cannot be had.
"""

from __future__ import annotations

import argparse
import filecmp
import os
import stat
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from mdl_monai.errors import InputError
from mdl_monai.io.checkpoint_files import sha256
from mdl_monai.release.archive import write_zip
from mdl_monai.release.fetch import MAX_BYTES, fetch
from mdl_monai.release.figures import load_json

MAX_LINES = 40


def differences(bundle: Path, released: Path) -> list[str]:
    """A line for each file of ``bundle`` that is not as in ``released``; links and devices are never followed."""
    here, there = _files(bundle), _files(released)
    lines = [f"missing     {name}" for name in there if name not in here]
    for name, size in here.items():
        if size is None:
            lines.append(f"no file     {name}")  # a link or a device
        elif name not in there:
            lines.append(f"additional  {name}")
        elif size != there[name] or not filecmp.cmp(bundle / name, released / name, shallow=False):
            lines.append(f"changed     {name}")
    return lines


def has_digest(bundle: Path, digest: str) -> bool:
    """Whether the zip that `publish` would make of all that lies in ``bundle`` has this SHA-256."""
    sizes = _files(bundle)
    if None in sizes.values() or sum(size or 0 for size in sizes.values()) > MAX_BYTES:
        return False
    with tempfile.TemporaryDirectory() as folder:
        write_zip(bundle, Path(folder, "bundle.zip"), list(sizes))
        return sha256(Path(folder, "bundle.zip")) == digest


def _files(folder: Path) -> dict[PurePosixPath, int | None]:
    """Size of each file in ``folder``, by its path there; None of what is no plain file."""
    sizes: dict[PurePosixPath, int | None] = {}
    for parent, folders, names in os.walk(folder):
        for name in (*names, *(name for name in folders if Path(parent, name).is_symlink())):
            status = Path(parent, name).lstat()
            path = PurePosixPath(Path(parent, name).relative_to(folder).as_posix())
            sizes[path] = status.st_size if stat.S_ISREG(status.st_mode) else None
    return dict(sorted(sizes.items()))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m mdl_monai.release.verify",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("bundle", type=Path, help="its folder")
    parser.add_argument("--source", help="address or folder of model_info.json")
    parser.add_argument("--version", help="such as 0.1.0; that of the bundle's metadata if left out")
    parser.add_argument("--digest", help="SHA-256 of the released zip")
    options = parser.parse_args(arguments)
    bundle = options.bundle.resolve()
    if not bundle.is_dir():
        parser.error(f"no such folder: {options.bundle}")
    if options.source is None and options.digest is None:
        parser.error("name the release by --source, --digest or both")
    try:
        if options.source is None:
            same = has_digest(bundle, options.digest.strip().lower())
            lines = [] if same else ["changed     as a whole; --source tells which files"]
        else:
            version = options.version or str(load_json(bundle / "configs" / "metadata.json").get("version"))
            with tempfile.TemporaryDirectory() as folder:
                released = fetch(bundle.name, version, options.source, Path(folder), options.digest)
                lines = differences(bundle, released)
    except OSError as error:
        raise InputError(
            "the bundle cannot be read", where=error.filename or bundle, found=error.strerror
        ) from error
    more = len(lines) - MAX_LINES
    told = [*lines[:MAX_LINES], *([f"and {more} more"] if more > 0 else [])]
    told.append(
        f"{bundle.name} is not as it was released" if lines else f"{bundle.name} is as it was released"
    )
    for line in told:  # a file's name may hold what a terminal obeys
        sys.stdout.write(f"{line if line.isprintable() else ascii(line)}\n")
    return int(bool(lines))


if __name__ == "__main__":
    sys.exit(main())
