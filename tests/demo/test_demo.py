"""The demo, as `make demo` runs it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run_demo(*options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "ignore", "-m", "mdl_monai.demo", *options]
    kept = {k: v for k, v in os.environ.items() if k != "MDL_DATA_ROOT"}
    return subprocess.run(
        command, cwd=ROOT, env={**kept, "OMP_NUM_THREADS": "1", **environment}, capture_output=True, text=True
    )


def test_demo_shows_every_bundle_and_says_what_is_no_evidence(tmp_path: Path) -> None:
    ended = run_demo("--output_dir", str(tmp_path))
    assert ended.returncode == 0, ended.stderr
    page = (tmp_path / "index.html").read_text()
    for bundle in ROOT.glob("bundles/*/configs/demo.yaml"):
        assert f"<h2>{bundle.parents[1].name}</h2>" in page
    pictures = re.findall(r'<img src="([^"]+)"', page)
    assert pictures and all((tmp_path / picture).is_file() for picture in pictures)
    assert "phantom, not evidence" in page and "real: MNI152 mean brain" in page
    assert "psnr" in page and "time_s" in page and "zero_filled" in page


def test_demo_without_its_real_data_or_bundles_says_so(tmp_path: Path) -> None:
    ended = run_demo("--output_dir", str(tmp_path), MDL_DATA_ROOT=str(tmp_path))
    assert ended.returncode == 2 and "the real data set is missing" in ended.stderr
    ended = run_demo("--bundles_dir", str(tmp_path))
    assert ended.returncode == 2 and "no bundle to show" in ended.stderr


@pytest.mark.slow
def test_demo_runs_on_the_real_sets(tmp_path: Path, data_root: Path) -> None:
    ended = run_demo("--output_dir", str(tmp_path), MDL_DATA_ROOT=str(data_root))
    assert ended.returncode == 0, ended.stderr
    assert "phantom, not evidence" not in (tmp_path / "index.html").read_text()
