"""Downloads that resume, with checksums: shared by the data scripts."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import urllib.error
import urllib.request
from pathlib import Path

from tqdm import tqdm

from mdl_monai.errors import InputError
from mdl_monai.io.atomic import atomic_write_text

BLOCK_BYTES = 1 << 16
TIMEOUT_S = 60
ATTEMPTS = 3  # a cut connection is resumed at once this many times in all


def checksum_of(path: Path, algorithm: str) -> str:
    """Checksum of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def download(url: str, path: Path, expected: str | None = None, algorithm: str = "sha256") -> str:
    """Download a file, unless it is there, and return its checksum.

    What has come so far waits in ``<path>.part``, where the next attempt or the next run resumes; a file at
    `path` itself is always complete.

    Args:
        url: http or https address.
        path: the file to write; missing folders are made.
        expected: what the checksum has to be, if that is known.
        algorithm: that of the checksum, named as in `hashlib`; SHA-256 where the source does not choose.

    Raises:
        InputError: the server refuses, cannot be reached or cuts the connection, or the checksum differs.
    """
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.part")
        _complete(url, part)
        remedy = "run the command again; if it recurs, the source has changed"
        _check(part, expected, algorithm, url, remedy)
        part.replace(path)
    remedy = "if the file is damaged, delete it and run the command again"
    return _check(path, expected, algorithm, url, remedy)


def _check(path: Path, expected: str | None, algorithm: str, url: str, remedy: str) -> str:
    found = checksum_of(path, algorithm)
    if expected is not None and found != expected:
        if path.suffix == ".part":
            path.unlink()  # else the next run would keep a wrong beginning
        raise InputError(
            f"the checksum of {url} differs", where=path, expected=expected, found=found, remedy=remedy
        )
    return found


def _complete(url: str, part: Path) -> None:
    """Fetch until `part` is whole."""
    problem = ""
    for _ in range(ATTEMPTS):
        try:
            if _fetch_rest(url, part):
                return
            problem = f"the connection was cut after {part.stat().st_size} bytes"
        except urllib.error.HTTPError as error:
            if error.code == 416 and part.is_file():  # longer than the source: it is not a part of it
                part.unlink()
                continue
            raise InputError(
                "the server refused a download",
                where=url,
                found=f"HTTP {error.code} {error.reason}",
                remedy="see whether the source has moved",
            ) from error
        except (OSError, http.client.HTTPException) as error:  # URLError, timeouts and resets are OSErrors
            problem = str(error) or type(error).__name__
    raise InputError(
        "a download did not finish",
        where=url,
        found=problem,
        remedy="check the connection and run the command again: it resumes",
    )


def _fetch_rest(url: str, part: Path) -> bool:
    """Append to `part` what it lacks, in one request; return whether it is whole then."""
    start = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
        resumed = response.status == 206 and response.headers.get("Content-Range", "").startswith(
            f"bytes {start}-"
        )
        start = start if resumed else 0  # a server that knows no ranges sends everything again
        length = response.headers.get("Content-Length")
        total = start + int(length) if length else None
        with (
            part.open("ab" if resumed else "wb") as file,
            tqdm(desc=part.stem, total=total, initial=start, unit="B", unit_scale=True, leave=False) as bar,
        ):
            while block := response.read(BLOCK_BYTES):
                file.write(block)
                bar.update(len(block))
            file.flush()
            os.fsync(file.fileno())
    return total is None or part.stat().st_size == total


class ChecksumLock:
    """Checksums of downloaded files, trusted on first use: recorded then, and demanded ever after.

    Args:
        path: JSON file ``{name: {"url": ..., "sha256": ...}}``; names are relative to its folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries: dict[str, dict[str, str]] = (
            json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        )
        self.first_used: list[str] = []

    def fetch(self, url: str, name: str) -> Path:
        """Download `url` to `name` beside the lock, unless it is there, and verify or note its checksum."""
        target = self.path.parent / name
        known = self.entries.get(name, {}).get("sha256")
        found = download(url, target, known)
        if known is None:
            self.entries[name] = {"url": url, "sha256": found}
            self.first_used.append(name)
        return target

    def save(self) -> None:
        """Write the lock file."""
        atomic_write_text(self.path, json.dumps(self.entries, indent=1, sort_keys=True) + "\n")


def dataset_text(index: Path, content: object) -> str:
    """What the dataset.json at `index` will hold.

    Raises:
        InputError: it is there and holds something else.
    """
    text = json.dumps(content, indent=1) + "\n"
    if index.is_file() and index.read_text(encoding="utf-8") != text:
        raise InputError(
            "the output folder holds another data set",
            where=index,
            remedy="set --output_dir to another folder, or delete the dataset.json; nothing was written",
        )
    return text
