"""Write the skeleton of a new bundle: it has the shape of all, trains, evaluates and passes the checks.

::

    python -m mdl_monai.release.new_bundle NAME --task "what it does in one sentence" [--into bundles]

Its stand-in task maps an image to itself through one convolution; every part is there to be replaced.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from monai.bundle import ConfigParser

from mdl_monai.errors import InputError
from mdl_monai.release.flatten import SOURCES, flatten_config
from mdl_monai.release.model_card import render_card

SKELETON = Path(__file__).with_name("skeleton")


def new_bundle(name: str, task: str, into: Path) -> Path:
    """Write the bundle ``into``/``name`` and return it.

    Raises:
        InputError: a name that MONAI or a package index would misread, an empty task, a folder that exists.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or "_v" in name:
        raise InputError(
            "the name of the bundle is not usable",
            expected="a letter, then a-z, 0-9 and _, without `_v`, where MONAI would cut it",
            found=name,
            remedy="name it <organ>_<modality>_<task>",
        )
    if not task.strip() or "\n" in task:
        raise InputError("the task is not one line of text", found=repr(task))
    bundle = into / name
    if bundle.exists():
        raise InputError("the bundle exists", where=bundle, remedy="choose another name, or remove it first")
    into.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=into, prefix=f".{name}.") as folder:  # complete, or not there at all
        draft = Path(folder, name)
        for source in sorted(path for path in SKELETON.rglob("*") if path.is_file()):
            target = draft / source.relative_to(SKELETON)
            target.parent.mkdir(parents=True, exist_ok=True)
            text = source.read_text(encoding="utf-8").replace("BUNDLE_NAME", name)
            line = json.dumps(task)[1:-1] if source.suffix == ".json" else task
            target.write_text(text.replace("BUNDLE_TASK", line), encoding="utf-8")
        for config in SOURCES:
            (draft / "configs" / config).write_text(flatten_config(draft, config), encoding="utf-8")
        (draft / "docs" / "README.md").write_text(render_card(draft), encoding="utf-8")
        _save_untrained_weights(draft)
        shutil.move(draft, bundle)
    return bundle


def _save_untrained_weights(bundle: Path) -> None:
    parser = ConfigParser()
    parser.read_config(bundle / "configs" / "inference.json")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = parser.get_parsed_content("network_def")
    torch.save(network.state_dict(), bundle / "models" / "model.pt")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m mdl_monai.release.new_bundle",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", help="<organ>_<modality>_<task>")
    parser.add_argument("--task", required=True, help="what the bundle does, in one sentence")
    parser.add_argument("--into", type=Path, default=Path("bundles"), help="folder of the bundles")
    options = parser.parse_args(arguments)
    sys.stdout.write(f"{new_bundle(options.name, options.task, options.into)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
