"""The demo, as `make demo` runs it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mdl_monai.demo import __main__ as demo
from mdl_monai.demo.page import BundleResult, write_page

ROOT = Path(__file__).resolve().parents[2]


def run_demo(*options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "ignore", "-m", "mdl_monai.demo", *options]
    kept = {k: v for k, v in os.environ.items() if k != "MDL_DATA_ROOT"}
    return subprocess.run(
        command,
        cwd=ROOT,
        env={**kept, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        encoding="utf-8",
    )


def test_demo_shows_every_bundle_and_says_what_is_no_evidence(tmp_path: Path) -> None:
    ended = run_demo("--output_dir", str(tmp_path))
    assert ended.returncode == 0, ended.stderr
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    for bundle in ROOT.glob("bundles/*/configs/demo.yaml"):
        assert f"<h2>{bundle.parents[1].name}</h2>" in page
    pictures = re.findall(r'<img src="([^"]+)"', page)
    assert pictures and all((tmp_path / picture).is_file() for picture in pictures)
    assert "phantom, not evidence" in page and "real: MNI152 mean brain" in page
    for shown in ("psnr", "time_s", "zero_filled", "dice_1", "patch_based"):
        assert shown in page


def test_demo_without_its_real_data_or_bundles_says_so(tmp_path: Path) -> None:
    ended = run_demo("--output_dir", str(tmp_path), MDL_DATA_ROOT=str(tmp_path))
    assert ended.returncode == 2 and "the real data set is missing" in ended.stderr
    ended = run_demo("--bundles_dir", str(tmp_path))
    assert ended.returncode == 2 and "no bundle to show" in ended.stderr


@pytest.mark.parametrize("real", [False, True])
def test_options_of_a_bundle_reach_its_command_and_those_for_real_data_only_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, real: bool
) -> None:
    (tmp_path / "bundle" / "configs").mkdir(parents=True)
    (tmp_path / "bundle" / "configs" / "demo.yaml").write_text(
        "embedded_inputs: mdl_monai.demo.inputs.write_phantom_hearts\nreal_dataset: hearts\nreal_split: test\n"
        "options: {cache_dir: c, registration: none}\nreal_options: {registration: demons}\n"
    )
    (tmp_path / "hearts").mkdir()
    (tmp_path / "hearts" / "dataset.json").write_text('{"test": []}')
    seen: list[Any] = []
    monkeypatch.setattr(demo, "_run", lambda *arguments: seen.extend(arguments) or "the command")
    result = demo.run_bundle(tmp_path / "bundle", tmp_path / "out", tmp_path if real else None)
    assert seen[1] == ["inference", "evaluate"] and result.command == "the command"
    assert seen[2] == {
        "baselines": "true",
        "cache_dir": "c",
        "registration": "demons" if real else "none",
        "dataset_dir": str(tmp_path / "hearts" if real else tmp_path / "out" / "inputs"),
        "split": "test" if real else "demo",
        "output_dir": str(tmp_path / "out"),
    }
    if not real:
        lists = json.loads((tmp_path / "out" / "inputs" / "dataset.json").read_text(encoding="utf-8"))
        patients = {split: {record["patient"] for record in records} for split, records in lists.items()}
        assert len(patients["demo"]) == 2 and len(patients["train"]) == 11
        assert not patients["demo"] & patients["train"]


def test_the_page_shows_what_the_fusion_did_beside_the_segmentation(tmp_path: Path) -> None:
    out = tmp_path / "out"
    for folder in (tmp_path / "configs", out / "inputs", out / "pictures", out / "fusion"):
        folder.mkdir(parents=True)
    (tmp_path / "configs" / "metadata.json").write_text('{"description": "d", "weights_license": "w"}')
    (out / "metrics.csv").write_text("case\na\n")
    (out / "metrics_summary.json").write_text('{"dice": {"mean": 0.5, "ci95_low": null}}')
    (out / "inputs" / "a.nii").touch()
    (out / "inputs" / "dataset.json").write_text('{"demo": [{"image": "a.nii", "origin": "phantom"}]}')
    for name in ("fusion/a.png", "pictures/a.png", "pictures/of_an_earlier_run.png"):
        (out / name).touch()
    result = BundleResult(tmp_path, {"real_dataset": "hearts"}, out, out / "inputs", "demo", "command", 1.0)
    page = write_page(tmp_path / "index.html", [result]).read_text(encoding="utf-8")
    assert re.findall(r'<img src="([^"]+)"', page) == ["out/pictures/a.png", "out/fusion/a.png"]


@pytest.mark.slow
def test_demo_runs_on_the_real_sets(tmp_path: Path, data_root: Path) -> None:
    ended = run_demo("--output_dir", str(tmp_path), MDL_DATA_ROOT=str(data_root))
    assert ended.returncode == 0, ended.stderr
    assert "phantom, not evidence" not in (tmp_path / "index.html").read_text(encoding="utf-8")
