"""Check a bundle before it is released: files, metadata, configs, weights, export and card.

::

    python -m mdl_monai.release.check bundles/NAME

prints one line a check and exits with 1 if one failed. No data is needed: the workflows are built on phantoms
in a temporary folder.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from jsonschema import Draft202012Validator
from monai.bundle import verify_net_in_out

from mdl_monai.errors import InputError
from mdl_monai.release.exports import write_torchscript
from mdl_monai.release.figures import load_json
from mdl_monai.release.flatten import SOURCES, drifted
from mdl_monai.release.model_card import render_card
from mdl_monai.release.stand_in_data import workflow_in, write_stand_in_data

MAX_WEIGHT_BYTES = 25 * 2**20
SCHEMA = Path(__file__).with_name("metadata_schema.json")
REQUIRED_FILES = (
    "LICENSE",
    *(
        f"configs/{name}.yaml"
        for name in ("common", "train", "inference", "evaluate", "multi_gpu_train", "multi_gpu_evaluate")
    ),
    *(f"configs/{name}" for name in SOURCES),
    "configs/metadata.json",
    "configs/logging.conf",
    "docs/README.md",
    "docs/data_license.txt",
    "models/LICENSE",
    "models/model.pt",
)


def check_files(bundle: Path) -> list[str]:
    """Every required file is there and has content."""
    paths = [bundle / name for name in REQUIRED_FILES]
    return [f"{path} is missing or empty" for path in paths if not path.is_file() or not path.stat().st_size]


def check_no_code(bundle: Path) -> list[str]:
    """The bundle holds no Python: code is in the package, where every way of loading a bundle finds it."""
    return [f"{path} is code: move it to the package" for path in sorted(bundle.rglob("*.py*"))]


def check_metadata(bundle: Path) -> list[str]:
    """The metadata satisfies our schema, names its folder and has an entry for its version."""
    metadata = load_json(bundle / "configs" / "metadata.json")
    problems = [
        f"{'#'.join(map(str, error.absolute_path)) or 'metadata'}: {error.message}"
        for error in Draft202012Validator(load_json(SCHEMA)).iter_errors(metadata)
    ]
    if not problems and metadata["version"] not in metadata["changelog"]:
        problems.append(f"version {metadata['version']} has no entry in changelog")
    if not problems and metadata["name"] != bundle.resolve().name:
        problems.append(f"name is {metadata['name']}, the folder is {bundle.resolve().name}")
    return problems


def check_flattened(bundle: Path) -> list[str]:
    """The flattened configs are what their sources give."""
    return [f"{path} drifted from its sources: run `make flatten`" for path in drifted(bundle)]


def check_weights(bundle: Path) -> list[str]:
    """All weights are small enough for git and plain dictionaries of CPU tensors."""
    problems = []
    for path in sorted((bundle / "models").glob("*.pt")):
        if path.stat().st_size > MAX_WEIGHT_BYTES:
            problems.append(f"{path} has {path.stat().st_size / 2**20:.1f} MiB, at most 25 fit into git")
        state = torch.load(path, weights_only=True)  # no map_location: weights stored on a GPU must show
        if not isinstance(state, dict):
            problems.append(f"{path} holds a {type(state).__name__}, not a state_dict")
            continue
        for name, value in state.items():
            if not isinstance(value, torch.Tensor) or value.device.type != "cpu":
                problems.append(f"{path}: {name} is not a CPU tensor")
    return problems


def check_properties(bundle: Path) -> list[str]:
    """The train and inference workflows have the properties that MONAI's consumers ask for."""
    problems = []
    for name, kind in (("train", "train"), ("inference", "infer")):
        with tempfile.TemporaryDirectory() as folder:
            config = bundle / "configs" / f"{name}.json"
            # phantoms need no registration
            workflow = workflow_in(folder, config, workflow_type=kind, registration="none")
            handlers = workflow.parser.get("train#handlers", [])
            if any(isinstance(handler, str) for handler in handlers):  # MONAI's check ends in a TypeError
                problems.append("train#handlers holds a reference: put the handler's `_target_` there")
                continue
            # tools put handlers of their own before
            if "@train#handlers#" in config.read_text(encoding="utf-8"):
                problems.append("a handler is referred to by its place in train#handlers: give it a name")
            write_stand_in_data(Path(folder, "data"), workflow.parser, size=48)
            workflow.initialize()
            problems += [f"{name}.json: property {item}" for item in workflow.check_properties() or []]
    return problems


def check_network(bundle: Path) -> list[str]:
    """`network_def` maps the tensor `image` of the metadata to its tensor `pred`."""
    verify_net_in_out(
        "network_def",
        meta_file=str(bundle / "configs" / "metadata.json"),
        config_file=str(bundle / "configs" / "inference.json"),
        device="cpu",
        n=2,
        p=5,
        any=48,
    )
    return []


def check_export(bundle: Path) -> list[str]:
    """`network_def` exports to TorchScript with the weights."""
    with tempfile.TemporaryDirectory() as folder:
        write_torchscript(bundle, Path(folder, "model.ts"))
    return []


def check_card(bundle: Path) -> list[str]:
    """The tables of the model card are what the saved figures give."""
    card = bundle / "docs" / "README.md"
    if render_card(bundle) == card.read_text(encoding="utf-8"):
        return []
    return [f"{card} drifted from its figures: run `make flatten`"]


CHECKS: dict[str, Callable[[Path], list[str]]] = {
    "files": check_files,
    "no code": check_no_code,
    "metadata": check_metadata,
    "flattened configs": check_flattened,
    "weights": check_weights,
    "workflow properties": check_properties,
    "network input and output": check_network,
    "export": check_export,
    "model card": check_card,
}


def run_check(name: str, bundle: Path) -> list[str]:
    """Return the problems that check ``name`` finds; an exception inside it is a problem, too."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch.jit's and MONAI's own deprecations
            return CHECKS[name](bundle)
    except Exception as error:  # one broken part must not hide the checks of the others
        cause: BaseException = error
        while deeper := cause.__cause__ or cause.__context__:  # MONAI wraps what a config raises
            cause = deeper
        return [f"{type(cause).__name__}: {cause}"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m mdl_monai.release.check",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("bundles", nargs="+", type=Path, help="folders of bundles")
    options = parser.parse_args(arguments)
    failed = 0
    for bundle in options.bundles:
        if not bundle.is_dir():
            raise InputError("the bundle does not exist", where=bundle)
        for name in CHECKS:
            problems = run_check(name, bundle)
            failed += bool(problems)
            sys.stdout.write(f"{'FAIL' if problems else 'ok  '} {bundle.name}: {name}\n")
            sys.stdout.writelines(f"       {problem}\n" for problem in problems)
            sys.stdout.flush()
    return 1 if failed else 0


if __name__ == "__main__":
    logging.disable(logging.WARNING)  # MONAI warns in the log of what is reported here
    sys.exit(main())
