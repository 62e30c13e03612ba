from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mdl_monai.errors import InputError
from mdl_monai.transforms.load import LoadInputd

VALUES = np.random.default_rng(0).integers(0, 255, (9, 6), dtype=np.uint8)


def load(path: Path) -> np.ndarray:
    return LoadInputd("image")({"image": str(path)})["image"].numpy()


def test_grey_values_of_8_and_16_bits_are_read(tmp_path: Path) -> None:
    for name, values in (("a.png", VALUES), ("b.PNG", VALUES.astype(np.uint16) * 200)):
        Image.fromarray(values).save(tmp_path / name, format="PNG")
        np.testing.assert_array_equal(load(tmp_path / name)[0], values.T)


def test_numbers_of_a_palette_are_no_grey_values(tmp_path: Path) -> None:
    image = Image.fromarray(VALUES).convert("P", palette=Image.Palette.ADAPTIVE)
    image.save(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"(?s)no grey-value image.*palette"):
        load(tmp_path / "a.png")


def test_other_formats_under_the_name_and_several_frames_are_refused(tmp_path: Path) -> None:
    Image.fromarray(VALUES).save(tmp_path / "a.png", format="TIFF")
    with pytest.raises(InputError, match="cannot be read"):
        load(tmp_path / "a.png")
    frames = [Image.fromarray(VALUES), Image.fromarray(VALUES.T.reshape(9, 6).copy())]
    frames[0].save(tmp_path / "b.png", save_all=True, append_images=frames[1:])
    with pytest.raises(InputError, match="2 frames"):
        load(tmp_path / "b.png")


def test_damage_is_noticed_by_the_checksums(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(VALUES).save(path)
    whole = path.read_bytes()
    for at in range(0, len(whole) - 12, 5):  # the last chunk holds nothing
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        with pytest.raises(InputError):
            load(path)
    for end in range(0, len(whole) - 12, 7):
        path.write_bytes(whole[:end])
        with pytest.raises(InputError):
            load(path)


def test_a_giant_is_refused_by_its_header(tmp_path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 60000, 60000, 16, 0, 0, 0, 0))
    path = tmp_path / "a.png"
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")
    )
    with pytest.raises(InputError, match="too large|cannot be read"):
        load(path)


def test_formats_that_are_not_checked_are_not_read(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", VALUES)
    (tmp_path / "b.h5").write_bytes(b"words")
    with pytest.raises(InputError, match=r"(?s)format.*not read here.*\.npy"):
        load(tmp_path / "a.npy")
    with pytest.raises(InputError, match="OVERLAY=kspace"):
        load(tmp_path / "b.h5")
