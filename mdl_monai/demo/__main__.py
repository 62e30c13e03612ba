"""Run every bundle's evaluation through `python -m monai.bundle run` and write a page with what came out.

    python -m mdl_monai.demo [--output_dir demo_output] [--bundles_dir bundles]

With MDL_DATA_ROOT set, the bundles run on the real data sets below it, else on embedded inputs.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from mdl_monai.demo.inputs import NO_REFERENCE, SPLIT, write_inputs
from mdl_monai.demo.page import BundleResult, write_page
from mdl_monai.errors import InputError


def run_bundle(bundle: Path, output_dir: Path, data_root: Path | None) -> BundleResult:
    """Evaluate one bundle with its baselines, or run its inference where there is no reference.

    What it needs is in its ``configs/demo.yaml``: its inputs, and if it has any, ``options`` of its command, with
    ``real_options`` on top where it runs on real data.

    Raises:
        InputError: the real data is not there, or the bundle's command failed.
    """
    demo: dict[str, Any] = yaml.safe_load((bundle / "configs" / "demo.yaml").read_text(encoding="utf-8"))
    if data_root is None or "real_dataset" not in demo:
        dataset_dir, split = output_dir / "inputs", SPLIT
        module, function = demo["embedded_inputs"].rsplit(".", 1)
        write_inputs(getattr(importlib.import_module(module), function), dataset_dir)
    else:
        dataset_dir, split = data_root / demo["real_dataset"], demo["real_split"]
        if not dataset_dir.is_dir():
            raise InputError(
                "the real data set is missing",
                where=dataset_dir,
                remedy="get it with data_scripts/, or unset MDL_DATA_ROOT to run on embedded data",
            )
    overlays, options = ["inference", "evaluate"], {"baselines": "true"}
    if NO_REFERENCE in json.loads((dataset_dir / "dataset.json").read_text(encoding="utf-8")):
        overlays, options, split = ["inference"], {}, NO_REFERENCE
    options |= demo.get("options", {}) | (demo.get("real_options", {}) if data_root else {})
    options |= {"dataset_dir": str(dataset_dir), "split": split, "output_dir": str(output_dir)}
    start = time.perf_counter()
    command = _run(bundle, overlays, options)
    return BundleResult(bundle, demo, output_dir, dataset_dir, split, command, time.perf_counter() - start)


def _run(bundle: Path, overlays: Sequence[str], options: Mapping[str, str]) -> str:
    """Run a workflow of the bundle; return the command."""
    configs = [str(bundle / "configs" / f"{name}.yaml") for name in ("common", *overlays)]
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", json.dumps(configs)]
    files = {
        "meta_file": bundle / "configs" / "metadata.json",
        "logging_file": bundle / "configs" / "logging.conf",
    }
    for name, value in {**files, "bundle_root": bundle, **options}.items():
        command += [f"--{name}", str(value)]
    shown = shlex.join(["python", *command[1:]])
    print(f"\n{shown}\n", flush=True)  # noqa: T201
    ended = subprocess.run(command)
    if ended.returncode:
        raise InputError("a bundle of the demo failed", where=bundle, found=f"exit code {ended.returncode}")
    return shown


def main() -> None:
    """Parse the command line and run the demo."""
    parser = argparse.ArgumentParser(prog="python -m mdl_monai.demo", description=__doc__.splitlines()[0])
    parser.add_argument("--output_dir", type=Path, default=Path("demo_output"))
    parser.add_argument("--bundles_dir", type=Path, default=Path("bundles"))
    options = parser.parse_args()
    bundles = sorted(p.parents[1] for p in options.bundles_dir.glob("*/configs/demo.yaml"))
    if not bundles:
        raise InputError(
            "no bundle to show", where=options.bundles_dir, remedy="run it from the project's folder"
        )
    root = os.environ.get("MDL_DATA_ROOT")
    results = [run_bundle(b, options.output_dir / b.name, Path(root) if root else None) for b in bundles]
    page = write_page(options.output_dir / "index.html", results)
    print(f"\nopen {page}")  # noqa: T201


if __name__ == "__main__":
    main()
