from __future__ import annotations

import math

import numpy as np
import pytest

from mdl_monai.metrics.summary import bootstrap_interval, paired_difference, summarise


def test_interval_covers_the_true_mean_about_95_times_in_100() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(200):
        values = rng.normal(3.0, 1.0, 40)
        low, high = bootstrap_interval(values, np.arange(40))
        hits += low <= 3.0 <= high
    assert 180 <= hits <= 199


def test_slices_of_one_patient_do_not_narrow_the_interval() -> None:
    rng = np.random.default_rng(1)
    patient = rng.normal(0, 1, 8)
    once = bootstrap_interval(patient, np.arange(8))
    often = bootstrap_interval(np.repeat(patient, 30), np.repeat(np.arange(8), 30))
    assert often == pytest.approx(once, abs=0.05)
    as_if_independent = bootstrap_interval(np.repeat(patient, 30), np.arange(240))
    assert as_if_independent[1] - as_if_independent[0] < 0.4 * (often[1] - often[0])


def test_one_subject_has_no_interval() -> None:
    assert all(math.isnan(end) for end in bootstrap_interval(np.array([1.0, 2.0]), np.array(["a", "a"])))


def test_the_mean_is_over_cases_and_nan_is_left_out_and_counted() -> None:
    rows = [
        {"subject": "a", "psnr": 1.0},
        {"subject": "a", "psnr": 2.0},
        {"subject": "b", "psnr": 6.0},
        {"subject": "c", "psnr": float("nan")},
    ]
    summary = summarise(rows, ["psnr"], "patient")["psnr"]
    assert summary["mean"] == pytest.approx(3.0)
    assert summary["count"] == 3 and summary["unit"] == "patient"
    assert summary["std"] == pytest.approx(np.std([1, 2, 6], ddof=1))
    assert summary["ci95_low"] <= 3.0 <= summary["ci95_high"]


def test_all_undefined_gives_nan_and_a_count_of_zero() -> None:
    summary = summarise([{"subject": "a", "hd95_1": float("nan")}], ["hd95_1"], "case")["hd95_1"]
    assert math.isnan(summary["mean"]) and summary["count"] == 0


def test_paired_difference_cancels_what_the_cases_share() -> None:
    rng = np.random.default_rng(2)
    hard = rng.normal(30, 5, 20)
    own = [{"case": str(n), "subject": str(n), "psnr": h + 1} for n, h in enumerate(hard)]
    theirs = [{"case": str(n), "subject": str(n), "psnr": h} for n, h in enumerate(hard)][::-1]
    difference = paired_difference(own, theirs[:-1], ["psnr"], "case")["psnr"]
    assert difference["mean"] == pytest.approx(1.0) and difference["count"] == 19
    assert difference["ci95_low"] == pytest.approx(1.0) and difference["ci95_high"] == pytest.approx(1.0)
