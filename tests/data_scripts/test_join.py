"""Joined data sets: their own patients, names that tell them apart, and no file moved."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from join import main

from mdl_monai.errors import InputError
from mdl_monai.io.records import load_records


@pytest.fixture
def sets(tmp_path: Path) -> Path:
    for name, patient in (("first", "p1"), ("second", None)):
        folder = tmp_path / "data" / name
        folder.mkdir(parents=True)
        records = []
        for n in range(5):
            (folder / f"im{n}.png").write_bytes(b"")
            records.append({"image": f"im{n}.png", **({"patient": patient} if patient else {})})
        (folder / "dataset.json").write_text(
            json.dumps({"all": records, "some": records[:2]}), encoding="utf-8"
        )
    return tmp_path


def test_lists_of_two_sets_with_equal_names_become_one(sets: Path) -> None:
    data, out = sets / "data", sets / "runs" / "joined"
    main(
        [
            "--output_dir",
            str(out),
            "--train",
            f"{data}/first:all:2",
            f"{data}/second:some",
            "--val",
            f"{data}/first:some",
        ]
    )
    records = load_records(out, "train")
    assert [Path(r["image"]).resolve().relative_to(data).as_posix() for r in records] == [
        "first/im0.png", "first/im2.png", "first/im4.png", "second/im0.png", "second/im1.png",
    ]  # fmt: skip
    assert [r["subject"] for r in records] == ["first/p1"] * 3 + ["second/im0", "second/im1"]
    cases = [r["case"] for r in records]
    assert len(set(cases)) == 5 and not any(case.startswith(".") for case in cases)
    assert len(load_records(out, "val")) == 2


@pytest.mark.parametrize("named", ["first", "first:all:0", "first:all:x", "first:other", "third:all"])
def test_what_names_no_list_ends_in_one_sentence(named: str, sets: Path) -> None:
    with pytest.raises(InputError):
        main(["--output_dir", str(sets / "out"), "--train", f"{sets / 'data'}/{named}"])
    assert not (sets / "out").exists()
