from __future__ import annotations

import pytest
import torch
from scipy.stats import wasserstein_distance

from mdl_monai.metrics.typical_inputs import (
    BINS,
    contrast_distance,
    describe_input,
    summarise_inputs,
    unlike,
)

MIDDLES = [-1 + (k + 0.5) * 2 / BINS for k in range(BINS)]


def case(seed: int, size: tuple[int, int, int] = (12, 15, 11), darker: float = 0.0) -> tuple:
    draw = torch.Generator().manual_seed(seed)
    image = (0.3 * torch.randn(20, 24, 18, generator=draw) - darker).clamp(-1, 1)
    body = torch.zeros(20, 24, 18, dtype=torch.bool)
    body[2 : 2 + size[0], 3 : 3 + size[1], 4 : 4 + size[2]] = True
    return describe_input(image, body, (10.0, 8.0, 12.0))


def test_extent_is_in_mm_and_a_slice_has_none_across() -> None:
    assert case(0)["extent"] == [120.0, 120.0, 132.0]
    image, body = torch.zeros(9, 1, 8), torch.zeros(9, 1, 8, dtype=torch.bool)
    body[2:6, :, 3:5] = True
    assert describe_input(image, body, (1.0, 5.0, 2.0))["extent"] == [4.0, None, 4.0]


def test_the_distance_is_the_earth_movers() -> None:
    a, b = case(0)["contrast"], case(1, darker=0.4)["contrast"]
    assert sum(a) == pytest.approx(1)
    assert contrast_distance(a, b) == pytest.approx(wasserstein_distance(MIDDLES, MIDDLES, a, b))
    assert contrast_distance(a, a) == 0


def test_training_cases_are_like_themselves_and_others_are_told_apart_in_words() -> None:
    typical = summarise_inputs([case(seed, (12 + seed % 3, 15, 11)) for seed in range(30)])
    assert typical["extent"] == [[120.0, 140.0], [120.0, 120.0], [132.0, 132.0]]
    assert unlike(case(31), typical)[1] == []
    distance, words = unlike(case(31, darker=0.4), typical)
    assert distance > 0.3 and len(words) == 1 and "contrast" in words[0]
    assert unlike(case(31, (6, 15, 11)), typical)[1] == [
        "60 mm of a head right-left, where 120 to 140 are usual"
    ]
