"""Join lists of several data sets into one, whose images stay where they are.

    python data_scripts/join.py --output_dir data/mri_mixture --train data/csmri:chest_train data/sunnybrook:train \\
        --val data/csmri:open_ms_val:4

Each list is `FOLDER:LIST`, or `FOLDER:LIST:N` for every N-th record of it. The records of `OUTPUT_DIR/dataset.json`
hold the path of the image, relative to OUTPUT_DIR, and the patient, with the data set's name before it.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

from mdl_monai.errors import InputError
from mdl_monai.io.atomic import atomic_write_text
from mdl_monai.io.records import load_records


def joined(output_dir: Path, lists: list[str], image_key: str) -> list[dict[str, str]]:
    """Records of all lists, one behind the other.

    Raises:
        InputError: a list is not named as it should be, or what `load_records` refuses.
    """
    records = []
    for name in lists:
        folder, _, rest = name.partition(":")
        split, _, step = rest.partition(":")
        if not split or not (step or "1").isdecimal() or int(step or 1) < 1:
            raise InputError("this names no list", expected="FOLDER:LIST or FOLDER:LIST:N", found=name)
        source = Path(folder).resolve().name
        for record in load_records(folder, split, image_key)[:: int(step or 1)]:
            path = os.path.relpath(record[image_key], output_dir.resolve())
            records.append({"image": path, "patient": f"{source}/{record['subject']}"})
    return records


def main(arguments: list[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--train", nargs="+", required=True, help="lists to train on")
    parser.add_argument("--val", nargs="+", default=[], help="lists to choose on")
    parser.add_argument("--image_key", default="image")
    options = parser.parse_args(arguments)
    splits = {
        name: joined(options.output_dir, getattr(options, name), options.image_key)
        for name in ("train", "val")
    }
    atomic_write_text(options.output_dir / "dataset.json", json.dumps(splits, indent=1) + "\n")
    print(", ".join(f"{len(listed)} {split}" for split, listed in splits.items()), "in", options.output_dir)


if __name__ == "__main__":
    main()
