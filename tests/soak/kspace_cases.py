"""Raw k-space files that were changed, and what HDF5 says that they hold."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from xml.etree import ElementTree

import h5py
import numpy as np
import torch
from mutations import ANY, FLOATS, INTEGERS, Rng, flipped, overwritten, pick, unchanged

from mdl_monai.io.kspace_file import load_kspace
from mdl_monai.physics.fourier import fft2c
from mdl_monai.transforms.raw_kspace import CombineCoilsd, LoadKSpaced

sys.path.insert(0, str(Path(__file__).parents[1] / "io"))
from test_kspace_file import fastmri, header, images, ismrmrd_file

N_SEEDS = 6
WORDS = (
    "0",
    "-1",
    "1",
    "3",
    "nan",
    "inf",
    "1e308",
    "1e-30",
    "99999999",
    "2147483648",
    "",
    "a",
    "1.5",
    "spiral",
)
ENTITIES = (
    '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">'
    + "".join(f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefgh", "bcdefghi", strict=True))
    + "]><x>&i;</x>"
)


@cache
def seed(number: int, folder: Path) -> bytes:
    """A sound file."""
    path = folder / f"seed{number}.h5"
    path.unlink(missing_ok=True)
    kspace = fft2c(images(slices=2, coils=2))
    kspace[..., 5] = 0
    if number == 0:
        fastmri(path, kspace, ismrmrd_header=header(cy=7))
    elif number == 1:
        fastmri(path, kspace[:, 0])
    elif number == 2:
        fastmri(path, kspace, mask=np.arange(14) % 3 > 0)
    elif number == 3:
        with h5py.File(path, "w", libver="latest") as file:
            chunks = {"chunks": (1, 2, 24, 14), "compression": "gzip", "shuffle": True, "fletcher32": True}
            file.create_dataset("kspace", data=kspace.numpy(), **chunks)
            file["ismrmrd_header"] = header(cy=7, rx=24)
    else:
        ismrmrd_file(path, kspace, header(cy=7, rx=(12, 24)[number - 4]))
    return path.read_bytes()


def anything(path: Path, rng: Rng) -> None:
    path.write_bytes(pick(rng, ANY)(path.read_bytes(), rng))


def structure(path: Path, rng: Rng) -> None:
    """Bytes of what HDF5 keeps around the data."""
    path.write_bytes(pick(rng, (flipped, overwritten))(path.read_bytes(), rng, 0, 4096))


def xml(path: Path, rng: Rng) -> None:
    """A number of the header, a bit of it, or a document that grows."""
    with h5py.File(path, "r+") as file:
        at = "dataset/xml" if "dataset" in file else "ismrmrd_header"
        if at not in file:
            file[at] = header(cy=7)
        old = file[at]
        text = bytes(old[0] if old.shape else old[()])
        kind = rng.random()
        if kind < 0.6:
            root = ElementTree.fromstring(text)
            numbers = [element for element in root.iter() if (element.text or "").strip()]
            for _ in range(int(rng.integers(1, 4))):
                pick(rng, numbers).text = str(pick(rng, WORDS))
            text = ElementTree.tostring(root)
        elif kind < 0.9:
            text = pick(rng, ANY)(text, rng).replace(b"\0", b" ")
        else:
            text = ENTITIES.encode()
        shape = old.shape
        del file[at]
        kept = file.create_dataset(at, shape, h5py.string_dtype())
        kept[(0,) if shape else ()] = text


def lines(path: Path, rng: Rng) -> None:
    """Fields of acquired lines, or of the array, that hold something else."""
    with h5py.File(path, "r+") as file:
        if "dataset" not in file:
            values = file["kspace"][()]
            values.reshape(-1)[int(rng.integers(values.size))] = pick(rng, FLOATS)
            file["kspace"][...] = values
            return
        data = file["dataset/data"]
        every = data[()]
        rows = range(len(every)) if rng.random() < 0.3 else rng.integers(0, len(every), 3)
        names = (
            "number_of_samples",
            "active_channels",
            "center_sample",
            "flags",
            "position",
            "read_dir",
            "slice_dir",
            "idx",
        )
        name = str(pick(rng, names))
        value = pick(rng, INTEGERS)
        for row in rows:
            if name == "idx":
                part = str(
                    pick(
                        rng, ("kspace_encode_step_1", "kspace_encode_step_2", "slice", "contrast", "average")
                    )
                )
                every["head"]["idx"][part][row] = value % 65536
            elif every["head"][name].dtype.kind == "f":
                every["head"][name][row] = pick(rng, FLOATS)
            else:
                every["head"][name][row] = value % 65536
        data[...] = every


def hostile(path: Path, rng: Rng) -> None:
    """Arrays that are elsewhere, huge, of another kind, or packed beyond measure."""
    with h5py.File(path, "r+") as file:
        at = str(pick(rng, ("dataset/data", "dataset/xml"))) if "dataset" in file else "kspace"
        parent, name = file[at].parent, at.split("/")[-1]
        values = None if "dataset" in file else file[at][()]
        kind = int(rng.integers(11))
        del parent[name]
        if kind == 0:
            parent[name] = h5py.ExternalLink("/etc/hostname", "/")
        elif kind == 1:
            parent[name] = h5py.SoftLink("/nowhere")
        elif kind == 2:
            parent[name] = h5py.SoftLink("/")
        elif kind == 3:
            shape = pick(rng, ((1000, 32, 640, 640), (2**40, 2, 2), (1, 60, 2**11, 2**10)))
            parent.create_dataset(name, shape, np.complex64, chunks=True)
        elif kind == 4:
            layout = h5py.VirtualLayout((2, 24, 14), np.complex64)
            layout[:] = h5py.VirtualSource("/tmp/other.h5", "kspace", (2, 24, 14))
            parent.create_virtual_dataset(name, layout)
        elif kind == 5:
            parent.create_dataset(name, (2, 24, 14), np.complex64, external=[("/etc/passwd", 0, 5376)])
        elif kind == 6:
            packed = {"chunks": (1, 4096, 2048), "compression": "gzip"}
            parent.create_dataset(name, (4, 4096, 2048), np.complex64, **packed)[0, 0, :] = 1
        elif kind == 7:
            chunks = {"maxshape": (None, None, None), "chunks": (8, 8192, 4096), "compression": "gzip"}
            parent.create_dataset(name, (2, 24, 14), np.complex64, **chunks)
        elif kind == 8:
            parent.create_group(name)
        elif kind == 9:
            parent[name] = pick(
                rng, (h5py.Empty("c8"), np.zeros((0, 4, 4), "c8"), np.ones((2, 3, 4)), "text", b"\xff")
            )
        else:
            other = np.ones((2, 24, 14), "c16") * 1e200 if values is None else values.astype("c16") * 1e200
            parent[name] = other


EDITS: list[Callable[[Path, Rng], None]] = [
    *[anything] * 5, *[structure] * 5, *[xml] * 4, *[lines] * 4, *[hostile] * 3, unchanged
]  # fmt: skip


def make(index: int, folder: Path) -> tuple[Path, str]:
    """Write case `index`; its file, and what was done to it."""
    rng = np.random.default_rng(index)
    number = index % N_SEEDS
    path = folder / "case.h5"
    path.write_bytes(seed(number, folder.parent))
    edit = pick(rng, EDITS)
    edit(path, rng)
    return path, f"{edit.__name__}, seed {number}"


def check(path: Path) -> None:
    """Load the file as the bundle does; its samples must be those that HDF5 reads.

    Raises:
        InputError: it is refused.
        AssertionError: another result.
    """
    raw = load_kspace(path)
    record = CombineCoilsd("pred", allow_missing_keys=True)(LoadKSpaced("image")({"image": str(path)}))
    assert torch.isfinite(record["adjoint"]).all() and record["adjoint"].numel() < 2**24
    assert np.isfinite(raw.affine).all() and abs(np.linalg.det(raw.affine)) > 0
    assert raw.mask.any() and not raw.data[~raw.mask[:, None].expand_as(raw.data)].any()
    with h5py.File(path) as file:
        if "kspace" in file:
            whole = np.asarray(file["kspace"]).astype(np.complex64)
            whole = whole if whole.ndim == 4 else whole[:, None]
            if "mask" in file:
                whole = whole * (np.asarray(file["mask"]) != 0)
        else:
            whole = placed(next(iter(file.values()))["data"][()], raw.data.shape)
    rows = raw.data.shape[-2]
    if whole is None:
        return
    start = whole.shape[-2] // 2 - rows // 2
    expected = in_rows(whole)[:, :, start : start + rows]
    bound = 1e-4 * np.abs(expected).max()
    assert np.abs(in_rows(raw.data.numpy()) - expected).max() <= bound, "other samples"


def in_rows(kspace: np.ndarray) -> np.ndarray:
    """Along the readout in image space."""
    moved = np.fft.ifft(np.fft.ifftshift(kspace.astype(complex), axes=-2), axis=-2, norm="ortho")
    return np.fft.fftshift(moved, axes=-2)


def placed(every: np.ndarray, shape: tuple[int, ...]) -> np.ndarray | None:
    """Lines at their places; None where the seed's own numbers of samples and steps do not hold any more."""
    k, count = np.zeros((shape[0], shape[1], 24, shape[3]), complex), np.zeros((shape[0], 24, shape[3]))
    if shape[3] != 14:
        return None
    for line in every:
        head, samples = line["head"], int(line["head"]["number_of_samples"])
        flags = int(head["flags"])
        if any(flags >> (n - 1) & 1 for n in (19, 23, 24, 26, 27, 28, 29)) or (flags >> 19) & 3 == 1:
            continue
        values = line["data"].view(np.complex64).reshape(-1, samples)
        centre = int(head["center_sample"])
        if flags >> 21 & 1:
            values, centre = values[:, ::-1], samples - 1 - centre
        at = slice(12 - centre, 12 - centre + samples)
        k[head["idx"]["slice"], :, at, head["idx"]["kspace_encode_step_1"]] += values
        count[head["idx"]["slice"], at, head["idx"]["kspace_encode_step_1"]] += 1
    return k / np.maximum(count, 1)[:, None]
