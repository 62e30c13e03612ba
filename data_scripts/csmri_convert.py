"""From the upstream files of the CS-MRI sets to arrays, and what those arrays must contain."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io

from mdl_monai.errors import InputError

SIGNATURE_TOLERANCE = 1e-4


def read_mat(path: Path, key: str) -> Any:
    """One variable of a MATLAB file (up to version 7)."""
    try:
        variables = scipy.io.loadmat(path)
    except Exception as error:  # on foreign bytes scipy raises almost anything
        raise InputError("not a MATLAB file of version 7 or less", where=path, found=repr(error)) from error
    if key not in variables:
        names = [name for name in variables if not name.startswith("__")]
        raise InputError("a variable is missing in a MATLAB file", where=path, expected=key, found=names)
    return variables[key]


def peak_one(image: np.ndarray) -> np.ndarray:
    """Divide by the largest magnitude: real or complex [H, W]."""
    return image / np.abs(image).max()


def peak_uint16(image: np.ndarray) -> np.ndarray:
    """Scale to a peak of 65535 in float32, as the prepared slices were: [H, W] to uint16 [H, W]."""
    values = image.astype(np.float32)
    return np.rint(values / values.max() * np.float32(65535)).astype(np.uint16)


def centred_kspace(image: np.ndarray) -> np.ndarray:
    """Centred orthonormal FFT: complex image [H, W] to complex64 [H, W], DC at H//2, W//2."""
    return np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(image), norm="ortho")).astype(np.complex64)


def orientations(volume: np.ndarray) -> Iterator[np.ndarray]:
    """The eight in-plane turns and mirrors of slices [..., H, W]; upright for RAS axes (x, y) comes first."""
    for turns in (1, 0, 2, 3):
        turned = np.rot90(volume, turns, axes=(-2, -1))
        yield turned
        yield turned[..., ::-1]


def content_digest(arrays: Iterable[np.ndarray]) -> str:
    """SHA-256 over type, shape and values of decoded arrays, which no file format or compression changes."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.name} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def check_content(name: str, found: str, expected: str) -> None:
    """Refuse content that is not that of the set which the project's figures come from."""
    if found != expected:
        raise InputError(
            f"the prepared set {name} has not the content that the project's figures come from",
            expected=f"content digest {expected}",
            found=found,
            remedy="the source has changed, or it is not what this script takes it for; nothing was written",
        )


def oriented(name: str, volume: np.ndarray, expected: str) -> np.ndarray:
    """The orientation of slices [N, H, W] in which their content digest is the expected one."""
    for candidate in orientations(volume):
        if content_digest([candidate]) == expected:
            return candidate
    check_content(name, content_digest([next(orientations(volume))]), expected)
    return volume


def signature(image: np.ndarray) -> np.ndarray:
    """Mean magnitude and mean real part of the quarters of a complex image [H, W]: 8 numbers.

    It tells slices apart where the last bits, and so a digest, depend on the FFT that was used.
    """
    half_h, half_w = image.shape[0] // 2, image.shape[1] // 2
    quarters = [image[i:, j:][:half_h, :half_w] for i in (0, half_h) for j in (0, half_w)]
    return np.array([np.abs(q).mean() for q in quarters] + [q.real.mean() for q in quarters])


def select_by_signature(images: list[np.ndarray], wanted: np.ndarray) -> list[np.ndarray]:
    """Those of the images that have the wanted signatures [N, 8], in that order."""
    found = np.stack([signature(image) for image in images])  # [M, 8]
    distance = np.abs(found[None] - wanted[:, None]).max(-1)  # [N, M]
    if (distance.min(1) > SIGNATURE_TOLERANCE).any():
        raise InputError(
            "some slices of the SIAT test data are not where they are expected",
            expected=f"{len(wanted)} known slices among {len(images)}",
            found=f"{int((distance.min(1) <= SIGNATURE_TOLERANCE).sum())} of them",
            remedy="the source has changed, or it is not what this script takes it for; nothing was written",
        )
    return [images[index] for index in distance.argmin(1)]


def network_arrays(net: np.ndarray) -> dict[str, np.ndarray]:
    """The authors' ``net`` struct as plain float32 arrays: ``NNN_type_i`` by layer, and ``types``."""
    layers = net["layers"][0, 0].ravel()
    types = [str(layer["type"][0, 0].item()) for layer in layers]
    arrays = {"types": np.array(types)}
    for number, (layer, kind) in enumerate(zip(layers, types, strict=True)):
        weights = layer["weights"][0, 0] if "weights" in layer.dtype.names else np.empty(0, dtype=object)
        for index, weight in enumerate(weights.ravel() if weights.dtype == object else [weights]):
            arrays[f"{number:03d}_{kind}_{index}"] = np.asarray(weight, dtype=np.float32)
    return arrays


def network_digest(arrays: dict[str, np.ndarray]) -> str:
    """SHA-256 over the types and the values in order, whatever the grouping and the axes of length one."""
    values = [value.ravel() for key, value in arrays.items() if key != "types"]
    return hashlib.sha256(
        "\n".join(arrays["types"].tolist()).encode() + np.concatenate(values).tobytes()
    ).hexdigest()
