"""The Makefile: it prints the command of a workflow, and says in one sentence what is not set."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "bundles" / "toy" / "configs").mkdir(parents=True)
    for name in ("metadata.json", "train.json", "inference.json"):
        (tmp_path / "bundles" / "toy" / "configs" / name).touch()
    (tmp_path / ".venv").mkdir()
    for stamp in ("installed.stamp", "installed_extras.stamp"):
        (tmp_path / ".venv" / stamp).touch()
    return tmp_path


def make(checkout: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", *arguments],
        cwd=checkout,
        capture_output=True,
        encoding="utf-8",
        env={"PATH": "/usr/bin:/bin"},
    )


def command(checkout: Path, *arguments: str) -> list[str]:
    result = make(checkout, "--dry-run", *arguments)
    assert result.returncode == 0, result.stderr
    return shlex.split(result.stdout.splitlines()[-1])


def options(words: list[str]) -> dict[str, str]:
    return {words[i][2:]: words[i + 1] for i in range(words.index("run") + 1, len(words), 2)}


def test_help_is_the_default_and_lists_every_target(checkout: Path) -> None:
    listed = make(checkout).stdout
    for target in ("demo", "test", "test-long", "inference", "evaluate", "train", "gpu-check", "new-bundle"):
        assert f"  {target} " in listed
    assert "Bundles: toy" in listed


def test_only_the_options_that_are_set_are_passed(checkout: Path) -> None:
    words = command(checkout, "inference", "BUNDLE=toy", "DATASET_DIR=data")
    assert words[1:4] == ["-m", "monai.bundle", "run"]
    assert options(words) == {
        "config_file": "['bundles/toy/configs/inference.json']",
        "meta_file": "bundles/toy/configs/metadata.json",
        "logging_file": "bundles/toy/configs/logging.conf",
        "bundle_root": "bundles/toy",
        "dataset_dir": "data",
    }


def test_paths_with_spaces_and_quotes_arrive_whole(checkout: Path) -> None:
    given = ["DATASET_DIR=/my data/it's (new)", "OUTPUT_DIR=out put", "SPLIT=['a', 'b']"]
    passed = options(command(checkout, "inference", "BUNDLE=toy", *given))
    assert passed["dataset_dir"] == "/my data/it's (new)"
    assert passed["output_dir"] == "out put"
    assert passed["split"] == "['a', 'b']"


def test_evaluation_merges_three_sources(checkout: Path) -> None:
    words = command(checkout, "evaluate", "BUNDLE=toy", "DATASET_DIR=d", "ARGS=--baselines true --seed 3")
    passed = options(words)
    names = ("common", "inference", "evaluate")
    assert passed["config_file"] == "[" + ",".join(f"'bundles/toy/configs/{n}.yaml'" for n in names) + "]"
    assert (passed["baselines"], passed["seed"]) == ("true", "3")


def test_the_split_of_training_is_its_training_split(checkout: Path) -> None:
    passed = options(command(checkout, "train", "BUNDLE=toy", "DATASET_DIR=d", "SPLIT=chest"))
    assert passed["config_file"] == "['bundles/toy/configs/train.json']"
    assert passed["train_split"] == "chest"
    assert "split" not in passed


@pytest.mark.parametrize("target", ["train", "evaluate"])
def test_an_overlay_is_laid_on_top(checkout: Path, target: str) -> None:
    passed = options(command(checkout, target, "BUNDLE=toy", "DATASET_DIR=d", "OVERLAY=basic"))
    assert passed["config_file"].endswith(",'bundles/toy/configs/basic.yaml']")


def test_several_overlays_are_laid_on_top_in_their_order(checkout: Path) -> None:
    passed = options(command(checkout, "train", "BUNDLE=toy", "DATASET_DIR=d", "OVERLAY=one two"))
    files = ["train.json", "one.yaml", "two.yaml"]
    assert passed["config_file"] == str([f"bundles/toy/configs/{name}" for name in files]).replace(", ", ",")


@pytest.mark.parametrize("target", ["multi_gpu_train", "multi_gpu_evaluate"])
def test_several_gpus_are_started_by_torchrun(checkout: Path, target: str) -> None:
    words = command(checkout, target, "BUNDLE=toy", "DATASET_DIR=d", "GPUS=3")
    assert words[1:7] == [
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node=3",
        "-m",
        "monai.bundle",
    ]
    assert f"'bundles/toy/configs/{target}.yaml'" in options(words)["config_file"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["evaluate", "DATASET_DIR=d"], "BUNDLE is not set: name one of: toy"),
        (
            ["train", "BUNDLE=toy"],
            "DATASET_DIR is not set: name the folder that holds dataset.json or the images",
        ),
        (["inference", "BUNDLE=boat", "DATASET_DIR=d"], "bundle boat does not exist: name one of: toy"),
        (["new-bundle", "TASK=t"], "NAME is not set: the new bundle's name in lower case with _"),
    ],
)
def test_what_is_missing_is_said_in_one_sentence(checkout: Path, arguments: list[str], sentence: str) -> None:
    result = make(checkout, *arguments)
    assert result.returncode == 2
    assert result.stderr.splitlines()[0] == sentence


def test_an_old_python_is_refused_before_anything_is_made(checkout: Path) -> None:
    old = checkout / "old_python"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.9.1 || exit 1\n')
    old.chmod(0o755)
    (checkout / ".venv" / "installed.stamp").unlink()
    result = make(checkout, "demo", "PYTHON=./old_python")
    assert result.returncode == 2
    assert "Python 3.11 or newer is needed, ./old_python is Python 3.9.1" in result.stderr


def test_the_environment_is_made_again_only_when_requirements_change(checkout: Path) -> None:
    assert "pip install" not in make(checkout, "--dry-run", "test").stdout
    assert "pip install" in make(checkout, "--dry-run", "--what-if=constraints.txt", "test").stdout
