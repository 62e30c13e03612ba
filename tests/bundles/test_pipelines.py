from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from dicom_studies import BUNDLES, Blob, Stack, drawn

highdicom = pytest.importorskip("highdicom")
ROOT = BUNDLES.parent


def segment(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "pipelines/segment_study.py", *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, encoding="utf-8")


def test_a_study_becomes_a_segmentation_volumes_and_a_picture(tmp_path: Path) -> None:
    """Two series in the study's folder, of which one is named."""
    for number in (4, 5):
        stack = Stack(
            np.zeros((33, 37, 41), np.uint16), spacing=(1.0, 1.0, 1.0), tags={"SeriesNumber": number}
        )
        for file in drawn(stack, [Blob((0.0, 4.0, 0.0), 6.0, 500)], 900).save(tmp_path / "study"):
            file.rename(file.with_name(f"{number}_{file.name}"))
    ended = segment(tmp_path / "study", tmp_path / "out", "--dicom_series", 5)
    assert ended.returncode == 0, ended.stderr
    written = {
        p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*") if p.is_file()
    }
    assert written == {
        "dicom/study.dcm", "metrics.csv", "metrics_summary.json", "pictures/study.png", "predictions/study.nii.gz",
        "run.json",
    }  # fmt: skip
    assert highdicom.seg.segread(tmp_path / "out" / "dicom" / "study.dcm").number_of_segments == 2
    both = segment(tmp_path / "study", tmp_path / "both")
    assert both.returncode == 2 and "number 4: MR" in both.stderr and "Traceback" not in both.stderr
    assert [p.name for p in (tmp_path / "both").rglob("*") if p.is_file()] in ([], ["run.json"])
