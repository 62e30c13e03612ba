"""A reliability curve tells right from boastful, and knowing from guessing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mdl_monai.metrics.reliability import Reliability


def drawn(factor: float = 1.0, shuffled: bool = False, seed: int = 0) -> dict:
    rng = np.random.default_rng(seed)
    reliability = Reliability()
    for shape in ((1, 80, 90), (1, 70, 60, 2)):
        sigma = 10 ** rng.uniform(-3.5, -1, shape)
        error = sigma * rng.standard_normal(shape)
        told = rng.permutation(sigma.ravel()).reshape(shape) if shuffled else sigma
        reliability.add(torch.from_numpy(factor * told), torch.from_numpy(error))
    return reliability.result()


def test_a_calibrated_sigma_lies_on_the_diagonal() -> None:
    result = drawn()
    for entry in result["bins"]:
        assert entry["error"] == pytest.approx(entry["sigma"], rel=0.1)
    assert sum(entry["pixels"] for entry in result["bins"]) == 80 * 90 + 70 * 60 * 2
    assert result["error_to_sigma"] == pytest.approx(1, abs=0.05)
    assert result["calibration_error"] < 0.1
    assert result["within_1_sigma"] == pytest.approx(0.683, abs=0.02)
    assert result["within_2_sigma"] == pytest.approx(0.954, abs=0.01)
    assert result["rank_correlation"] > 0.7 and result["cases"] == 2


def test_half_the_sigma_is_told_by_a_factor_of_two() -> None:
    result = drawn(0.5)
    assert result["error_to_sigma"] == pytest.approx(2, abs=0.1)
    assert result["calibration_error"] == pytest.approx(1, abs=0.1)
    assert result["within_2_sigma"] == pytest.approx(0.683, abs=0.02)


def test_right_on_the_whole_but_in_no_place_is_told() -> None:
    result = drawn(shuffled=True)
    assert result["error_to_sigma"] == pytest.approx(1, abs=0.05)
    assert result["calibration_error"] > 1
    assert abs(result["rank_correlation"]) < 0.05


def test_what_lies_beyond_the_bins_is_in_the_outermost() -> None:
    reliability = Reliability()
    reliability.add(torch.tensor([0.0, 1e-9, 7.0]), torch.tensor([0.0, 1e-9, 7.0]))
    assert [entry["pixels"] for entry in reliability.result()["bins"]] == [2, 1]


def test_cases_of_several_processes_join_to_those_of_one() -> None:
    parts = [torch.rand(2, 40) + 0.01 for _ in range(3)]
    one, joined = Reliability(), Reliability()
    for sigma, error in parts:
        one.add(sigma, error)
        part = Reliability()
        part.add(sigma, error)
        joined.join(part)
    assert joined.result()["bins"] == one.result()["bins"]
    assert joined.ranks == one.ranks and (joined.within == one.within).all()


def test_a_case_without_variety_has_no_rank_and_spoils_none() -> None:
    reliability = Reliability()
    reliability.add(torch.full((30,), 0.1), torch.rand(30))
    reliability.add(torch.linspace(0.1, 1, 30), torch.linspace(0.1, 1, 30))
    assert reliability.result()["rank_correlation"] == pytest.approx(1)
    assert reliability.result()["cases"] == 2
