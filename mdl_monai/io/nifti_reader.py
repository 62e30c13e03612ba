"""NIfTI files, read only where their header is sound and announces exactly what the file holds.

nibabel loads NaN affines, repairs damaged headers, and does not look behind the last voxel.
"""

from __future__ import annotations

import gzip
import math
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import nibabel as nib
import numpy as np
from monai.data.image_reader import NibabelReader
from monai.utils import ensure_tuple
from nibabel.volumeutils import apply_read_scaling

from mdl_monai.errors import InputError
from mdl_monai.io.affine import check_affine
from mdl_monai.io.limits import refuse_large

SUFFIXES = (".nii", ".nii.gz")
KINDS: dict[int, Any] = {348: nib.Nifti1Header, 540: nib.Nifti2Header}
"""By the size that the header says that it has."""
DEFLATE_RATIO = 1040
"""No gzip holds more than this times its size."""
EXTENSIONS_BYTES = 2**26
"""May lie between header and voxels."""
CHUNK = 2**22


def is_nifti(path: str | Path) -> bool:
    """Whether a file is named like NIfTI."""
    return str(path).lower().endswith(SUFFIXES)


def nifti_header(path: str | Path) -> Any:
    """The header, nibabel's, whose fields agree with one another, with the limits and with the size of the file.

    Raises:
        InputError: unreadable, damaged, an affine that is none, too large, a file that cannot hold what is announced.
    """
    path = Path(path)
    try:
        with _opened(path) as file:
            header = _parsed(file.read(max(KINDS)))
    except Exception as error:  # damaged bytes make gzip, zlib and nibabel raise a dozen kinds
        raise _unreadable(path, error) from error
    fault = _fault(header)
    if fault:
        raise _unreadable(path, fault)
    refuse_large(header.get_data_shape(), max(4, header.get_data_dtype().itemsize), path)
    for name, affine in _affines(header, path).items():
        check_affine(affine, where=path, name=name)
    size, announced = path.stat().st_size, _length(header)
    if size * DEFLATE_RATIO < announced if path.suffix.lower() == ".gz" else size != announced:
        raise _other_length(path, announced, f"a file of {size} bytes")
    return header


def read_nifti(path: str | Path) -> Any:
    """The image, nibabel's, with its values scaled.

    Its affine is the sform, where it has one, else the qform, as the standard says.

    Raises:
        InputError: as `nifti_header`; damaged, cut short or longer than announced.
    """
    path = Path(path)
    header = nifti_header(path)
    announced = _length(header)
    try:
        content = _content(path, announced)
    except Exception as error:
        raise _unreadable(path, error) from error
    if len(content) != announced:
        raise _other_length(
            path, announced, f"{len(content)} or more" if len(content) > announced else "less"
        )
    shape, dtype = header.get_data_shape(), header.get_data_dtype()
    offset, count = announced - math.prod(shape) * dtype.itemsize, math.prod(shape)
    values = np.frombuffer(content, dtype, count, offset).reshape(shape, order="F")
    with np.errstate(all="ignore"):  # what is not finite is refused by the values
        values = apply_read_scaling(values, *header.get_slope_inter())
    image_class: Any = nib.Nifti2Image if isinstance(header, nib.Nifti2Header) else nib.Nifti1Image
    return image_class(values, header.get_best_affine(), header)


class CheckedNiftiReader(NibabelReader):
    """MONAI's reader, by `read_nifti`.

    It does not call MONAI's "correction" of headers, which puts the qform in the place of an sform whose voxel sizes
    are not those of ``pixdim``, even where the header says that there is no qform.
    """

    def read(self, data: Sequence[Any] | Any, **kwargs: Any) -> Any:
        """Images of files, as `NibabelReader.read`."""
        self.filenames = ensure_tuple(data)
        images = [read_nifti(name) for name in self.filenames]
        return images if len(images) > 1 else images[0]


def _opened(path: Path) -> IO[bytes]:
    return gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb")  # type: ignore[return-value]


def _parsed(block: bytes) -> Any:
    for order, endianness in (("little", "<"), ("big", ">")):
        size = int.from_bytes(block[:4], order)  # type: ignore[arg-type]
        if size in KINDS:
            if len(block) < size:
                raise ValueError("the header is cut short")
            return KINDS[size](block[:size], endianness, check=False)
    raise ValueError("it does not begin with a NIfTI header")


def _fault(header: Any) -> str:
    """What is wrong with the fields of a header, in words; nothing if all is well."""
    n, sizes = int(header["dim"][0]), header["dim"][1:]
    if bytes(header["magic"].item()).rstrip(b"\0") != header.single_magic.rstrip(b"\0"):
        return "the header is not that of a NIfTI file in one piece"
    if not 1 <= n <= 7 or (sizes[:n] < 1).any():
        return f"a size of an axis below 1: dim {header['dim'].tolist()}"
    try:
        bits = 8 * header.get_data_dtype().itemsize
    except Exception:  # nibabel's, for a code that it does not know
        return f"the datatype {int(header['datatype'])} is unknown"
    if int(header["bitpix"]) != bits:
        return f"datatype and bitpix contradict one another: {bits} and {int(header['bitpix'])} bits a voxel"
    offset = float(header["vox_offset"])
    first = header.sizeof_hdr + 4
    if not first <= offset <= first + EXTENSIONS_BYTES or offset != int(offset):
        return f"the voxels begin at {offset:g}"
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if not (math.isfinite(slope) and math.isfinite(intercept)):
        return f"scl_slope and scl_inter are not finite: {slope:g}, {intercept:g}"
    if int(header["xyzt_units"]) & 7 not in (0, 2):
        return f"lengths are not in mm: xyzt_units {int(header['xyzt_units'])}"
    return ""


def _affines(header: Any, path: Path) -> dict[str, np.ndarray]:
    """Those that the header says that it has."""
    codes = {name: int(header[f"{name}_code"]) for name in ("sform", "qform")}
    unknown = [f"{name}_code {code}" for name, code in codes.items() if not 0 <= code <= 5]
    if unknown:
        raise _unreadable(path, ", ".join(unknown))
    found = {}
    try:
        with np.errstate(all="ignore"):
            if codes["sform"]:
                found["sform"] = header.get_sform()
            if codes["qform"]:
                if header["pixdim"][0] == 0:
                    header["pixdim"][0] = 1  # which the standard says that it means
                found["qform"] = header.get_qform()
            return found or {"voxel size": header.get_base_affine()}
    except Exception as error:  # nibabel's, for negative sizes and for what is no quaternion
        raise _unreadable(path, error) from error


def _length(header: Any) -> int:
    """Bytes of the file, decompressed."""
    voxels = math.prod(int(n) for n in header.get_data_shape())
    return int(header["vox_offset"]) + voxels * header.get_data_dtype().itemsize


def _content(path: Path, announced: int) -> bytearray:
    """The file's bytes, one more than announced at most: memory follows what there is, not what is announced."""
    content = bytearray()
    with _opened(path) as file:
        while len(content) <= announced and (block := file.read(min(CHUNK, announced + 1 - len(content)))):
            content += block
    return content


def _unreadable(path: Path, found: object) -> InputError:
    text = "not enough memory" if isinstance(found, MemoryError) else str(found) or type(found).__name__
    return InputError(
        "the file is not a readable NIfTI image", where=path, found=text, remedy="export it again"
    )


def _other_length(path: Path, announced: int, found: str) -> InputError:
    return InputError(
        "the file does not hold what its header announces", where=path, expected=f"{announced} bytes",
        found=found, remedy="the file is cut short, or its header is damaged: export it again",
    )  # fmt: skip
