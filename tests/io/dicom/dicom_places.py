"""Helpers of the tests of what is written: where voxels are, and what a validator says."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

needs_dciodvfy = pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="needs dciodvfy of dicom3tools")


def moved(values: np.ndarray, affine: np.ndarray, shape: tuple[int, ...], to: np.ndarray) -> np.ndarray:
    """Values at the places of another grid's voxels, which must be voxels' centres here, to 0.001 mm."""
    index = np.indices(shape).reshape(3, -1)
    places = index.T @ to[:3, :3].T + to[:3, 3]
    return values[voxels_at(places, affine, values.shape)].reshape(shape)


def voxels_at(places: np.ndarray, affine: np.ndarray, shape: tuple[int, ...]) -> tuple[np.ndarray, ...]:
    """Index of the voxels at these places [n, 3], which must be voxels' centres, to 0.001 mm."""
    found = np.linalg.solve(affine, np.c_[places, np.ones(len(places))].T)[:3]
    nearest = np.rint(found).astype(int)
    assert np.abs(affine[:3, :3] @ (found - nearest)).max() < 1e-3
    assert (nearest >= 0).all() and (nearest < np.array(shape)[:, None]).all()
    return tuple(nearest)


def dciodvfy(path: Path) -> str:
    """What the validator says of a file."""
    return subprocess.run(["dciodvfy", str(path)], capture_output=True, encoding="utf-8", check=False).stderr
