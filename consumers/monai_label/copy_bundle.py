"""Copy a bundle for MONAI Label, with options of your own: its tasks take a folder and no options.

python copy_bundle.py BUNDLE FOLDER --image_key image --atlas_dir /data/atlases
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

TRAINED = {  # where MONAI Label looks for weights; each training starts from those, not within the one before
    "output_dir": "$@bundle_root + '/models'",
    "resume": False,
}


def copy_bundle(bundle: Path, folder: Path, **options: Any) -> Path:
    """Copy `bundle` into `folder` and set `options` in its two generated configs; return the copy.

    Raises:
        KeyError: an option that neither config has.
    """
    copy = Path(shutil.copytree(bundle, folder / bundle.name))
    known: set[str] = set()
    for name, own in (("inference.json", {}), ("train.json", TRAINED)):
        file = copy / "configs" / name
        config = json.loads(file.read_text(encoding="utf-8"))
        chosen = {key: value for key, value in {**own, **options}.items() if key in config}
        known |= chosen.keys()
        config |= chosen
        # MONAI Label sets the trainer's number; the learning rate's schedule follows it
        if name == "train.json":
            trainer = config["train"]["trainer"]
            trainer["max_epochs"], config["max_epochs"] = config["max_epochs"], "@train#trainer#max_epochs"
        file.write_text(json.dumps(config, indent=4) + "\n", encoding="utf-8")
    if unknown := options.keys() - known:
        raise KeyError(f"no option of {bundle.name}: {', '.join(sorted(unknown))}")
    return copy


def _value(text: str) -> Any:
    """JSON as what it says, anything else as text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


if __name__ == "__main__":
    names, values = sys.argv[3::2], sys.argv[4::2]
    if len(sys.argv) < 3 or len(names) != len(values) or not all(name.startswith("--") for name in names):
        sys.exit(__doc__)
    given = {name.removeprefix("--"): _value(value) for name, value in zip(names, values, strict=True)}
    copy_bundle(Path(sys.argv[1]), Path(sys.argv[2]), **given)
