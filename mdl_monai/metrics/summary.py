"""From rows of metrics by case to mean, spread and a bootstrap interval over subjects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

N_RESAMPLES = 2000

Summary = dict[str, dict[str, Any]]


def bootstrap_interval(values: np.ndarray, subjects: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """95 % percentile interval of the mean over cases, whole subjects being drawn with replacement.

    Args:
        values: finite figures, one a case [N].
        subjects: the subject of each case [N].
        seed: of the resampling.

    Returns:
        Lower and upper end; NaN where there is one subject only, since one says nothing of the spread.
    """
    names, index = np.unique(subjects, return_inverse=True)
    if len(names) < 2:
        return float("nan"), float("nan")
    total = np.bincount(index, weights=values, minlength=len(names))
    count = np.bincount(index, minlength=len(names))
    draws = np.random.default_rng(seed).integers(0, len(names), size=(N_RESAMPLES, len(names)))
    means = total[draws].sum(1) / count[draws].sum(1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def summarise(rows: Sequence[Mapping[str, Any]], metrics: Sequence[str], unit: str) -> Summary:
    """`{metric: {mean, std, ci95_low, ci95_high, count, unit}}`; NaN figures are left out and not counted.

    Args:
        rows: one mapping a case, with its ``subject`` and the metrics.
        metrics: keys to summarise.
        unit: what the interval is over, "patient" or "case".
    """
    summary: Summary = {}
    for metric in metrics:
        values = np.array([row.get(metric, np.nan) for row in rows], dtype=float)
        subjects = np.array([str(row["subject"]) for row in rows])
        finite = np.isfinite(values)
        values, subjects = values[finite], subjects[finite]
        low, high = bootstrap_interval(values, subjects) if values.size else (float("nan"), float("nan"))
        summary[metric] = {
            "mean": float(values.mean()) if values.size else float("nan"),
            "std": float(values.std(ddof=1)) if values.size > 1 else float("nan"),
            "ci95_low": low,
            "ci95_high": high,
            "count": int(values.size),
            "unit": unit,
        }
    return summary


def paired_difference(
    rows: Sequence[Mapping[str, Any]],
    baseline_rows: Sequence[Mapping[str, Any]],
    metrics: Sequence[str],
    unit: str,
) -> Summary:
    """Summary of network minus baseline over the cases that both have."""
    baseline = {row["case"]: row for row in baseline_rows}
    pairs = [(row, baseline[row["case"]]) for row in rows if row["case"] in baseline]
    difference = [
        {"subject": a["subject"], **{m: a.get(m, np.nan) - b.get(m, np.nan) for m in metrics}}
        for a, b in pairs
    ]
    return summarise(difference, metrics, unit)
