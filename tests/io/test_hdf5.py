"""HDF5 that reaches for other files, or unpacks to what no one asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from mdl_monai.errors import InputError
from mdl_monai.io.kspace_file import load_kspace

KSPACE = (np.arange(2 * 6 * 5) + 1j).reshape(2, 6, 5).astype(np.complex64)


def refused(path: Path, words: str) -> None:
    with pytest.raises(InputError, match=words):
        load_kspace(path)


@pytest.mark.parametrize("link", [h5py.ExternalLink("other.h5", "/kspace"), h5py.SoftLink("/real")])
def test_links_are_not_followed(tmp_path: Path, link: object) -> None:
    for name in ("other.h5", "a.h5"):
        with h5py.File(tmp_path / name, "w") as file:
            file["kspace" if name == "other.h5" else "real"] = KSPACE
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        file["kspace"] = link
    refused(tmp_path / "a.h5", "it is a link")


def test_values_in_other_files_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(range(240)) * 2)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("kspace", (2, 6, 5), np.complex64, external=[(str(tmp_path / "secret"), 0, 480)])
    refused(tmp_path / "a.h5", "lie in other files")
    with h5py.File(tmp_path / "b.h5", "w") as file:
        layout = h5py.VirtualLayout((2, 6, 5), np.complex64)
        layout[:] = h5py.VirtualSource(str(tmp_path / "c.h5"), "kspace", (2, 6, 5))
        file.create_virtual_dataset("kspace", layout)
    refused(tmp_path / "b.h5", "lie in other files")


def packed(file: h5py.File) -> None:
    file.create_dataset("kspace", (4, 2048, 1024), np.complex64, chunks=(1, 2048, 1024), compression="gzip")
    file["kspace"][0, 0, 0] = 1  # the others are never written, and yet read as zeros


def long_chunk(file: h5py.File) -> None:
    file.create_dataset("kspace", (2, 6, 5), np.complex64, chunks=(8, 4096, 4096), maxshape=(None,) * 3)


@pytest.mark.parametrize("write", [packed, long_chunk])
def test_what_unpacks_to_far_more_than_is_stored_is_refused(
    tmp_path: Path, write: Callable[[h5py.File], None]
) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        write(file)
    refused(tmp_path / "a.h5", "unpacks to far more")


@pytest.mark.parametrize("size", [0, 24])
def test_what_is_no_array_is_refused(tmp_path: Path, size: int) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        if size:
            file.create_group("kspace")
        else:
            file["kspace"] = h5py.Empty("c8")
    refused(tmp_path / "a.h5", "no array")


def test_sound_packed_kspace_is_read(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("kspace", data=KSPACE, chunks=(1, 6, 5), compression="gzip", shuffle=True)
    assert np.array_equal(load_kspace(tmp_path / "a.h5").data[:, 0].numpy(), KSPACE)
