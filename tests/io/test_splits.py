"""Lists to train on and to validate on: they share no subject, and repeat with their seed."""

from __future__ import annotations

from pathlib import Path

import pytest
from record_lists import make

from mdl_monai.errors import InputError
from mdl_monai.io.splits import named_splits, split_by_subject, train_val_records


def test_a_split_by_subject_shares_none_and_repeats_with_its_seed(tmp_path: Path) -> None:
    records = [{"image": f"{n}.nii.gz", "subject": f"p{n // 5}"} for n in range(50)]
    train, val = split_by_subject(records, 0.15, seed=1)
    assert len({r["subject"] for r in val}) == 2 and len(train) == 40
    assert not {r["subject"] for r in train} & {r["subject"] for r in val}
    assert split_by_subject(records, 0.15, seed=1) == (train, val)
    assert any(split_by_subject(records, 0.15, seed=n)[1] != val for n in range(2, 6))


def test_too_few_subjects_or_a_bad_fraction_are_refused() -> None:
    with pytest.raises(InputError, match="two subjects or more"):
        split_by_subject([{"subject": "a"}, {"subject": "a"}], 0.5, 0)
    with pytest.raises(InputError, match="(?s)val_fraction.*found: 2"):
        split_by_subject([{"subject": "a"}, {"subject": "b"}], 2, 0)


def test_training_takes_named_validation_lists_or_sets_subjects_aside(tmp_path: Path) -> None:
    train = [{"image": f"t{n}.nii.gz", "patient": f"p{n // 2}"} for n in range(8)]
    make(tmp_path, {"train": train, "val": [{"image": "v.nii.gz", "patient": "p9"}], "leak": train[:1]})
    named = train_val_records(tmp_path, "train", "val", 0.15, 0)
    assert (len(named["train"]), len(named["val"])) == (8, 1)
    drawn = train_val_records(tmp_path, ["train"], None, 0.25, 0)
    assert (len(drawn["train"]), len(drawn["val"])) == (6, 2)
    with pytest.raises(InputError, match="(?s)share subjects.*p0"):
        train_val_records(tmp_path, "train", "leak", 0.15, 0)


def test_equal_file_names_alone_do_not_make_a_subject(tmp_path: Path) -> None:
    make(tmp_path, {"train": [{"image": "t/1.nii.gz"}], "val": [{"image": "v/1.nii.gz"}]})
    assert train_val_records(tmp_path, "train", "val", 0.15, 0)["val"][0]["case"] == "1"
    make(tmp_path, {"train": [{"image": "t/1.nii.gz"}], "val": [{"image": "t/1.nii.gz"}]})
    with pytest.raises(InputError, match="share subjects"):
        train_val_records(tmp_path, "train", "val", 0.15, 0)


def test_folders_of_images_and_labels_are_split_in_pairs(tmp_path: Path) -> None:
    for name in ("imagesTr/a.nii", "labelsTr/a.nii", "imagesTr/b.nii", "labelsTr/b.nii"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    splits = train_val_records(tmp_path, "train", None, 0.5, 0, "image", "label")
    assert len(splits["train"]) == len(splits["val"]) == 1
    assert all(r["label"] == r["image"].replace("imagesTr", "labelsTr") for rs in splits.values() for r in rs)


def test_records_of_another_tool_are_named_and_our_own_stay() -> None:
    own = [{"image": "/a/x.nii", "case": "first", "subject": "p1"}]
    others = [{"image": "/b/x.nii"}, {"image": "/c/x.nii", "label": "/c/y.nii"}]
    named = named_splits({"train": own, "val": others})
    assert named["train"] == own and named["train"][0] is not own[0]
    assert [r["case"] for r in named["val"]] == ["b_x", "c_x"]
    assert named["val"][1]["label"] == "/c/y.nii" and "case" not in others[0]
