from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from mdl_monai.errors import InputError
from mdl_monai.io.segmentation_plan import MAX_PATCH_VOXELS, plan_of_data, plan_of_weights

DEFAULT: dict[str, Any] = {
    "labels": [1, 2],
    "spacing": [1.0, 1.0, 1.0],
    "patch_size": [16, 16, 16],
    "features": [4, 8, 16],
    "mirror": True,
}


def save_case(
    folder: Path, name: str, shape: tuple[int, ...], labels: list[int], mm: tuple[float, ...] = (1, 1, 1)
) -> dict[str, str]:
    """An image and a label map that holds the labels, array axes superior, right, anterior."""
    affine = np.zeros((4, 4))
    affine[2, 0], affine[0, 1], affine[1, 2], affine[3, 3] = mm[0], mm[1], mm[2], 1
    label = np.zeros(shape, np.uint8)
    label.ravel()[: len(labels)] = labels
    rng = np.random.default_rng(0)
    nib.save(nib.Nifti1Image(rng.random(shape).astype(np.float32), affine), folder / f"{name}.nii.gz")
    nib.save(nib.Nifti1Image(label, affine), folder / f"{name}_label.nii.gz")
    return {"image": f"{name}.nii.gz", "label": f"{name}_label.nii.gz"}


def plan(folder: Path, **options: Any) -> dict[str, Any]:
    return plan_of_data(folder, "train", "image", "label", DEFAULT, **options)


def listing(folder: Path, records: list[dict[str, str]], **more: Any) -> None:
    (folder / "dataset.json").write_text(json.dumps({"train": records, **more}))


def test_labels_spacing_and_patch_come_from_the_data_in_world_axes(tmp_path: Path) -> None:
    records = [
        save_case(tmp_path, "a", (6, 20, 31), [3, 7], (5.0, 2.0, 1.0)),
        save_case(tmp_path, "b", (7, 22, 33), [7], (5.0, 2.0, 1.0)),
        save_case(tmp_path, "c", (6, 21, 30), [3], (4.0, 1.5, 1.0)),
    ]
    listing(tmp_path, records)
    found = plan(tmp_path)
    assert found["labels"] == [3, 7]
    assert found["spacing"] == [2.0, 1.0, 5.0]  # right, anterior, superior
    assert found["patch_size"] == [20, 32, 8]  # median size 20 x 31 x 6 in multiples of 4
    assert found["features"] == DEFAULT["features"] and found["names"] == {}


def test_options_win_and_the_rest_follows_them(tmp_path: Path) -> None:
    listing(tmp_path, [save_case(tmp_path, "a", (10, 20, 31), [3])])
    found = plan(tmp_path, spacing=[2, 2, 2], features=(4, 8), labels="null", patch_size=None)
    assert found["spacing"] == [2.0, 2.0, 2.0] and found["labels"] == [3]
    assert found["patch_size"] == [10, 16, 6] and found["features"] == [4, 8]


@pytest.mark.parametrize(
    "names", [{"0": "nothing", "2": "tail", "1": "head"}, {"nothing": 0, "head": 1, "tail": 2}]
)
def test_the_listing_names_the_labels_in_either_form(tmp_path: Path, names: dict[str, Any]) -> None:
    listing(tmp_path, [save_case(tmp_path, "a", (9, 8, 7), [1, 2])], labels=names)
    assert plan(tmp_path)["labels"] == [1, 2]
    assert plan(tmp_path)["names"] == {"1": "head", "2": "tail"}


def test_a_patch_stays_within_memory(tmp_path: Path) -> None:
    listing(tmp_path, [save_case(tmp_path, "a", (90, 130, 110), [1])])
    patch = plan(tmp_path)["patch_size"]
    assert np.prod(patch) <= MAX_PATCH_VOXELS < np.prod(patch) * 1.1 and all(n % 4 == 0 for n in patch)


def test_unknown_and_missing_labels_are_named(tmp_path: Path) -> None:
    listing(tmp_path, [save_case(tmp_path, "a", (9, 8, 7), [1, 4])])
    with pytest.raises(
        InputError, match=r"(?s)unknown label.*a_label\.nii\.gz.*expected: 0 and 1\n.*found: 4"
    ):
        plan(tmp_path, labels=[1])
    with pytest.raises(InputError, match=r"(?s)no case holds.*expected: 1, 2, 4.*found: 1, 4"):
        plan(tmp_path, labels=[1, 2, 4])
    listing(tmp_path, [save_case(tmp_path, "a", (9, 8, 7), [])])
    with pytest.raises(InputError, match=r"(?s)no case holds.*background alone"):
        plan(tmp_path)


def test_without_a_data_set_the_network_is_the_bundles_own(tmp_path: Path) -> None:
    assert plan(tmp_path / "nowhere") == DEFAULT


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("spacing", [1, 1]),
        ("spacing", [1, 0, 1]),
        ("patch_size", "large"),
        ("labels", []),
        ("labels", [1, 1]),
        ("labels", [0, 1]),
    ],
)
def test_options_that_are_no_plan_are_refused(name: str, value: object, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"{name} is no list|named twice"):
        plan_of_weights(tmp_path / "model.pt", DEFAULT, **{name: value})


def test_weights_bring_their_plan_and_options_still_win(tmp_path: Path) -> None:
    assert plan_of_weights(tmp_path / "model.pt", DEFAULT) == DEFAULT
    (tmp_path / "plan.json").write_text(json.dumps({**DEFAULT, "labels": [9]}))
    assert plan_of_weights(tmp_path / "model.pt", DEFAULT)["labels"] == [9]
    assert plan_of_weights(tmp_path / "model.pt", DEFAULT, labels=(3, 4))["labels"] == [3, 4]
    assert plan_of_weights(tmp_path / "model.pt", DEFAULT, mirror="false")["mirror"] is False
    (tmp_path / "plan.json").write_text("{")
    with pytest.raises(InputError, match="not valid JSON"):
        plan_of_weights(tmp_path / "model.pt", DEFAULT)
