"""A cohort of 1,000 cases (40 without MDL_SOAK=1), 5 % of them poisoned, and its processes killed by SIGKILL.

The bundle is the skeleton of `make new-bundle`, started as `make evaluate` does it, with two worker processes. After
each kill of the run itself the same command starts it again.
"""

from __future__ import annotations

import csv
import gzip
import json
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from soak import counts
from torch.nn.functional import conv2d

from mdl_monai.release.new_bundle import new_bundle

N_CASES = counts(40, 1000)
N_POISONED = N_CASES // 20


def packed(values: np.ndarray, affine: np.ndarray, *dim: int) -> bytes:
    """A NIfTI file, as no library would write it."""
    raw = bytearray(nib.Nifti1Image(values, None).to_bytes())
    struct.pack_into("<2h", raw, 252, 0, 1)
    struct.pack_into("<12f", raw, 280, *affine[:3].ravel())
    struct.pack_into(f"<{len(dim)}h", raw, 40, *dim)
    return gzip.compress(raw, mtime=0)


def poisons(values: np.ndarray, affine: np.ndarray) -> list[tuple[bytes | None, str]]:
    """What broken files hold, or None for one that is gone since it was listed, and words of the reason given."""
    sound, row = packed(values, affine), np.arange(4)[:, None]
    return [
        (sound[: len(sound) // 2], "ended before"),
        (None, "does not exist"),
        (packed(values, np.where(row == 1, np.nan, affine)), "affine"),
        (packed(np.stack([values, values], -1)[..., None], affine, 5, 9, 7, 4, 2, 1), "number of axes"),
        (b"", "does not begin with a NIfTI header"),
        (packed(values, np.where(row == 0, 0, affine)), "affine"),
        (packed(values[:0], affine), "size of an axis"),
        (packed(values * np.float32(np.inf), affine), "infinite"),
        (packed(values, affine, 3, 32767, 32767, 32767), "GiB"),
        (b"<html>not found</html>", "gzipped"),
    ]


class Evaluation:
    """A bundle, a data set, and the command that evaluates the one on the other."""

    def __init__(self, folder: Path) -> None:
        self.bundle = new_bundle("head_mr_identity", "Maps an image to itself", folder)
        self.data, self.output, self.log = folder / "data", folder / "output", folder / "log.txt"
        self.data.mkdir()
        self.expected: dict[str, np.ndarray] = {}
        self.reasons: dict[str, str] = {}
        self.gone: list[str] = []
        weights = torch.load(self.bundle / "models" / "model.pt", weights_only=True)
        affine = np.diag([1.5, 1.0, 2.0, 1.0]) + np.eye(4, k=3) * 10
        rng = np.random.default_rng(11)
        poisoned = rng.choice(N_CASES, N_POISONED, replace=False).tolist()
        names = [f"case{number:04d}" for number in range(N_CASES)]
        for number, name in enumerate(names):
            values, path = rng.random((9, 7, 4), dtype=np.float32), self.data / f"{name}.nii.gz"
            if number not in poisoned:
                path.write_bytes(packed(values, affine))
                self.expected[name] = filtered(values, weights)
                continue
            kinds = poisons(values, affine)
            content, self.reasons[name] = kinds[poisoned.index(number) % len(kinds)]
            path.write_bytes(content or b"")
            if content is None:
                self.gone.append(str(path))
        records = {"test": [{"image": f"{name}.nii.gz"} for name in names]}
        (self.data / "dataset.json").write_text(json.dumps(records), encoding="utf-8")
        overlay = {
            "+imports": ["$from pathlib import Path"],
            "dataloader#_target_": "mdl_monai.engines.cohort_loader.CohortLoader",
            "gone": self.gone,
            "initialize": ["$[Path(name).unlink() for name in @gone if @records]"],
        }
        (folder / "overlay.json").write_text(json.dumps(overlay), encoding="utf-8")

    def start(self) -> subprocess.Popen[bytes]:
        """The same command each time."""
        for name in self.gone:
            Path(name).touch()
        configs = self.bundle / "configs"
        sources = [*(configs / f"{name}.yaml" for name in ("common", "inference", "evaluate"))]
        options = {
            "config_file": [*map(str, sources), str(self.log.with_name("overlay.json"))],
            "logging_file": configs / "logging.conf",
            "bundle_root": self.bundle,
            "dataset_dir": self.data,
            "output_dir": self.output,
            "progress": "false",
            "dataloader#num_workers": 2,
        }
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        command = [sys.executable, "-m", "monai.bundle", "run", *words]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        with self.log.open("wb") as log:
            return subprocess.Popen(command, stdout=log, stderr=log, env=environment)

    def run(self, worker_dies_after: Sequence[int] = (), run_dies_after: int | None = None) -> int:
        """One run; how it ended. A worker, and at last the run itself, are killed after so many outputs."""
        start, process = time.time(), self.start()
        try:
            for number in worker_dies_after:
                wait_until(lambda number=number: self.since(start) >= number, process)
                os.kill(children(process.pid)[-1], signal.SIGKILL)
            if run_dies_after is None:
                return process.wait(timeout=1800)
            wait_until(lambda: self.since(start) >= run_dies_after, process)
            workers = children(process.pid)
        finally:
            process.kill()
            process.wait()
        wait_until(lambda: not any(map(alive, workers)))  # they follow by themselves
        return process.returncode

    def written(self) -> dict[str, Path]:
        """Outputs at their final places, by case."""
        files = (path for path in (self.output / "predictions").glob("*") if not path.name.startswith("."))
        return {path.name.removesuffix(".nii.gz"): path for path in files}

    def since(self, start: float) -> int:
        return sum(path.stat().st_mtime > start for path in self.written().values())

    def assert_whole(self) -> dict[str, bytes]:
        """Each output that is there is whole and right; their bytes."""
        for case, path in self.written().items():
            values = np.asarray(nib.load(path).dataobj)
            np.testing.assert_allclose(values, self.expected[case], atol=1e-5, err_msg=case)
        return {case: path.read_bytes() for case, path in self.written().items()}

    def record(self) -> dict:
        return json.loads((self.output / "run.json").read_text(encoding="utf-8"))


def filtered(values: np.ndarray, weights: dict[str, torch.Tensor]) -> np.ndarray:
    """What the bundle gives: one convolution of each slice, which it sees with a peak of 1."""
    slices = torch.from_numpy(values).permute(2, 0, 1)[:, None]
    peak = slices.amax((2, 3), keepdim=True)
    result = conv2d(slices / peak, weights["conv.weight"], weights["conv.bias"], padding=1) * peak
    return result[:, 0].permute(1, 2, 0).numpy()


def children(pid: int) -> list[int]:
    return [int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2]
    except FileNotFoundError:
        return False
    return state.split()[0] != "Z"


def wait_until(holds: Callable[[], object], process: subprocess.Popen[bytes] | None = None) -> None:
    end = time.monotonic() + 600
    while not holds():
        assert time.monotonic() < end and (process is None or process.poll() is None), "it ended too early"
        time.sleep(0.02)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds worker processes by /proc")
def test_a_killed_cohort_loses_nothing_and_gives_nothing_twice(tmp_path: Path) -> None:
    evaluation = Evaluation(tmp_path)
    before: dict[str, bytes] = {}
    for deaths in [((), 10)] if N_CASES < 100 else [((40,), 150), ((60, 200), 400), ((300,), 700)]:
        assert evaluation.run(*deaths) == -signal.SIGKILL
        assert evaluation.record()["ended"] is None and "cases_done" not in evaluation.record()
        before = evaluation.assert_whole()
    assert before
    hidden = list((evaluation.output / "predictions").glob(".*"))
    assert len(hidden) <= 3  # of the outputs that were being written, one at most for each kill

    for worker_dies_after in [(12,)] if N_CASES < 100 else [(100, 400, 800), ()]:
        assert evaluation.run(worker_dies_after) == 1, evaluation.log.read_text(encoding="utf-8")[-3000:]
        after = evaluation.assert_whole()
        assert set(after) == set(evaluation.expected) and len(after) == N_CASES - N_POISONED
        assert before.items() <= after.items()
        before = after
        record = evaluation.record()
        assert record["ended"] and record["cases_done"] == sorted(after)
        assert record["cases_failed"].keys() == evaluation.reasons.keys()
        for case, reason in record["cases_failed"].items():
            assert evaluation.reasons[case] in reason
        with (evaluation.output / "metrics.csv").open(encoding="utf-8", newline="") as file:
            assert [row["case"] for row in csv.DictReader(file)] == sorted(after)
        log = evaluation.log.read_text(encoding="utf-8")
        assert f"{N_POISONED} of {N_CASES} cases failed" in log and "Traceback" not in log
        assert log.count("a worker process was killed") == len(worker_dies_after)
