"""NIfTI files that were changed, and what the standard says that they hold."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
from mutations import ANY, FLOATS, INTEGERS, Rng, gz_forged, pick

from mdl_monai.transforms.load import LoadInputd

# NIfTI-1: offset and struct code; the number of the first dim is that of the axes
FIELDS = {
    **{f"dim{n}": (40 + 2 * n, "h") for n in range(8)}, **{f"pixdim{n}": (76 + 4 * n, "f") for n in range(8)},
    "sizeof_hdr": (0, "i"), "datatype": (70, "h"), "bitpix": (72, "h"), "vox_offset": (108, "f"),
    "scl_slope": (112, "f"), "scl_inter": (116, "f"), "xyzt_units": (123, "B"), "qform_code": (252, "h"),
    "sform_code": (254, "h"), **{f"quatern{n}": (256 + 4 * n, "f") for n in range(6)},
    **{f"srow{n}": (280 + 4 * n, "f") for n in range(12)}, "magic": (344, "i"), "extension": (348, "i"),
}  # fmt: skip
KINDS = {
    2: "u1",
    4: "i2",
    8: "i4",
    16: "f4",
    64: "f8",
    256: "i1",
    512: "u2",
    768: "u4",
    1024: "i8",
    1280: "u8",
}

LOADER = LoadInputd("image")


def seed(number: int, rng: Rng) -> tuple[bytes, str]:
    """A sound file, decompressed, and its struct order."""
    dtype = pick(rng, ("u1", "i2", "u2", "f4", "f8", "i4"))
    shape = ((9, 7), (9, 7, 5), (6, 5, 4, 1), (8, 1, 3))[number % 4]
    order = "<>"[number // 4 % 2]
    values = (rng.random(shape) * 200).astype(order + dtype)
    axes = np.linalg.qr(rng.standard_normal((3, 3)))[0] * rng.uniform(0.5, 3, 3)
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = axes, rng.uniform(-100, 100, 3)
    kind = nib.Nifti2Image if number % 10 == 9 else nib.Nifti1Image
    header = kind.header_class(endianness=order)
    header.set_data_dtype(order + dtype)
    header.set_xyzt_units("mm")
    image = kind(values, affine, header)
    image.set_sform(affine, int(rng.integers(0, 3)))
    image.set_qform(affine, int(rng.integers(0, 3)))
    if number % 5 == 0:
        image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"words"))
    if number % 3 == 0 and dtype in ("u1", "i2"):
        image.header.set_slope_inter(0.5, -3)
    return image.to_bytes(), order


def field(data: bytes, rng: Rng, order: str) -> bytes:
    """One to three fields of the header that hold something else."""
    result = bytearray(data)
    for _ in range(int(rng.integers(1, 4))):
        name = pick(rng, list(FIELDS))
        offset, code = FIELDS[name]
        if code == "f":
            value = pick(rng, FLOATS) if rng.random() < 0.7 else float(rng.normal(0, 100))
            struct.pack_into(f"{order}f", result, offset, value)
        else:
            size = 8 * struct.calcsize(code)
            value = int(pick(rng, INTEGERS)) if rng.random() < 0.7 else int(rng.integers(0, 20))
            value &= 2**size - 1
            struct.pack_into(order + code.upper(), result, offset, value)
    return bytes(result)


def giant(data: bytes, rng: Rng, order: str) -> bytes:
    """Sizes that no memory holds, or that are under the limit and not there."""
    result = bytearray(data)
    sizes = pick(rng, ((32767, 32767, 32767), (30000, 30000, 1), (1023, 1023, 1023), (2000, 1000, 200)))
    struct.pack_into(f"{order}4h", result, 40, 3, *sizes)
    return bytes(result)


def unchanged(data: bytes, rng: Rng, order: str) -> bytes:
    return data


def bomb(data: bytes, rng: Rng, order: str) -> bytes:
    return data + bytes(int(pick(rng, (2**20, 2**24, 2**28))))


def make(index: int, folder: Path) -> tuple[Path, str]:
    """Write case `index`; its file, and what was done to it."""
    rng = np.random.default_rng(index)
    plain, order = seed(int(rng.integers(1000)), rng)
    edits: list[Callable] = [field] * 5 + [giant, bomb, unchanged]
    if rng.random() < 0.45:
        edit = pick(rng, edits)
        plain, told = edit(plain, rng, order), edit.__name__
    else:
        edit, part = pick(rng, ANY), pick(rng, ("header", "all"))
        told = edit.__name__
        plain = edit(plain[:400], rng) + plain[400:] if part == "header" else edit(plain, rng)
    packing = pick(rng, ("plain", "gz", "gz", "gz damaged", "gz forged", "other name"))
    if edit is bomb and packing == "plain":
        packing = "gz"
    path = folder / ("case.nii" if packing in ("plain", "other name") else "case.nii.gz")
    data = plain
    if packing in ("gz", "other name", "gz damaged"):
        data = gzip.compress(plain, 1)
    if packing == "gz damaged":
        data = pick(rng, ANY)(data, rng)
    if packing == "gz forged":
        data = gz_forged(plain, rng)
    path.write_bytes(data)
    return path, f"{told}, {packing}"


def check(path: Path) -> None:
    """Load the file as a bundle does; what comes must be what the standard says.

    Raises:
        InputError: it is refused.
        AssertionError: another result.
    """
    image = LOADER({"image": str(path)})["image"]
    values, affine = by_standard(path)
    found = image.numpy()[0]
    assert np.isfinite(found).all() and found.size == values.size
    assert np.allclose(found.ravel(), values.astype(np.float32).ravel(), rtol=1e-5), "other values"
    assert affine is None or np.allclose(image.affine.numpy(), affine, rtol=1e-4, atol=1e-3), "another place"
    assert abs(np.linalg.det(image.affine.numpy())) > 0


def by_standard(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Values, and affine where the header names one, by the bytes alone."""
    data = path.read_bytes() if path.suffix == ".nii" else gzip.decompress(path.read_bytes())
    two = 540 in struct.unpack("<i", data[:4]) + struct.unpack(">i", data[:4])
    order = "<" if struct.unpack("<i", data[:4])[0] in (348, 540) else ">"

    def read(code: str, one_at: int, two_at: int) -> tuple:
        code = code.translate(str.maketrans("hf", "qd")) if two else code
        return struct.unpack_from(order + code, data, two_at if two else one_at)

    dim = read("8h", 40, 16)
    shape = dim[1 : dim[0] + 1]
    kind = np.dtype(order + KINDS[struct.unpack_from(order + "h", data, 12 if two else 70)[0]])
    offset = int(read("f", 108, 168)[0] if not two else struct.unpack_from(order + "q", data, 168)[0])
    assert offset + kind.itemsize * np.prod(shape, dtype=object) == len(data), "another length"
    raw = np.frombuffer(data, kind, offset=offset).reshape(shape, order="F").astype(float)
    (slope, intercept), pixdim = read("2f", 112, 176), read("8f", 76, 104)
    qcode, scode = struct.unpack_from(order + ("2i" if two else "2h"), data, 344 if two else 252)
    values = raw if slope == 0 else raw * slope + intercept
    if scode > 0:
        return values, np.vstack((np.reshape(read("12f", 280, 400), (3, 4)), (0, 0, 0, 1)))
    if qcode <= 0:
        return values, None
    b, c, d, *shift = read("6f", 256, 352)
    a = np.sqrt(max(0.0, 1 - b * b - c * c - d * d))
    turn = np.array([
        [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
        [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
        [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
    ])  # fmt: skip
    turn = turn * pixdim[1:4] * (1, 1, -1 if pixdim[0] < 0 else 1)
    return values, np.vstack((np.c_[turn, shift], (0, 0, 0, 1)))
