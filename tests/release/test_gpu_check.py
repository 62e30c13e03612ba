"""Training steps of the CUDA check: repeatable, so that a difference means the device."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mdl_monai.release import gpu_check
from mdl_monai.release.figures import gpu_table

pytestmark = pytest.mark.filterwarnings("ignore:NvImgCodecPydicomReader")


def test_the_same_steps_have_the_same_losses(skeleton: Path) -> None:
    first, images_per_second = gpu_check.train_steps(skeleton, "cpu", steps=7, size=40)
    torch.manual_seed(99)
    second, _ = gpu_check.train_steps(skeleton, "cpu", steps=7, size=40)
    assert len(first) == 7
    assert first == second
    assert len(set(first)) == 7
    assert images_per_second > 0


@pytest.mark.slow
def test_atlases_are_registered_outside_the_users_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(gpu_check, "WARM_UP", 1)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    bundle = Path(__file__).resolve().parents[2] / "bundles" / "hippocampus_mri_fusion_segmentation"
    losses, images_per_second = gpu_check.train_steps(bundle, "cpu", steps=2, size=24)
    assert len(losses) == 2 and all(0 < loss < 10 for loss in losses) and images_per_second > 0
    assert not list(tmp_path.rglob("*"))


@pytest.mark.parametrize(("factor", "code"), [(1.009, 0), (0.98, 1), (float("nan"), 1)])
def test_losses_more_than_a_hundredth_apart_fail(
    skeleton_copy: Path, monkeypatch: pytest.MonkeyPatch, factor: float, code: int
) -> None:
    def fake(bundle: Path, device: str) -> tuple[list[float], float]:
        return [2.0 * (factor if device == "cuda:0" else 1.0)] * 20, 12.5

    monkeypatch.setattr(gpu_check, "train_steps", fake)
    for name, value in {
        "is_available": True,
        "reset_peak_memory_stats": None,
        "max_memory_allocated": 3 * 2**20,
        "get_device_name": "a GPU",
    }.items():
        monkeypatch.setattr(torch.cuda, name, lambda *_, value=value: value)
    assert gpu_check.main([str(skeleton_copy)]) == code
    saved = skeleton_copy / "docs" / "figures" / "gpu_check.json"
    assert saved.exists() == (code == 0)
    if code == 0:
        row = gpu_table(gpu_check.json.loads(saved.read_text(encoding="utf-8"))).splitlines()[2]
        assert row == "| a GPU | 12.5 | 3 | 2.01800 | 2.00000 | 0.90% |"


def test_without_cuda_it_says_so_and_exits_with_2(
    skeleton: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu_check.main([str(skeleton)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_losses_on_cuda_are_those_on_the_cpu(skeleton_copy: Path) -> None:
    assert gpu_check.main([str(skeleton_copy)]) == 0
