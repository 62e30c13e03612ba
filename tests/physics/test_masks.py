from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.spatial import cKDTree

from mdl_monai.physics.masks import MASK_TYPES, pseudo_radial, sampling_mask

every_type = pytest.mark.parametrize("mask_type", MASK_TYPES)


def make(mask_type: str, ratio: float, height: int, width: int, seed: int = 0) -> np.ndarray:
    return sampling_mask(mask_type, ratio, height, width, np.random.default_rng(seed))


@every_type
@pytest.mark.parametrize("ratio", [0.1, 0.25, 0.5])
@pytest.mark.parametrize("shape", [(64, 64), (81, 60)])
def test_ratio_is_met_and_the_centre_sampled(mask_type: str, ratio: float, shape: tuple[int, int]) -> None:
    mask = make(mask_type, ratio, *shape)
    assert mask.shape == shape and mask.dtype == bool
    step = {"pseudo_radial": 1.6 / min(shape), "cartesian1d": 0.5 / shape[1]}.get(mask_type, 0.5 / mask.size)
    assert ratio - 0.0005 - (step if mask_type != "pseudo_radial" else 0) <= mask.mean() <= ratio + step
    assert mask[shape[0] // 2, shape[1] // 2]


@every_type
def test_full_sampling_is_the_whole_plane(mask_type: str) -> None:
    assert (
        make(mask_type, 1.0, 16, 15).mean() > 0.93
    )  # radial lines leave an even grid's first row and column


@every_type
def test_the_same_seed_gives_the_same_mask(mask_type: str) -> None:
    assert (make(mask_type, 0.2, 48, 40, 3) == make(mask_type, 0.2, 48, 40, 3)).all()


@pytest.mark.parametrize("mask_type", ["cartesian1d", "random2d", "poisson"])
def test_another_seed_gives_another_mask(mask_type: str) -> None:
    assert (make(mask_type, 0.2, 48, 40, 3) != make(mask_type, 0.2, 48, 40, 4)).any()


@every_type
def test_low_frequencies_are_sampled_more_densely(mask_type: str) -> None:
    mask = make(mask_type, 0.2, 96, 96)
    center = mask[32:64, 32:64].mean() if mask_type != "cartesian1d" else mask[:, 32:64].mean()
    assert center > 1.5 * mask.mean()


def test_cartesian_masks_take_whole_columns() -> None:
    mask = make("cartesian1d", 0.3, 33, 50)
    assert (mask == mask[0]).all()


@pytest.mark.parametrize("shape", [(65, 48), (64, 64), (51, 77)])
def test_radial_masks_hold_the_mirror_of_each_point(shape: tuple[int, int]) -> None:
    plain = np.fft.ifftshift(pseudo_radial(0.3, *shape, angle=0.2))
    mirrored = np.roll(plain[::-1, ::-1], (1, 1), (0, 1))
    assert (plain == mirrored).mean() > 0.99


def test_poisson_points_keep_a_distance_that_random_ones_do_not() -> None:
    def nearest(mask: np.ndarray) -> float:
        row, column = np.indices(mask.shape) - 32
        outside = np.argwhere(mask & (np.hypot(row, column) > 20))
        return float(np.percentile(cKDTree(outside).query(outside, k=2)[0][:, 1], 5))

    assert nearest(make("poisson", 0.1, 64, 64)) >= 2
    assert nearest(make("random2d", 0.1, 64, 64)) < 2


def test_bad_ratio_and_type_are_refused() -> None:
    with pytest.raises(ValueError, match=r"ratio must be above 0 and at most 1, found 1\.5"):
        make("random2d", 1.5, 8, 8)
    with pytest.raises(ValueError, match="unknown mask type 'spiral'"):
        make("spiral", 0.2, 8, 8)


@pytest.mark.parametrize("percent", [10, 20, 30, 40, 50])
def test_pseudo_radial_equals_the_papers_masks(data_root: Path, percent: int) -> None:
    published = np.load(data_root / "csmri" / "masks.npz")[f"pseudo_radial_{percent}"]
    ours = make("pseudo_radial", percent / 100, 256, 256)
    assert abs(ours.mean() - published.mean()) < 0.003
    assert (ours == published).all()
