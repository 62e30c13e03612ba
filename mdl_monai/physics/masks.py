"""Sampling masks of Cartesian k-space, generated without any file; DC at H//2, W//2."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import binary_dilation, maximum_filter

MASK_TYPES = ("pseudo_radial", "cartesian1d", "random2d", "poisson")


def radial_lines(n_lines: int, height: int, width: int, angle: float = 0.0) -> np.ndarray:
    """Pixels on `n_lines` equally spaced lines through the centre, as a bool mask [H, W].

    Each line takes one pixel a column (or a row, where it is steeper than 45 degrees) at both sides of the
    centre, so the mask is symmetric: k is sampled if -k is. With ``angle=0`` and H = W this is the pattern of
    the compressive-sensing papers.

    Args:
        n_lines: number of lines over 180 degrees.
        height, width: size of the mask.
        angle: rotation of the pattern in radians.
    """
    mask = np.zeros((height, width), dtype=bool)
    theta = (angle + np.pi * np.arange(n_lines) / n_lines) % np.pi  # [L]
    half_h, half_w = (height - 1) // 2, (width - 1) // 2
    flat = (theta <= np.pi / 4) | (theta > 3 * np.pi / 4)
    aspect = half_h / max(half_w, 1)
    column = np.arange(-half_w, half_w + 1)
    row = np.round(np.tan(theta[flat])[:, None] * column * aspect).astype(int)
    mask[(row + height // 2).clip(0, height - 1), np.broadcast_to(column + width // 2, row.shape)] = True
    row = np.arange(-half_h, half_h + 1)
    column = np.round(row / np.tan(theta[~flat])[:, None] / aspect).astype(int)
    mask[np.broadcast_to(row + height // 2, column.shape), (column + width // 2).clip(0, width - 1)] = True
    return mask


def pseudo_radial(ratio: float, height: int, width: int, angle: float = 0.0) -> np.ndarray:
    """The fewest equally spaced lines that reach `ratio` (up to 0.0005), as a bool mask [H, W].

    At 256 x 256 and ratios of 0.1 to 0.5 these are the very masks of the ADMM-Net and ISTA-Net papers.
    """
    low, high = 1, 4 * max(height, width)
    while low < high:
        middle = (low + high) // 2
        if radial_lines(middle, height, width, angle).mean() >= ratio - 0.0005:
            high = middle
        else:
            low = middle + 1
    return radial_lines(low, height, width, angle)


def _weighted_choice(rng: np.random.Generator, weight: np.ndarray, count: int) -> np.ndarray:
    """Indices of `count` draws without replacement, by the Gumbel trick (one sort, no loop)."""
    with np.errstate(divide="ignore"):
        key = np.log(weight) + rng.gumbel(size=weight.size)
    return np.argpartition(-key, count - 1)[:count]


def cartesian1d(ratio: float, height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Whole columns: a third of them the centre, the others at random with a density that falls from it."""
    count = max(1, round(ratio * width))
    distance = np.abs(np.arange(width) - width // 2)
    n_center = max(1, round(count / 3))
    center = np.argsort(distance, kind="stable")[:n_center]
    weight = (1 - distance / (width / 2 + 1)) ** 3
    weight[center] = 0
    columns = np.zeros(width, dtype=bool)
    columns[center] = True
    if count > n_center:
        columns[_weighted_choice(rng, weight, count - n_center)] = True
    return np.broadcast_to(columns, (height, width)).copy()


def random2d(ratio: float, height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Single points with a Gaussian density around a fully sampled centre of a tenth of all points."""
    count = max(1, round(ratio * height * width))
    radius = _radius(height, width).ravel()
    n_center = max(1, count // 10)
    center = np.argpartition(radius, n_center - 1)[:n_center]
    weight = np.exp(-0.5 * (radius / (0.25 + 0.5 * ratio)) ** 2) + 0.02
    weight[center] = 0
    mask = np.zeros(height * width, dtype=bool)
    mask[center] = True
    if count > n_center:
        mask[_weighted_choice(rng, weight, count - n_center)] = True
    return mask.reshape(height, width)


def uniform(ratio: float, height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Single points, each as likely as any other: for transforms that spread an image over all coefficients."""
    chosen = rng.permutation(height * width) < max(1, round(ratio * height * width))
    return chosen.reshape(height, width)


# Squared distances that two pixels can have, and the share of pixels that random darts of that distance fill
_SQUARED_DISTANCES = np.unique(np.add.outer(np.arange(13) ** 2, np.arange(13) ** 2))[1:60]
_FILLED = np.where(_SQUARED_DISTANCES == 1, 1.0, 0.74 / _SQUARED_DISTANCES)


def poisson(ratio: float, height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Variable-density Poisson disc: points that keep a distance, which grows with the radius.

    Darts are thrown at all free points at once; one stays if it has the highest draw within its own distance.
    A few rounds fill the plane; missing or surplus points are settled by the radial density.
    """
    count = max(1, round(ratio * height * width))
    radius = _radius(height, width)
    mask = radius <= np.sort(radius, axis=None)[count // 12]
    density = 1 / (0.2 + radius) ** 2
    for _ in range(4):  # no pixel takes more than one point
        density = (density * (count - mask.sum()) / density[~mask].sum()).clip(max=1)
    # a density between those of two distances is a random mixture of both
    nearer = (_FILLED.size - np.searchsorted(_FILLED[::-1], density)).clip(1, _FILLED.size - 1) - 1
    share = (density - _FILLED[nearer + 1]) / (_FILLED[nearer] - _FILLED[nearer + 1])
    level = np.where(rng.random(density.shape) < share, nearer, nearer + 1)
    levels = np.unique(level[~mask])
    discs = [_disc(int(_SQUARED_DISTANCES[n])) for n in levels]
    free = ~mask
    for _ in range(4):
        draw = np.where(free, rng.random(density.shape, dtype=np.float32), 0)
        chosen = [
            free & (level == n) & (draw == maximum_filter(draw, footprint=disc, mode="constant"))
            for n, disc in zip(levels, discs, strict=True)
        ]
        for points, disc in zip(chosen, discs, strict=True):
            mask |= points
            free &= ~binary_dilation(points, disc)
    surplus = int(mask.sum()) - count
    flat = mask.ravel()
    if surplus > 0:
        flat[_weighted_choice(rng, np.where(flat, radius.ravel() ** 2, 0), surplus)] = False
    elif surplus < 0:
        flat[_weighted_choice(rng, np.where(flat, 0.0, density.ravel()), -surplus)] = True
    return mask


def _disc(squared_distance: int) -> np.ndarray:
    """Pixels nearer to the middle one than the distance."""
    half = int(np.sqrt(squared_distance - 1))
    n = np.arange(-half, half + 1)
    return (n[:, None] ** 2 + n[None, :] ** 2) < squared_distance


def _radius(height: int, width: int) -> np.ndarray:
    """Distance from DC [H, W], 1 at the middle of each edge."""
    row = (np.arange(height) - height // 2) / (height / 2)
    column = (np.arange(width) - width // 2) / (width / 2)
    return np.hypot(row[:, None], column[None, :])


def sampling_mask(
    mask_type: str,
    ratio: float,
    height: int,
    width: int,
    rng: np.random.Generator,
    random_angle: bool = False,
) -> np.ndarray:
    """Sampling mask [H, W], bool, DC at H//2, W//2, the same for the same state of `rng`.

    Args:
        mask_type: one of `MASK_TYPES`.
        ratio: share of sampled points, above 0 and at most 1.
        height, width: size in pixels.
        rng: source of randomness.
        random_angle: turn a pseudo-radial mask by a random angle (for training).

    Raises:
        ValueError: for an unknown type, or a ratio outside (0, 1].
    """
    if not 0 < ratio <= 1:
        raise ValueError(f"sampling ratio must be above 0 and at most 1, found {ratio}")
    if mask_type == "pseudo_radial":
        return pseudo_radial(ratio, height, width, rng.uniform(0, np.pi) if random_angle else 0.0)
    if mask_type == "cartesian1d":
        return cartesian1d(ratio, height, width, rng)
    if mask_type == "random2d":
        return random2d(ratio, height, width, rng)
    if mask_type == "poisson":
        return poisson(ratio, height, width, rng)
    raise ValueError(f"unknown mask type {mask_type!r}, expected one of {', '.join(MASK_TYPES)}")
