"""Dead leaves: seeded, in the range of a grey image, covered, and with the spectrum of photographs."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from mdl_monai.phantoms.dead_leaves import dead_leaves, power_law_noise


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    return [dead_leaves(128, np.random.default_rng(seed)) for seed in range(4)]


def slope(images: list[np.ndarray]) -> float:
    """Exponent of the mean amplitude spectrum between 1/32 and 1/4 of a cycle a pixel."""
    n = images[0].shape[0]
    window = np.hanning(n)[:, None] * np.hanning(n)
    power = np.mean([abs(np.fft.fft2((image - image.mean()) * window)) ** 2 for image in images], 0)
    frequency = np.hypot(np.fft.fftfreq(n)[:, None], np.fft.fftfreq(n))
    rings = np.geomspace(1 / 32, 1 / 4, 8)
    places = [(frequency >= low) & (frequency < high) for low, high in itertools.pairwise(rings)]
    amplitude = [np.sqrt(power[place].mean()) for place in places]
    return float(np.polyfit(np.log([frequency[place].mean() for place in places]), np.log(amplitude), 1)[0])


def test_the_same_generator_draws_the_same_image_and_another_another(images: list[np.ndarray]) -> None:
    assert np.array_equal(dead_leaves(128, np.random.default_rng(0)), images[0])
    assert abs(images[1] - images[0]).mean() > 0.05


@pytest.mark.parametrize("size", [16, 31])
def test_any_size_gives_a_grey_image(size: int) -> None:
    image = dead_leaves(size, np.random.default_rng(1))
    assert image.shape == (size, size) and image.dtype == np.float32
    assert image.min() >= 0 and image.max() <= 1


def test_images_have_contrast_and_borders(images: list[np.ndarray]) -> None:
    for image in images:
        assert image.std() > 0.08
        assert abs(np.diff(image, axis=0)).max() > 0.2


def test_no_place_stays_empty(images: list[np.ndarray]) -> None:
    """What no leaf covers has one value, the leaves' mean; within the leaves every pixel has its own."""
    for image in images:
        _, counts = np.unique(image[(image > 0) & (image < 1)], return_counts=True)
        assert counts.max() < 0.003 * image.size


def test_the_spectrum_falls_as_that_of_photographs(images: list[np.ndarray]) -> None:
    assert -1.9 < slope(images) < -0.8  # photographs have about -1.2, white noise 0


@pytest.mark.parametrize("exponent", [0.5, 1.0, 1.5])
def test_noise_has_the_power_law_that_was_asked_for(exponent: float) -> None:
    noise = [power_law_noise(128, exponent, np.random.default_rng(seed)) for seed in range(8)]
    assert slope(noise) == pytest.approx(-exponent, abs=0.15)
    for image in noise:
        assert image.mean() == pytest.approx(0, abs=1e-4) and image.std() == pytest.approx(1, abs=1e-4)
