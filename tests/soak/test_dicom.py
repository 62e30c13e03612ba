"""1,000 changed DICOM series from 20 seeds (40 without MDL_SOAK=1): right in value and place, or refused."""

from __future__ import annotations

from pathlib import Path

from soak import counts, faults, soak, summary


def test_changed_dicom_series_are_right_or_refused(tmp_path: Path) -> None:
    results = soak("dicom", tmp_path, 0, counts(40, 1000))
    assert not faults(results), summary(results)
    assert {r["result"] for r in results} == {"right", "refused"} and len(results) == counts(40, 1000)
