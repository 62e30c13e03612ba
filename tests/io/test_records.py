from __future__ import annotations

import json
from pathlib import Path

import pytest
from record_lists import make

from mdl_monai.errors import InputError
from mdl_monai.io.records import load_records


def test_records_get_absolute_paths_a_case_and_a_subject(tmp_path: Path) -> None:
    make(
        tmp_path,
        {"name": "set", "test": [{"image": "a/x.nii.gz", "patient": 7}], "more": [{"image": "a/y.nii.gz"}]},
    )
    first, second = load_records(tmp_path, ["test", "more"])
    assert first["image"] == str(tmp_path / "a" / "x.nii.gz")
    assert (first["case"], first["subject"], first["subject_unit"]) == ("x", "7", "patient")
    assert (second["case"], second["subject"], second["subject_unit"]) == ("y", "y", "case")


def test_equal_file_names_in_two_folders_give_two_cases(tmp_path: Path) -> None:
    make(tmp_path, {"test": [{"image": "a/x.nii.gz"}, {"image": "b/x.nii.gz"}]})
    assert [r["case"] for r in load_records(tmp_path, "test")] == ["a_x", "b_x"]


def test_files_outside_the_folder_get_a_case_that_is_no_path(tmp_path: Path) -> None:
    for name in ("x", "y"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "t1.nii.gz").touch()
    inside = tmp_path / "set"
    inside.mkdir()
    files = [str(tmp_path / name / "t1.nii.gz") for name in ("x", "y")]
    (inside / "dataset.json").write_text(json.dumps({"test": [{"image": f} for f in files]}))
    cases = [r["case"] for r in load_records(inside, "test")]
    assert len(set(cases)) == 2 and not any("/" in case for case in cases)


def test_an_unknown_patient_is_a_case_of_its_own_and_numbers_name_splits(tmp_path: Path) -> None:
    make(tmp_path, {"0": [{"image": "a.nii.gz", "patient": None}, {"image": "b.nii.gz", "patient": None}]})
    records = load_records(tmp_path, 0)  # type: ignore[arg-type]
    assert [r["subject"] for r in records] == ["a", "b"] and records[0]["subject_unit"] == "case"


def test_cases_are_left_out_by_name(tmp_path: Path) -> None:
    make(tmp_path, {"test": [{"image": "a.nii.gz"}, {"image": "b.nii.gz"}]})
    assert [r["case"] for r in load_records(tmp_path, "test", leave_out=["a"])] == ["b"]
    with pytest.raises(InputError, match="(?s)leave out is not in the split.*found: c"):
        load_records(tmp_path, "test", leave_out=["c"])


def test_records_are_kept_by_the_values_that_they_must_have(tmp_path: Path) -> None:
    make(tmp_path, {"test": [{"image": f"{v}.nii.gz", "view": v} for v in ("axial", "coronal")]})
    assert [r["case"] for r in load_records(tmp_path, "test", only={"view": "coronal"})] == ["coronal"]
    for every in (None, "null"):
        assert len(load_records(tmp_path, "test", only={"view": every})) == 2
    with pytest.raises(InputError, match=r"(?s)no record has the view 'oblique'.*axial, coronal"):
        load_records(tmp_path, "test", only={"view": "oblique"})


def test_every_reference_of_a_record_is_resolved_and_asked_for(tmp_path: Path) -> None:
    make(tmp_path, {"test": [{"mr": "a.nii.gz", "ct": "b.nii.gz", "mask": "c.nii.gz"}]})
    (record,) = load_records(tmp_path, "test", "mr", ["ct", "mask"])
    assert [record[key] for key in ("ct", "mask")] == [str(tmp_path / f"{n}.nii.gz") for n in "bc"]
    with pytest.raises(InputError, match="no 'dose'"):
        load_records(tmp_path, "test", "mr", ["ct", "dose"])


def test_a_plain_folder_is_read_in_order(tmp_path: Path) -> None:
    for name in ("b.nii", "a.nii.gz", "notes.txt", "c.mrd", "d.hdf5"):
        (tmp_path / name).touch()
    assert [r["case"] for r in load_records(tmp_path, "anything")] == ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    ("content", "split", "message"),
    [
        ({"test": []}, "test", "the split is empty"),
        ({"test": [{"image": "x.nii.gz"}]}, "tset", "unknown split 'tset'.*expected: one of test.*--split"),
        ({"test": [{"mr": "x.nii.gz"}]}, "test", "record 0 has no 'image'.*keys mr.*--image_key"),
        ({"test": [{"image": "x.nii.gz"}, {"image": "x.nii.gz"}]}, "test", "listed twice"),
    ],
)
def test_a_bad_list_is_refused_with_its_remedy(
    tmp_path: Path, content: dict, split: str, message: str
) -> None:
    with pytest.raises(InputError, match=f"(?s){message}"):
        load_records(make(tmp_path, content), split)


def test_a_missing_file_folder_or_broken_json_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="(?s)holds no images.*expected: a dataset.json"):
        load_records(tmp_path, "test")
    with pytest.raises(InputError, match="(?s)folder does not exist.*nowhere"):
        load_records(tmp_path / "nowhere", "test")
    (tmp_path / "dataset.json").write_text('{"test": [{"image": "gone.nii.gz"}]}')
    with pytest.raises(InputError, match=r"(?s)file of the data set is missing.*gone\.nii\.gz"):
        load_records(tmp_path, "test")
    (tmp_path / "dataset.json").write_text("{")
    with pytest.raises(InputError, match="not valid JSON"):
        load_records(tmp_path, "test")


def test_names_that_no_file_can_have_and_endless_lists_are_refused(tmp_path: Path) -> None:
    for name in ("x" * 5000, "a\0b.nii"):
        with pytest.raises(InputError, match="missing"):
            load_records(make(tmp_path, {"test": [{"image": name}]}), "test")
    (tmp_path / "dataset.json").write_text("[" * 10**5, encoding="utf-8")
    with pytest.raises(InputError, match="not valid JSON"):
        load_records(tmp_path, "test")


def make_pairs(folder: Path, names: dict[str, list[str]]) -> Path:
    for sub, files in names.items():
        (folder / sub).mkdir()
        for name in files:
            (folder / sub / name).touch()
    return folder


def test_folders_of_images_and_labels_with_equal_names_are_paired(tmp_path: Path) -> None:
    make_pairs(
        tmp_path,
        {
            "imagesTr": ["a.nii.gz", "b.nii", "._a.nii.gz", "notes.txt"],
            "labelsTr": ["a.nii.gz", "b.nii"],
            "imagesTs": ["c.nii.gz"],
        },
    )
    a, b = load_records(tmp_path, "train", "image", "label")
    assert (a["case"], b["case"]) == ("a", "b")
    assert a["label"] == str(tmp_path / "labelsTr" / "a.nii.gz")
    assert [r["case"] for r in load_records(tmp_path, "test")] == ["c"]
    with pytest.raises(InputError, match=r"(?s)no label map.*labelsTs.*c\.nii\.gz"):
        load_records(tmp_path, "test", "image", "label")
    with pytest.raises(InputError, match=r"(?s)unknown split 'val'.*train \(imagesTr\)"):
        load_records(tmp_path, "val")
