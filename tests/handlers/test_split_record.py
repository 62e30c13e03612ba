from __future__ import annotations

import json
from pathlib import Path

from mdl_monai.handlers.split_record import SplitRecord


def test_the_cases_of_each_subject_are_listed(tmp_path: Path) -> None:
    splits = {
        "train": [{"subject": "p1", "case": "a"}, {"subject": "p1", "case": "b"}],
        "val": [{"subject": "p2", "case": "c"}],
    }
    SplitRecord(str(tmp_path), splits)()
    assert json.loads((tmp_path / "split.json").read_text(encoding="utf-8")) == {
        "train": {"p1": ["a", "b"]},
        "val": {"p2": ["c"]},
    }
