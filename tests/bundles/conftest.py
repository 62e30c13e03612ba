"""A small phantom data set, and ways to run a bundle as a user does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from bundle_process import run_monai_bundle

from mdl_monai.phantoms.head import head_phantom

ROOT = Path(__file__).resolve().parents[2]

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def phantom_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Slices of six subjects (train, test) and a thin volume with an odd size and an oblique affine."""
    folder = tmp_path_factory.mktemp("phantom set")
    listing: dict[str, list[dict[str, str]]] = {"train": [], "val": [], "test": [], "volume": []}
    for subject, split in enumerate(["train", "train", "train", "val", "test", "test"]):
        head = head_phantom(subject, (64, 64, 2), (3.3, 3.3, 20.0)).mr
        for z in range(2):
            name = f"p{subject}_z{z}.nii.gz"
            nib.save(nib.Nifti1Image(head[..., z].numpy() * 800, np.eye(4)), folder / name)
            listing[split].append({"image": name, "patient": f"p{subject}"})
    affine = np.array([[2.0, 0.3, 0, -40], [-0.3, 2.0, 0.1, 12], [0, -0.2, 5.0, 7], [0, 0, 0, 1]])
    volume = head_phantom(6, (45, 38, 3), (4.6, 5.5, 20.0)).mr.numpy() * 1200
    nib.save(nib.Nifti1Image(volume.astype(np.float32), affine), folder / "thick.nii.gz")
    listing["volume"].append({"image": "thick.nii.gz", "patient": "p6"})
    (folder / "dataset.json").write_text(json.dumps(listing))
    return folder


@pytest.fixture(scope="session")
def run_bundle() -> Run:
    """Run `monai.bundle run` on a bundle's sources: (name, overlays, options) to the ended process.

    It must end with the exit code `code`. With the interpreter's words in `launcher` it is started as from a shell,
    else where MONAI is imported already, in so many `processes`. `warnings` is what becomes of them.
    """

    def run(
        name: str,
        overlays: list[str],
        launcher: tuple[str, ...] = (),
        processes: int = 1,
        code: int = 0,
        warnings: str = "ignore",
        **options: object,
    ) -> subprocess.CompletedProcess[str]:
        configs = ROOT / "bundles" / name / "configs"
        files = [str(configs / f"{overlay}.yaml") for overlay in ["common", *overlays]]
        words = ["run", "--config_file", str(files)]
        metadata = configs / "metadata.json"
        options = {
            **({"meta_file": metadata} if metadata.exists() else {}),
            "bundle_root": configs.parent,
            "progress": "false",
            **options,
        }
        for key, value in options.items():
            words += [f"--{key.replace('__', '#')}", str(value)]
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "PYTHONWARNINGS": warnings}
        if launcher:
            command = [sys.executable, *launcher, *words]
            ended = subprocess.run(command, capture_output=True, encoding="utf-8", env=environment)
        else:
            ended = run_monai_bundle(words, environment, processes)
        assert ended.returncode == code, ended.stderr
        return ended

    return run


Both = Callable[..., list[Any]]


@pytest.fixture(scope="session")
def one_and_two(run_bundle: Run) -> Both:
    """Evaluate a bundle in one process and in two: (name, folder, overlays, options) to both runs' JSON `file`.

    With `keys`, both must have `count` cases and the same means under each.
    """

    def run(
        name: str,
        folder: Path,
        overlays: Sequence[str] = (),
        file: str = "metrics_summary.json",
        keys: Sequence[str] = (),
        count: int = 0,
        rtol: float = 1e-5,
        **options: object,
    ) -> list[Any]:
        read = []
        for further, processes in (([], 1), (["multi_gpu_evaluate"], 2)):
            out = folder / f"by {processes}"
            layers = ["inference", "evaluate", *overlays, *further]
            run_bundle(name, layers, processes=processes, output_dir=out, **options)
            read.append(json.loads((out / file).read_text(encoding="utf-8")))
        for key in keys:
            first, second = (summary[key] for summary in read)
            assert first["count"] == second["count"] == count, key
            assert second["mean"] == pytest.approx(first["mean"], rel=rtol), key
        return read

    return run
