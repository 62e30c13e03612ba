"""The DICOM images in a folder, a zip or a file, read with care: files are not trusted, patients not named."""

from __future__ import annotations

import logging
import os
import threading
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from io import BytesIO, FileIO
from pathlib import Path
from typing import IO, NamedTuple

import pydicom
from pydicom import FileDataset
from pydicom.filereader import read_dataset, read_preamble
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from mdl_monai.errors import InputError
from mdl_monai.io.dicom.header import cut_short, files_in, text_of, value_of
from mdl_monai.io.limits import max_bytes, refuse_large

MAGIC = slice(128, 132)  # where "DICM" stands
DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")
ZIP_FLOOR, ZIP_RATIO = 256 * 2**20, 100  # a zip may unpack to 256 MiB, or to 100 times its size


class DicomObject(NamedTuple):
    """A parsed file."""

    name: str
    """The file, relative to the folder or zip."""
    dataset: FileDataset


_quiet = ExitStack()
_quiet_lock, _n_quiet = threading.Lock(), 0


@contextmanager
def quiet_pydicom() -> Iterator[None]:
    """Silence pydicom's warnings and log records, which quote values of tags.

    Threads may overlap: the first to enter silences, the last to leave restores.
    """
    global _n_quiet
    with _quiet_lock:
        if _n_quiet == 0:
            logger = logging.getLogger("pydicom")
            _quiet.callback(logger.setLevel, logger.level)
            logger.setLevel(logging.CRITICAL + 1)
            _quiet.enter_context(warnings.catch_warnings())
            warnings.filterwarnings("ignore", module=r"pydicom\b")
        _n_quiet += 1
    try:
        yield
    finally:
        with _quiet_lock:
            _n_quiet -= 1
            if _n_quiet == 0:
                _quiet.close()


def is_dicom(path: Path) -> bool:
    """Whether a file bears the mark of the DICOM file format."""
    try:
        with path.open("rb") as file:
            return file.read(MAGIC.stop)[MAGIC] == b"DICM"
    except OSError:
        return False


def image_files(folder: Path) -> Iterator[Path]:
    """Files of a folder and of those below it, sorted; none that is hidden, none of a folder that is linked."""
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not _is_aside(name))
        yield from (Path(parent, name) for name in sorted(names) if not _is_aside(name))


def _is_aside(name: str) -> bool:
    return name.startswith(".") or name in ("__MACOSX", "DICOMDIR")


def dicom_images(path: Path) -> Iterator[DicomObject]:
    """Read the DICOM images of a folder (with those below it), a zip of one, or a single file; once each.

    Objects that are no images (reports, presentation states, segmentations, dose), DICOMDIR, and files that are
    clearly something else are passed over.

    Raises:
        InputError: no such path; a file that should be DICOM and is not, or cannot be read; the Deflated syntax,
            which unpacks without a limit; a zip that is damaged or encrypted, climbs out of its folder, or unpacks to
            too much.
    """
    if path.is_dir():
        for file in image_files(path):
            if file.is_file():
                yield from _read(partial(FileIO, file), file.relative_to(path).as_posix(), path, file)
    elif not path.is_file():
        raise InputError("the DICOM file or folder does not exist", where=path)
    elif path.suffix.lower() == ".zip":
        yield from _zipped(path)
    elif is_dicom(path):
        yield from _read(partial(FileIO, path), path.name, path.parent, path)
    else:
        raise InputError(
            "the file is not DICOM", where=path, expected="a DICOM file, a folder or a .zip of them"
        )


def _zipped(path: Path) -> Iterator[DicomObject]:
    try:
        archive = zipfile.ZipFile(path)
    # NotImplementedError: zipfile's, for a zip of a later version than it reads
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise InputError("the zip is damaged", where=path, remedy="pack it again") from error
    with archive:
        entries = sorted((e for e in archive.infolist() if not e.is_dir()), key=lambda e: e.filename)
        limit = min(max(ZIP_FLOOR, ZIP_RATIO * path.stat().st_size), max_bytes())
        total = sum(entry.file_size for entry in entries)
        if total > limit:
            raise InputError(
                "the zip unpacks to far more than its size", where=path, expected=f"at most {limit / 2**20:.0f} MiB",
                found=f"{total / 2**20:.0f} MiB", remedy="unpack it yourself if you trust it",
            )  # fmt: skip
        for entry in entries:
            parts = entry.filename.replace("\\", "/").split("/")
            if ".." in parts or parts[0] == "" or ":" in parts[0]:
                raise InputError(
                    "the zip holds a file outside of its folder", where=files_in([entry.filename], path)
                )
            if entry.flag_bits & 1:
                raise InputError("the zip is encrypted", where=path, remedy="unpack it yourself")
        for entry in entries:
            if not any(map(_is_aside, entry.filename.split("/"))):
                yield from _read(partial(archive.open, entry), entry.filename, path, None)


def _read(
    opened: Callable[[], IO[bytes]], name: str, folder: Path, path: Path | None
) -> Iterator[DicomObject]:
    """The image in a file, if there is one; `path` is that of a file that lies in a folder."""
    where = files_in([name], folder)
    try:
        if path is not None:
            refuse_large((path.stat().st_size,), 1, where)
        with opened() as file:
            data = _content(file, name, where)
    except InputError:
        raise
    except Exception as error:
        raise InputError("a file cannot be read", where=where, remedy="check the medium") from error
    if data is None:
        return
    if DeflatedExplicitVRLittleEndian.encode() in data and _may_be_deflated(data):
        raise InputError(
            "a file has the Deflated transfer syntax, which may unpack to any size", where=where,
            remedy="if you trust it, convert it first (dcmconv +te)",
        )  # fmt: skip
    dataset = _parsed(data)
    if dataset is None:
        raise InputError("a DICOM file is damaged", where=where, remedy="export it again")
    dataset.buffer = None  # else the file stays in memory
    dataset.filename = None if path is None else str(path)
    if _is_image(dataset, where):
        yield DicomObject(name, dataset)


def _content(file: IO[bytes], name: str, where: str) -> bytes | None:
    """Content of a DICOM file; None where it is something else.

    A file without an ending, or with a number as ending, is something else if it is text.
    """
    head = file.read(MAGIC.stop)
    if head[MAGIC] == b"DICM":
        file.seek(0)
        return file.read()
    suffix = Path(name).suffix.lower()
    if suffix in DICOM_SUFFIXES or (
        (suffix == "" or suffix[1:].isdigit()) and not (head and head.isascii() and b"\0" not in head)
    ):
        raise InputError(
            "a file is not DICOM, or damaged at its beginning", where=where, expected='"DICM" after 128 bytes',
            found="something else" if head else "an empty file", remedy="export it again, or take it away",
        )  # fmt: skip
    return None


def _parsed(data: bytes) -> FileDataset | None:
    try:
        return pydicom.dcmread(BytesIO(data))
    except Exception:  # of any kind, for a damaged file; its message quotes values
        return None


def _may_be_deflated(data: bytes) -> bool:
    """Whether the transfer syntax, looked up without unpacking, is Deflated or not to be found."""
    file = BytesIO(data)
    try:
        read_preamble(file, force=False)
        meta = read_dataset(
            file,
            is_implicit_VR=False,
            is_little_endian=True,
            stop_when=lambda tag, vr, length: tag >> 16 != 2,
        )
        syntax = meta.get("TransferSyntaxUID")
    except Exception:
        return True
    return syntax is None or syntax == DeflatedExplicitVRLittleEndian


def _is_image(dataset: FileDataset, where: str) -> bool:
    """Whether an object is an image that could be a slice, by its SOP class."""
    uid = UID(text_of(dataset, "SOPClassUID") or text_of(dataset.file_meta, "MediaStorageSOPClassUID"))
    if not uid.is_valid:  # nothing too; passed over as private, it would be missed at an end of the series
        raise InputError(
            "a DICOM file does not say what it is: SOPClassUID", where=where, remedy="export it again"
        )
    if uid.name == uid:  # a private class
        return "Rows" in dataset and "Columns" in dataset
    if "Image Storage" not in uid.name:
        return False
    for keyword in ("Rows", "Columns"):
        if value_of(dataset, keyword, where) is None:  # as in a file of which even the series is cut off
            raise cut_short(keyword, where)
    return True
