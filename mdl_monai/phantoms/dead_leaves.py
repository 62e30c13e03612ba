"""Dead leaves: random images with the statistics of photographs, to train on where no photographs may be shipped."""

from __future__ import annotations

import numpy as np
from scipy import fft

OVERSAMPLING = 2  # leaves are drawn this much finer, so that their borders are smooth
SMALLEST, LARGEST = (4.0, 80.0), 0.6  # radius: range of the least one in fine pixels; as a share of the side


def dead_leaves(size: int, rng: np.random.Generator) -> np.ndarray:
    """A grey image of opaque leaves that fell on one another, float32 [size, size] in 0 to 1.

    The radii follow r^-3 (Lee, Mumford, Huang 2001), which makes the image look alike at every scale, as photographs
    do. A leaf is an ellipse or a rectangle with a grey value, a gradient and a patch of a 1/f texture. Networks
    trained on such images restore photographs nearly as well as those trained on photographs (Achddou, Gousseau,
    Ladjal 2021).

    Args:
        size: side in pixels.
        rng: source of randomness.
    """
    n = OVERSAMPLING * size
    image, free = np.zeros((n, n), dtype=np.float32), np.ones((n, n), dtype=bool)
    textures = [power_law_noise(n, rng.uniform(0.5, 2.0), rng) for _ in range(3)]
    smallest = float(np.exp(rng.uniform(*np.log(SMALLEST))))
    while (places := np.flatnonzero(free)).size > 0.002 * n * n:
        # only a leaf that is seen is drawn: its centre, at least, lies free
        for place in rng.choice(places, 50):
            if free.flat[place]:
                _drop_leaf(image, free, textures, np.array(divmod(place, n)), _radius(smallest, n, rng), rng)
    image[free] = image[~free].mean()
    fine = image.reshape(size, OVERSAMPLING, size, OVERSAMPLING).mean((1, 3))
    return fine.clip(0, 1)


def power_law_noise(n: int, exponent: float, rng: np.random.Generator) -> np.ndarray:
    """Periodic Gaussian noise [n, n] of mean 0 and variance 1 with the amplitude spectrum f^-exponent."""
    frequency = np.hypot(np.fft.fftfreq(n)[:, None], np.fft.rfftfreq(n))
    frequency[0, 0] = np.inf
    spectrum = fft.rfft2(rng.standard_normal((n, n), dtype=np.float32)) * frequency**-exponent
    noise = fft.irfft2(spectrum, (n, n))
    return (noise / noise.std()).astype(np.float32)


def _radius(smallest: float, n: int, rng: np.random.Generator) -> float:
    """Radius with density r^-3 between the smallest and the largest."""
    low, high = smallest**-2, (LARGEST * n) ** -2
    return float((low + rng.random() * (high - low)) ** -0.5)


def _drop_leaf(
    image: np.ndarray,
    free: np.ndarray,
    textures: list[np.ndarray],
    centre: np.ndarray,
    radius: float,
    rng: np.random.Generator,
) -> None:
    """Draw one leaf under those that lie there; only its bounding box is touched."""
    n = image.shape[0]
    angle = rng.uniform(0, np.pi)
    box = tuple(slice(max(0, int(c - 1.5 * radius)), min(n, int(c + 1.5 * radius) + 2)) for c in centre)
    y, x = np.ogrid[box]
    down, across = (y - centre[0]) / radius, (x - centre[1]) / radius
    along, beside = (
        across * np.cos(angle) + down * np.sin(angle),
        down * np.cos(angle) - across * np.sin(angle),
    )
    beside = beside / rng.uniform(0.3, 1)
    inside = np.hypot(along, beside) < 1 if rng.random() < 0.6 else np.maximum(abs(along), abs(beside)) < 1
    here = inside & free[box]
    if not here.any():
        return
    texture = textures[rng.integers(len(textures))]
    shift = rng.integers(n, size=2)
    patch = texture[(y + shift[0]) % n, (x + shift[1]) % n]
    contrast = rng.exponential(0.06) * (rng.random() < 0.7)
    value = rng.random() + rng.normal(0, 0.15) * along + contrast * patch
    image[box][here] = value[here]
    free[box] &= ~inside
