"""Flattened configs: the merge of the sources, nothing else; what JSON cannot hold is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from monai.bundle import ConfigParser

from mdl_monai import InputError
from mdl_monai.release.flatten import SOURCES, drifted, flatten_config, main


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    configs = tmp_path / "configs"
    configs.mkdir()
    (configs / "common.yaml").write_text(
        "# a comment\nlearning_rate: 1.0e-3\nnetwork_def: {_target_: Net, features: [8, 16]}\n"
        "handlers: [first]\n"
    )
    (configs / "train.yaml").write_text(
        '"network_def#features": [4]\n"+handlers": [second]\nrun: [$print(1)]\n'
    )
    (configs / "inference.yaml").write_text("run: ['$@evaluator.run()']\n")
    return tmp_path


def test_an_overlay_replaces_a_value_and_appends_to_a_list(bundle: Path) -> None:
    assert json.loads(flatten_config(bundle, "train.json")) == {
        "learning_rate": 0.001,
        "network_def": {"_target_": "Net", "features": [4]},
        "handlers": ["first", "second"],
        "run": ["$print(1)"],
    }


def test_the_flattened_file_is_what_monai_reads_from_the_sources(bundle: Path) -> None:
    assert main([str(bundle)]) == 0
    for name, sources in SOURCES.items():
        merged, flat = ConfigParser(), ConfigParser()
        merged.read_config([bundle / "configs" / source for source in sources])
        flat.read_config(bundle / "configs" / name)
        assert flat.get() == merged.get()


def test_the_file_whose_source_changed_has_drifted(bundle: Path) -> None:
    assert main([str(bundle)]) == 0
    assert drifted(bundle) == []
    with (bundle / "configs" / "inference.yaml").open("a") as file:
        file.write("seed: 3\n")
    assert [path.name for path in drifted(bundle)] == ["inference.json"]


def test_a_missing_flattened_file_has_drifted(bundle: Path) -> None:
    assert [path.name for path in drifted(bundle)] == ["train.json", "inference.json"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("rate: 1e-3", r"YAML reads this number as text(.|\n)*rate(.|\n)*1e-3(.|\n)*1\.0e-3"),
        ("steps: {a: [0, 2e5]}", r"steps#a#1(.|\n)*2e5"),
        ('"+handlrs": [third]', r"cannot be merged: Can't merge entry \['\+handlrs'\]"),
        ('"+handlers": 3', r"cannot be merged: config must be dict or list"),
        ('"handlers#7": x', r"cannot be merged"),
        ("run: 1\nrun: 2", r"cannot be merged.*run"),
        ("a: [1", r"cannot be merged(.|\n)*line"),
        ("day: 2024-01-02", r"cannot hold a value of its sources.*date"),
        ("ratio: .inf", r"cannot hold a value of its sources"),
        ("labels: {1: anterior}", r"JSON has only text as keys(.|\n)*quote the keys"),
        ("- a list", r"cannot be merged"),
    ],
)
def test_a_source_that_json_cannot_repeat_is_refused(bundle: Path, line: str, message: str) -> None:
    (bundle / "configs" / "train.yaml").write_text(line + "\n")
    with pytest.raises(InputError, match=message) as caught:
        flatten_config(bundle, "train.json")
    assert "train.yaml" in str(caught.value)


def test_a_missing_source_is_named(bundle: Path) -> None:
    (bundle / "configs" / "common.yaml").unlink()
    with pytest.raises(InputError, match=r"train\.json is generated from common\.yaml, which is missing"):
        flatten_config(bundle, "train.json")


def test_nothing_is_written_where_a_source_is_wrong(bundle: Path) -> None:
    (bundle / "configs" / "train.yaml").write_text("rate: 1e-3\n")
    with pytest.raises(InputError):
        main([str(bundle)])
    assert not list((bundle / "configs").glob("*.json"))
