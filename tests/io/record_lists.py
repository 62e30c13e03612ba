"""A data set of empty files, listed in its dataset.json."""

from __future__ import annotations

import json
from pathlib import Path


def make(folder: Path, content: dict) -> Path:
    for records in content.values():
        for record in records if isinstance(records, list) else []:
            for name in record.values():
                if str(name).endswith(".nii.gz"):
                    (folder / name).parent.mkdir(parents=True, exist_ok=True)
                    (folder / name).touch()
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder
