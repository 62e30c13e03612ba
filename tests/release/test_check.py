"""Release checks: a sound bundle passes all of them, and each finds what it is for."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from jsonschema import Draft202012Validator

from mdl_monai import InputError
from mdl_monai.release.check import CHECKS, SCHEMA, main, run_check


def edit_json(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")


@pytest.mark.parametrize("name", CHECKS)
def test_a_new_bundle_passes(skeleton: Path, name: str) -> None:
    assert run_check(name, skeleton) == []


def test_one_line_is_printed_a_check(
    skeleton_copy: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for slow in ("workflow properties", "network input and output", "export"):
        monkeypatch.delitem(CHECKS, slow)
    assert main([str(skeleton_copy)]) == 0
    assert capsys.readouterr().out.splitlines() == [f"ok   {skeleton_copy.name}: {name}" for name in CHECKS]
    (skeleton_copy / "models" / "LICENSE").unlink()
    assert main([str(skeleton_copy)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"FAIL {skeleton_copy.name}: files"
    assert lines[1].strip() == f"{skeleton_copy / 'models' / 'LICENSE'} is missing or empty"
    assert all(line.startswith("ok  ") for line in lines[2:])


def test_a_bundle_that_does_not_exist_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        main([str(tmp_path / "none")])


def test_code_in_a_bundle_is_found(skeleton_copy: Path) -> None:
    (skeleton_copy / "scripts").mkdir()
    (skeleton_copy / "scripts" / "net.py").write_text("x = 1\n")
    (problem,) = run_check("no code", skeleton_copy)
    assert "net.py is code" in problem


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.pop("data_license"), "'data_license' is a required property"),
        (lambda m: m.pop("weights_license"), "'weights_license' is a required property"),
        (lambda m: m.update(task=" "), "task: ' ' does not match"),
        (lambda m: m.update(name="head_mr_vnet"), "name: 'head_mr_vnet' should not be valid under"),
        (lambda m: m.update(name="other_mr_identity"), "name is other_mr_identity, the folder is head_mr"),
        (lambda m: m.update(version="0.2.0"), "version 0.2.0 has no entry in changelog"),
        (lambda m: m.update(version="1.0"), "version: '1.0' does not match"),
        (
            lambda m: m.update(optional_packages_version={}),
            "optional_packages_version: {} should not be valid",
        ),
        (lambda m: m.update(references={"1": "a"}), "references: {'1': 'a'} is not of type 'array'"),
        (lambda m: m.update(supported_apps=[]), "supported_apps: [] is not of type 'object'"),
        (lambda m: m.update(eval_metrics={"psnr": "38"}), "eval_metrics#psnr: '38' is not of type 'number'"),
        (
            lambda m: m["network_data_format"]["outputs"].update(
                out=m["network_data_format"]["outputs"].pop("pred")
            ),
            "network_data_format#outputs: 'pred' is a required property",
        ),
        (
            lambda m: m["network_data_format"]["inputs"]["image"].update(num_channels="1"),
            "inputs#image#num_channels: '1' is not of type 'integer'",
        ),
        (
            lambda m: m["network_data_format"]["inputs"]["image"].update(spatial_shape=["n; x"]),
            "inputs#image#spatial_shape#0: 'n; x' is not valid",
        ),
        (
            lambda m: m["network_data_format"]["inputs"]["image"].update(value_range=[0]),
            "inputs#image#value_range: [0] is not valid",
        ),
    ],
)
def test_wrong_metadata_is_named(
    skeleton_copy: Path, change: Callable[[dict[str, Any]], Any], message: str
) -> None:
    edit_json(skeleton_copy / "configs" / "metadata.json", change)
    (problem,) = run_check("metadata", skeleton_copy)
    assert message in problem


def test_the_schema_is_a_schema_and_its_required_keys_are_described() -> None:
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    assert set(schema["required"]) <= set(schema["properties"])


def test_weights_that_are_large_or_no_plain_tensors_are_found(
    skeleton_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = skeleton_copy / "models" / "model.pt"
    torch.save({"a": torch.ones(2, device="meta"), "b": 3, "c": torch.ones(2)}, path)
    problems = run_check("weights", skeleton_copy)
    assert [problem.partition(": ")[2] for problem in problems] == [
        "a is not a CPU tensor",
        "b is not a CPU tensor",
    ]
    torch.save(torch.nn.Linear(1, 1), path)
    assert "UnpicklingError" in run_check("weights", skeleton_copy)[0]
    torch.save([torch.ones(1)], path)
    assert "holds a list" in run_check("weights", skeleton_copy)[0]
    monkeypatch.setattr("mdl_monai.release.check.MAX_WEIGHT_BYTES", 100)
    torch.save({"a": torch.ones(100)}, path)
    assert "at most 25 fit into git" in run_check("weights", skeleton_copy)[0]


def test_weights_beside_the_first_are_checked_too(skeleton_copy: Path) -> None:
    assert not run_check("weights", skeleton_copy)
    torch.save([torch.zeros(2)], skeleton_copy / "models" / "uncertainty.pt")
    assert "uncertainty.pt holds a list" in run_check("weights", skeleton_copy)[0]


def test_a_config_that_drifted_is_found(skeleton_copy: Path) -> None:
    edit_json(skeleton_copy / "configs" / "train.json", lambda config: config.update(max_epochs=3))
    (problem,) = run_check("flattened configs", skeleton_copy)
    assert "train.json drifted" in problem


def test_a_missing_property_is_found(skeleton_copy: Path) -> None:
    edit_json(
        skeleton_copy / "configs" / "inference.json",
        lambda config: config.update(infer=config.pop("inferer")),
    )
    edit_json(
        skeleton_copy / "configs" / "inference.json",
        lambda config: config["evaluator"].update(inferer="@infer"),
    )
    (problem,) = run_check("workflow properties", skeleton_copy)
    assert "Property 'inferer' with config ID 'inferer' not in the config" in problem


def test_a_reference_among_the_training_handlers_is_found(skeleton_copy: Path) -> None:
    edit_json(
        skeleton_copy / "configs" / "train.json", lambda config: config["train"]["handlers"].append("@loss")
    )
    assert run_check("workflow properties", skeleton_copy) == [
        "train#handlers holds a reference: put the handler's `_target_` there"
    ]


def test_a_handler_that_is_referred_to_by_its_place_is_found(skeleton_copy: Path) -> None:
    edit_json(
        skeleton_copy / "configs" / "train.json",
        lambda config: config["validate"]["handlers"][1].update(checkpoint="@train#handlers#4"),
    )
    (problem,) = run_check("workflow properties", skeleton_copy)
    assert "by its place in train#handlers" in problem


def test_the_innermost_cause_of_a_broken_config_is_shown(skeleton_copy: Path) -> None:
    edit_json(
        skeleton_copy / "configs" / "train.json",
        lambda config: config["optimizer"].update(lr="$1 / 0"),
    )
    assert run_check("workflow properties", skeleton_copy) == ["ZeroDivisionError: division by zero"]


def test_a_network_that_differs_from_the_metadata_is_found(skeleton_copy: Path) -> None:
    edit_json(
        skeleton_copy / "configs" / "metadata.json",
        lambda m: m["network_data_format"]["outputs"]["pred"].update(num_channels=2),
    )
    assert "output channel number" in run_check("network input and output", skeleton_copy)[0]


def test_weights_of_another_network_do_not_export(skeleton_copy: Path) -> None:
    torch.save({"other": torch.ones(1)}, skeleton_copy / "models" / "model.pt")
    assert run_check("export", skeleton_copy) != []


def test_a_card_that_drifted_is_found(skeleton_copy: Path) -> None:
    card = skeleton_copy / "docs" / "README.md"
    card.write_text(card.read_text(encoding="utf-8").replace("*not measured*", "| 99 dB |", 1))
    (problem,) = run_check("model card", skeleton_copy)
    assert "drifted from its figures" in problem


def test_a_check_leaves_the_bundle_as_it_was(skeleton_copy: Path) -> None:
    before = {path: path.read_bytes() for path in skeleton_copy.rglob("*") if path.is_file()}
    for name in ("workflow properties", "export"):
        run_check(name, skeleton_copy)
    assert {path: path.read_bytes() for path in skeleton_copy.rglob("*") if path.is_file()} == before
