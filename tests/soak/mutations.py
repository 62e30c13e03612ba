"""What goes wrong with files: bytes that flip, ends that are missing, numbers that nobody expects."""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np

Rng = np.random.Generator

INTEGERS = (0, 1, 2, 3, 7, 255, 256, 32767, 65535, -1, -2, -32768, 2**31 - 1, -(2**31))
FLOATS = (
    0.0,
    -0.0,
    1.0,
    -1.0,
    1e-45,
    1e-30,
    1e-5,
    1e5,
    3e38,
    -3e38,
    float("nan"),
    float("inf"),
    float("-inf"),
)


def pick(rng: Rng, values: list | tuple) -> object:
    return values[int(rng.integers(len(values)))]


def flipped(data: bytes, rng: Rng, first: int = 0, last: int | None = None, most: int = 8) -> bytes:
    """Some bits of some bytes of a part turned over."""
    last = len(data) if last is None else min(last, len(data))
    result = bytearray(data)
    if last <= first:
        return data
    for place in rng.integers(first, last, rng.integers(1, most + 1)):
        result[place] ^= 1 << int(rng.integers(8))
    return bytes(result)


def overwritten(data: bytes, rng: Rng, first: int = 0, last: int | None = None) -> bytes:
    """A run of bytes replaced: by 0, by 255 or by anything."""
    last = len(data) if last is None else min(last, len(data))
    start = int(rng.integers(first, max(first + 1, last)))
    length = int(rng.integers(1, 17))
    filler = (bytes(length), b"\xff" * length, rng.bytes(length))[rng.integers(3)]
    return data[:start] + filler[: len(data) - start] + data[start + length :]


def cut(data: bytes, rng: Rng) -> bytes:
    return data[: int(rng.integers(len(data)))] if rng.random() < 0.7 else data[: -int(rng.integers(1, 9))]


def with_tail(data: bytes, rng: Rng) -> bytes:
    length = int(pick(rng, (1, 2, 15, 16, 1000)))
    return data + (bytes(length) if rng.random() < 0.3 else rng.bytes(length))


def moved_part(data: bytes, rng: Rng) -> bytes:
    """A part taken out, or put in twice."""
    start, length = int(rng.integers(len(data))), int(rng.integers(1, 64))
    part = data[start : start + length]
    return data[:start] + part + data[start:] if rng.random() < 0.5 else data[:start] + data[start + length :]


ANY = (flipped, overwritten, cut, with_tail, moved_part)


def gz_forged(plain: bytes, rng: Rng) -> bytes:
    """A gzip whose checksum or length is wrong, or that has further members."""
    whole = gzip.compress(plain, 1)
    kind = int(rng.integers(5))
    if kind == 0:
        return whole[:-8] + struct.pack("<II", zlib.crc32(plain) ^ 1, len(plain))
    if kind == 1:
        return whole[:-4] + struct.pack("<I", int(rng.integers(2**32)))
    if kind == 2:
        return whole + gzip.compress(bytes(int(rng.integers(1, 2**20))))
    if kind == 3:
        return whole + b"\x1f\x8b" + rng.bytes(20)
    return gzip.compress(whole)


def unchanged(path: Path, rng: Rng) -> None:
    """The sound file, which must be read."""
