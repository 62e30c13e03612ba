"""The skeleton of a new bundle: whole, valid, and it trains and evaluates through `monai.bundle`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow

from mdl_monai import InputError
from mdl_monai.release.check import REQUIRED_FILES
from mdl_monai.release.new_bundle import main, new_bundle
from mdl_monai.release.stand_in_data import write_stand_in_data


def workflow(bundle: Path, configs: list[str], tmp_path: Path, **override: object) -> ConfigWorkflow:
    return ConfigWorkflow(
        [str(bundle / "configs" / config) for config in configs],
        logging_file=False,
        workflow_type=None,
        bundle_root=str(bundle),
        dataset_dir=str(tmp_path / "data"),
        output_dir=str(tmp_path / "out put"),
        device="$torch.device('cpu')",
        progress="false",  # as the command line hands it over
        **override,  # type: ignore[arg-type]
    )


def test_every_file_of_a_bundle_is_written(skeleton: Path) -> None:
    written = {path.relative_to(skeleton).as_posix() for path in skeleton.rglob("*") if path.is_file()}
    assert written == set(REQUIRED_FILES)


def test_name_and_task_are_filled_in_everywhere(skeleton: Path) -> None:
    metadata = json.loads((skeleton / "configs" / "metadata.json").read_text(encoding="utf-8"))
    assert metadata["name"] == skeleton.name
    assert metadata["task"] == 'Maps an "image" to itself'
    for path in skeleton.rglob("*"):
        if path.is_file() and path.suffix != ".pt":
            text = path.read_text(encoding="utf-8")
            assert "BUNDLE_NAME" not in text and "BUNDLE_TASK" not in text, path


def test_the_same_name_gives_the_same_weights(skeleton: Path, tmp_path: Path) -> None:
    torch.manual_seed(5)
    again = new_bundle(skeleton.name, "task", tmp_path)
    first, second = (torch.load(b / "models" / "model.pt", weights_only=True) for b in (skeleton, again))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("name", ["prostate_vnet", "Brain", "brain-mr", "1brain", "", "a b", "../brain"])
def test_a_name_that_would_be_misread_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="name of the bundle is not usable"):
        new_bundle(name, "task", tmp_path / "bundles")
    assert not (tmp_path / "bundles").exists()


@pytest.mark.parametrize("task", ["", "  ", "two\nlines"])
def test_a_task_that_is_not_one_line_is_refused(tmp_path: Path, task: str) -> None:
    with pytest.raises(InputError, match="not one line"):
        new_bundle("brain_mr_task", task, tmp_path / "bundles")


def test_an_existing_bundle_is_never_touched(skeleton_copy: Path) -> None:
    (skeleton_copy / "docs" / "README.md").write_text("mine")
    with pytest.raises(InputError, match="the bundle exists"):
        main([skeleton_copy.name, "--task", "t", "--into", str(skeleton_copy.parent)])
    assert (skeleton_copy / "docs" / "README.md").read_text(encoding="utf-8") == "mine"


def test_nothing_is_left_where_writing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(bundle: Path) -> str:
        raise OSError("disk full")

    monkeypatch.setattr("mdl_monai.release.new_bundle.render_card", fail)
    with pytest.raises(OSError, match="disk full"):
        new_bundle("brain_mr_task", "task", tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.filterwarnings("ignore:NvImgCodecPydicomReader")
def test_it_trains_and_evaluates_with_what_it_trained(skeleton: Path, tmp_path: Path) -> None:
    parser = ConfigParser()
    parser.read_config([skeleton / "configs" / name for name in ("inference.json", "train.json")])
    parser.read_meta(skeleton / "configs" / "metadata.json")
    write_stand_in_data(tmp_path / "data", parser, size=48)

    def evaluate(weights: Path) -> float:
        run = workflow(
            skeleton,
            ["common.yaml", "inference.yaml", "evaluate.yaml"],
            tmp_path,
            ckpt_path=str(weights),
        )
        run.initialize()
        run.run()
        summary = json.loads((tmp_path / "out put" / "metrics_summary.json").read_text(encoding="utf-8"))
        assert summary["psnr"]["count"] == 4
        assert len(list((tmp_path / "out put" / "predictions").iterdir())) == 4
        shutil.rmtree(tmp_path / "out put" / "predictions")
        return float(summary["psnr"]["mean"])

    training = workflow(skeleton, ["train.json"], tmp_path, max_epochs=20)
    training.initialize()
    training.run()
    assert evaluate(tmp_path / "out put" / "model.pt") > evaluate(skeleton / "models" / "model.pt") + 6


@pytest.mark.slow
def test_it_trains_and_evaluates_in_two_processes(skeleton: Path, tmp_path: Path) -> None:
    parser = ConfigParser()
    parser.read_config([skeleton / "configs" / name for name in ("inference.json", "train.json")])
    parser.read_meta(skeleton / "configs" / "metadata.json")
    write_stand_in_data(tmp_path / "data", parser, size=48, n_subjects=5)

    def run(*configs: str, **options: object) -> None:
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
        command += ["-m", "monai.bundle", "run"]
        command += ["--config_file", str([str(skeleton / "configs" / config) for config in configs])]
        for name, value in {"bundle_root": skeleton, "dataset_dir": tmp_path / "data", **options}.items():
            command += [f"--{name}", str(value)]
        result = subprocess.run(
            command, capture_output=True, encoding="utf-8", env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
        assert result.returncode == 0, result.stderr[-3000:]

    run("train.json", "multi_gpu_train.yaml", output_dir=tmp_path / "training", max_epochs=1)
    run(
        *("common.yaml", "inference.yaml", "evaluate.yaml", "multi_gpu_evaluate.yaml"),
        output_dir=tmp_path / "evaluation",
        ckpt_path=tmp_path / "training" / "model.pt",
    )
    rows = (tmp_path / "evaluation" / "metrics.csv").read_text(encoding="utf-8").splitlines()[1:]
    listing = json.loads((tmp_path / "data" / "dataset.json").read_text(encoding="utf-8"))
    assert sorted(row.split(",")[1] for row in rows) == sorted(
        record["patient"] for record in listing["test"]
    )
