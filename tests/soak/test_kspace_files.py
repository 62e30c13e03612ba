"""500 changed k-space files (40 without MDL_SOAK=1): each gives the samples that HDF5 reads, or is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from soak import counts, faults, soak, summary


def test_changed_kspace_files_are_right_or_refused(tmp_path: Path) -> None:
    pytest.importorskip("ismrmrd")
    results = soak("kspace", tmp_path, 0, counts(40, 500))
    assert not faults(results), summary(results)
    assert {r["result"] for r in results} == {"right", "refused"} and len(results) == counts(40, 500)
