"""Get a released bundle, and refuse what is not as its publisher's index says.

::

    python -m mdl_monai.release.fetch NAME --version V --source SOURCE [--digest SHA256] [--bundle_dir bundles]

SOURCE holds the `model_info.json` that `mdl_monai.release.publish` writes: the address of a GitHub release
(https://github.com/OWNER/REPO/releases/download/TAG), another http, https or file address, or a folder. MONAI's own
`monai.bundle download` takes the same zips, but verifies nothing and leaves half a bundle where it is interrupted.

The index's checksum finds damage, not malice: who can change the zip can change the index. Against malice give the
zip's SHA-256 from elsewhere (its authors' paper, a letter) by --digest. A bundle's configs are code: take them from
people whom you trust.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import io
import json
import logging
import shutil
import stat
import sys
import tempfile
import urllib.request
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any
from urllib.parse import urljoin, urlsplit

import monai
import torch

import mdl_monai
from mdl_monai.errors import InputError
from mdl_monai.io.atomic import atomic_folder
from mdl_monai.release.archive import large_files
from mdl_monai.release.figures import load_json

INDEX = "model_info.json"
MAX_INDEX_BYTES = 2**24
MAX_BYTES = 2**32  # of a zip, and of what is in it
MAX_RATIO = 100  # of the two
MAX_FILES = 10_000
TIMEOUT_S = 60


def fetch(name: str, version: str, source: str, bundle_dir: Path, digest: str | None = None) -> Path:
    """Get the bundle ``bundle_dir``/``name`` and return it; it is there whole, or not at all.

    Args:
        name, version: of the bundle.
        source: address or folder of the index.
        bundle_dir: folder of bundles.
        digest: SHA-256 that the zip must have; that of the index if None.

    Raises:
        InputError: the bundle exists; index or zip cannot be read, are too large or not what they should be.
    """
    target = bundle_dir / name
    if target.exists():
        raise InputError("the bundle exists", where=target, remedy="move it away, or name another bundle_dir")
    base = source if "://" in source else Path(source).expanduser().resolve().as_uri()
    base = base.rstrip("/") + "/"
    checksum, url = _find(f"{name}_v{version}", base)
    with atomic_folder(target, lambda _: False) as draft, tempfile.TemporaryFile(dir=draft.parent) as file:
        found = _download(url, file, MAX_BYTES)
        if found != (expected := checksum if digest is None else digest.strip().lower()):
            raise InputError(
                "the zip is not the one that was released", where=url, expected=f"SHA-256 {expected}", found=found,
                remedy="get it again; if that does not help, ask its publisher",
            )  # fmt: skip
        _unpack(file, name, draft, url)
        metadata = _check_content(draft, version, url)
    _warn_of_versions(name, metadata)
    return target


def _find(key: str, base: str) -> tuple[str, str]:
    """Checksum and address of the zip ``key``, as the index below ``base`` has them."""
    file = io.BytesIO()
    _download(base + INDEX, file, MAX_INDEX_BYTES)
    try:
        index = json.loads(file.getvalue())
        entries = {name: (entry["checksum"].lower(), entry["source"]) for name, entry in index.items()}
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise InputError("the index of bundles is not one", where=base + INDEX, found=error) from error
    if key not in entries:
        raise InputError(
            "the index does not list this version of the bundle", where=base + INDEX, expected=key,
            found=", ".join(sorted(entries)) or "nothing",
        )  # fmt: skip
    checksum, address = entries[key]
    url, beside = urljoin(base, address), f"{base}{key}.zip"
    if base.startswith("file:") and Path(urllib.request.url2pathname(urlsplit(beside).path)).is_file():
        url = beside  # a release that was copied from where its index says
    if urlsplit(url).scheme == "file" and not base.startswith("file:"):
        raise InputError("the index sends to a file of this computer", where=base + INDEX, found=url)
    return checksum, url


def _download(url: str, file: IO[bytes], limit: int) -> str:
    """Write what is at ``url``, at most ``limit`` bytes, to ``file``; return its SHA-256."""
    digest, size = hashlib.sha256(), 0
    if urlsplit(url).scheme not in ("http", "https", "file"):
        raise InputError("the address is of an unknown kind", where=url, expected="http, https or file")
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as response:
            while block := response.read(2**20):
                size += len(block)
                if size > limit:
                    break
                digest.update(block)
                file.write(block)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise InputError("the file cannot be downloaded", where=url, found=error) from error
    if size > limit:
        raise InputError("the file is too large", where=url, expected=f"at most {limit} bytes")
    return digest.hexdigest()


def _unpack(file: IO[bytes], name: str, folder: Path, url: str) -> None:
    """Unpack the zip's folder ``name`` as ``folder``."""
    size = file.tell()
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            for entry in entries:
                _check_entry(entry, name, url)
            total = sum(entry.file_size for entry in entries)  # zipfile unpacks no more than an entry says
            if total > min(MAX_BYTES, MAX_RATIO * size) or len(entries) > MAX_FILES:
                found = f"{total} bytes in {len(entries)} files out of {size}"
                raise InputError("the zip unpacks to more than a bundle can hold", where=url, found=found)
            for entry in entries:
                path = folder.joinpath(*entry.filename.split("/")[1:])
                (path if entry.is_dir() else path.parent).mkdir(parents=True, exist_ok=True)
                if not entry.is_dir():
                    with archive.open(entry) as source, path.open("xb") as target:
                        shutil.copyfileobj(source, target)
    # NotImplementedError: zipfile's, for a compression that it does not know; RuntimeError: for an encrypted entry
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError) as error:
        raise InputError("the zip cannot be unpacked", where=url, found=error) from error


def _check_entry(entry: zipfile.ZipInfo, name: str, url: str) -> None:
    parts = entry.filename.split("/")
    if not entry.filename.isprintable():
        raise InputError("a name in the zip is none", where=url, found=ascii(entry.filename)[:200])
    if ".." in parts or parts[0] == "" or "\\" in entry.filename or ":" in entry.filename:
        raise InputError("a path in the zip climbs out of the bundle", where=url, found=entry.filename)
    if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise InputError("the zip holds a link or a device", where=url, found=entry.filename)
    if any(part.startswith(".") for part in parts):  # such as .git, whose settings can run code
        raise InputError("the zip holds a hidden file", where=url, found=entry.filename)
    if parts[0] != name or len(parts) < 2:
        raise InputError(
            "the zip holds more than the bundle's folder", where=url, expected=f"{name}/", found=entry.filename
        )  # fmt: skip


def _check_content(bundle: Path, version: str, url: str) -> dict[str, Any]:
    """Return the metadata of an unpacked bundle, which is of the right version and complete."""
    path = bundle / "configs" / "metadata.json"
    metadata = load_json(path) if path.is_file() else {}
    if metadata.get("version") != version:
        found = metadata.get("version", "no configs/metadata.json with one")
        raise InputError("the zip holds another version", where=url, expected=version, found=found)
    large_files(bundle)
    return metadata


def _warn_of_versions(name: str, metadata: dict[str, Any]) -> None:
    """Say in one sentence if the bundle was tested with other versions than these."""
    required = metadata.get("required_packages_version")
    tested_and_here = {
        "MONAI": (metadata.get("monai_version"), monai.__version__),
        "torch": (metadata.get("pytorch_version"), torch.__version__),
        "mdl_monai": (
            required.get("mdl_monai") if isinstance(required, dict) else None,
            mdl_monai.__version__,
        ),
    }
    other = [
        f"{package} {tested} (here {here})"
        for package, (tested, here) in tested_and_here.items()
        if tested and tested != here.split("+")[0]
    ]
    if other:
        logging.getLogger(__name__).warning(
            "%s was tested with %s: results may differ or fail.", name, ", ".join(other)
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m mdl_monai.release.fetch",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", help="of the bundle")
    parser.add_argument("--version", required=True, help="such as 0.1.0")
    parser.add_argument("--source", required=True, help="address or folder of model_info.json")
    parser.add_argument("--digest", help="SHA-256 that the zip must have, from a source of its own")
    parser.add_argument(
        "--bundle_dir", type=Path, default=Path("bundles"), help="where the bundle's folder goes"
    )
    options = parser.parse_args(arguments)
    found = fetch(options.name, options.version, options.source, options.bundle_dir, options.digest)
    sys.stdout.write(f"{found}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
