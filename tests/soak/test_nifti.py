"""1,000 changed NIfTI files (40 without MDL_SOAK=1): each gives what the standard says, or is refused."""

from __future__ import annotations

from pathlib import Path

from soak import counts, faults, soak, summary


def test_changed_nifti_files_are_right_or_refused(tmp_path: Path) -> None:
    results = soak("nifti", tmp_path, 0, counts(40, 1000))
    assert not faults(results), summary(results)
    assert {r["result"] for r in results} == {"right", "refused"} and len(results) == counts(40, 1000)
