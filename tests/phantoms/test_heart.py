"""The heart phantom: seeded, the same on every grid, and with the ventricle where and as large as it says."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import ndimage

from mdl_monai.errors import InputError
from mdl_monai.phantoms.heart import FIELD_OF_VIEW_MM, HeartPhantom, heart_phantom

SHAPE = (128, 100)
SUBJECTS = range(12)


@pytest.fixture(scope="module")
def hearts() -> list[HeartPhantom]:
    return [heart_phantom(subject, SHAPE) for subject in SUBJECTS]


def ring(heart: HeartPhantom, least_mm: float, most_mm: float) -> torch.Tensor:
    """Pixels outside the ventricle, so far from it."""
    spacing = [FIELD_OF_VIEW_MM / n for n in SHAPE]
    away = torch.from_numpy(ndimage.distance_transform_edt(1 - heart.endocardium.numpy(), spacing))
    return (away > least_mm) & (away < most_mm)


def test_the_same_seed_and_subject_give_the_same_heart(hearts: list[HeartPhantom]) -> None:
    again, other = heart_phantom(3, SHAPE), heart_phantom(3, SHAPE, seed=1)
    for name in ("mr", "endocardium", "affine"):
        assert torch.equal(getattr(hearts[3], name), getattr(again, name))
    for different in (hearts[4], other):
        assert not torch.equal(hearts[3].endocardium, different.endocardium)


@pytest.mark.parametrize("shape", [(17, 40), (64, 31), (1, 1)])
def test_any_shape_gives_finite_values_and_a_label_map(shape: tuple[int, int]) -> None:
    heart = heart_phantom(2, shape)
    assert heart.mr.shape == heart.endocardium.shape == shape
    assert heart.mr.dtype == torch.float32 and heart.endocardium.dtype == torch.uint8
    assert torch.isfinite(heart.mr).all() and heart.mr.min() >= 0
    assert set(heart.endocardium.unique().tolist()) <= {0, 1}


def test_one_subject_has_the_same_ventricle_on_every_grid(hearts: list[HeartPhantom]) -> None:
    fine = heart_phantom(0, tuple(3 * n for n in SHAPE))
    assert torch.equal(hearts[0].endocardium, fine.endocardium[1::3, 1::3])
    assert (hearts[0].mr - fine.mr[1::3, 1::3]).abs().median() < 0.03  # noise, and borders within a pixel


def test_the_affine_takes_pixels_to_millimetres_around_the_middle(hearts: list[HeartPhantom]) -> None:
    affine = hearts[0].affine
    assert affine.diagonal().tolist() == pytest.approx([320 / SHAPE[0], 320 / SHAPE[1], 8, 1])
    middle = affine @ torch.tensor([(SHAPE[0] - 1) / 2, (SHAPE[1] - 1) / 2, 0, 1], dtype=torch.float64)
    assert middle.tolist() == pytest.approx([0, 0, 0, 1], abs=1e-4)


def test_the_ventricle_is_one_round_piece_near_the_middle(hearts: list[HeartPhantom]) -> None:
    radii = []
    for heart in hearts:
        inside = heart.endocardium.nonzero().double()
        centre = heart.affine[:2, :2] @ inside.mean(0) + heart.affine[:2, 3]
        assert centre.norm() < 30
        assert ndimage.label(heart.endocardium.numpy())[1] == 1
        radii.append(math.sqrt(len(inside) * float(heart.affine[:2, :2].det()) / math.pi))
    assert 8 < min(radii) < 15 and 22 < max(radii) < 35  # small and large ones, as in data sets


def test_blood_is_brighter_than_muscle_and_fat_is_brightest(hearts: list[HeartPhantom]) -> None:
    for heart in hearts:
        blood = heart.mr[heart.endocardium > 0].median()
        muscle = heart.mr[ring(heart, 3.0, 6.0)].median()
        assert blood > 2 * muscle and heart.mr[ring(heart, 50.0, 500.0)].max() > 2 * blood
        assert heart.mr[:4, -4:].median() < 0.1 * blood  # air


@pytest.mark.parametrize(
    "arguments",
    [
        {"subject": -1},
        {"subject": 0, "shape": (8, 8, 8)},
        {"subject": 0, "shape": (8, 0)},
        {"subject": 0, "seed": -1},
    ],
)
def test_impossible_arguments_are_one_clear_error(arguments: dict) -> None:
    with pytest.raises(InputError, match="subject from 0"):
        heart_phantom(**arguments)
