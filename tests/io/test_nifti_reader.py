"""What nibabel and MONAI let through: each case is one that a changed file showed."""

from __future__ import annotations

import gzip
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from mdl_monai.errors import InputError
from mdl_monai.io.nifti_reader import nifti_header, read_nifti
from mdl_monai.transforms.load import LoadInputd

AFFINE = np.array([[0, -1.5, 0, 10], [2, 0, 0, -20], [0, 0, 4, 30], [0, 0, 0, 1.0]])


def sound(dtype: str = "<i2", kind: type = nib.Nifti1Image) -> bytearray:
    values = np.arange(9 * 6 * 5).reshape(9, 6, 5).astype(dtype)
    header = kind.header_class(endianness=dtype[0])
    header.set_data_dtype(dtype)
    image = kind(values, AFFINE, header)
    image.set_sform(AFFINE, 1)
    image.set_qform(AFFINE, 1)
    return bytearray(image.to_bytes())


def changed(format: str, offset: int, *values: object) -> bytearray:
    data = sound()
    struct.pack_into("<" + format, data, offset, *values)
    return data


def written(folder: Path, data: bytes, name: str = "a.nii.gz") -> Path:
    path = folder / name
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "A.NII.GZ"])
@pytest.mark.parametrize("dtype", ["<i2", ">i2", "<f8", ">f4", "<u1"])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_sound_files_are_read_as_nibabel_reads_them(
    tmp_path: Path, name: str, dtype: str, kind: type
) -> None:
    path = written(tmp_path, sound(dtype, kind), name.lower()).rename(tmp_path / name)
    image, expected = read_nifti(path), nib.load(path)
    np.testing.assert_array_equal(np.asarray(image.dataobj), np.asarray(expected.dataobj))
    np.testing.assert_array_equal(image.affine, expected.affine)
    assert image.header["pixdim"].tolist() == expected.header["pixdim"].tolist()


def test_slope_and_intercept_count(tmp_path: Path) -> None:
    path = written(tmp_path, changed("2f", 112, 0.5, -3))
    np.testing.assert_allclose(np.asarray(read_nifti(path).dataobj).ravel("K").max(), 269 * 0.5 - 3)
    np.testing.assert_array_equal(read_nifti(path).dataobj, nib.load(path).dataobj)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda: changed("2f", 112, np.nan, 0), "scl_slope"),
        (lambda: changed("2f", 112, 1, np.inf), "scl_inter"),
        (lambda: changed("h", 42, 8), "announces"),  # sizes that give a sheared image
        (lambda: changed("h", 42, 0), "below 1"),
        (lambda: changed("h", 42, -9), "below 1"),
        (lambda: changed("h", 40, 9), "below 1"),
        (lambda: changed("4h", 40, 3, 32767, 32767, 32767), "too large"),
        (lambda: changed("4h", 40, 3, 1000, 1000, 1000), "announces"),
        (lambda: changed("h", 70, 1000), "datatype"),
        (lambda: changed("h", 72, 8), "bitpix"),
        (lambda: changed("f", 108, np.nan), "voxels begin"),
        (lambda: changed("f", 108, 0), "voxels begin"),
        (lambda: changed("f", 108, 368), "announces"),
        (lambda: changed("B", 123, 1), "not in mm"),
        (lambda: changed("h", 254, 200), "sform_code"),
        (lambda: changed("f", 280, np.nan), "(?s)affine.*sform"),
        (lambda: changed("12f", 280, *[0.0] * 12), "(?s)affine.*sform"),
        (lambda: changed("f", 268, np.inf), "(?s)affine.*qform"),  # which an sform hides
        (lambda: changed("f", 256, 3.0), "not a readable"),
        (lambda: changed("f", 80, -2.0), "not a readable"),
        (lambda: changed("4s", 344, b"ni1\0"), "one piece"),
        (lambda: sound()[:-1], "announces"),
        (lambda: sound()[:100], "cut short"),
        (lambda: sound() + b"\0", "announces"),
        (lambda: bytearray(), "begin"),
    ],
)
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_headers_that_cannot_be_true_are_refused(
    tmp_path: Path, edit: Callable[[], bytearray], words: str, name: str
) -> None:
    with pytest.raises(InputError, match=words):
        read_nifti(written(tmp_path, edit(), name))


def test_a_wrong_checksum_is_noticed(tmp_path: Path) -> None:
    path = written(tmp_path, sound())
    data = bytearray(path.read_bytes())
    data[-8] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match="CRC"):
        read_nifti(path)


def test_an_sform_counts_whatever_pixdim_says(tmp_path: Path) -> None:
    """MONAI's own reader puts a qform of identity directions there, though its code says that there is none."""
    data = changed("2h", 252, 0, 1)
    struct.pack_into("<3f", data, 80, 7.0, 7.0, 7.0)
    image = LoadInputd("image")({"image": str(written(tmp_path, data))})["image"]
    np.testing.assert_allclose(image.affine.numpy(), AFFINE)


def test_a_bomb_is_not_decoded_beyond_what_its_header_announces(tmp_path: Path) -> None:
    path = tmp_path / "a.nii.gz"
    with gzip.open(path, "wb", 1) as file:
        file.write(sound())
        for _ in range(64):
            file.write(bytes(2**20))
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match="announces"):
            read_nifti(path)
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()


def test_a_giant_in_a_small_file_is_refused_by_its_header(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="announces"):
        nifti_header(written(tmp_path, changed("4h", 40, 3, 500, 500, 500)))
