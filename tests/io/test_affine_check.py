from __future__ import annotations

import numpy as np
import pytest

from mdl_monai.errors import InputError
from mdl_monai.io.affine import check_affine


def grid(*columns: tuple[float, float, float]) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, : len(columns)] = np.array(columns).T
    return affine


@pytest.mark.parametrize(
    "affine",
    [
        grid((0.001, 0, 0), (0, 0.001, 0), (0, 0, 0.001)),
        grid((-2, 0, 0), (0, 0, 3), (0, 0.7, 0), (100, -200, 5000)),
        grid((1, 0, 0), (0, 1, 0), (0.9, 0, 1)),  # a gantry tilt
    ],
)
def test_grids_pass(affine: np.ndarray) -> None:
    check_affine(affine, where="here")


@pytest.mark.parametrize(
    "affine",
    [
        grid((np.nan, 0, 0)),
        grid((1, 0, 0), (0, 1, 0), (0, 0, 1), (np.inf, 0, 0)),
        grid((0, 0, 0)),
        grid((1, 1, 0), (1, 1, 0)),
        grid((1, 0, 0), (0, 1, 0), (1, 1e-5, 1e-5)),
        grid(
            (1e-30, 0, 0), (0, 1e-30, 0), (0, 0, 1e-30)
        ),  # its determinant is not 0, and yet there is no inverse
        grid((1e30, 0, 0)),
    ],
)
def test_what_is_no_grid_is_refused(affine: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"(?s)does not describe a grid.*here.*sform"):
        check_affine(affine, where="here", name="sform")
