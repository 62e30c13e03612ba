"""Phantom data sets that fit a config: its lists, keys, label values and number of axes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from monai.bundle import ConfigParser

from mdl_monai.release.stand_in_data import write_stand_in_data


def written(folder: Path, n_axes: int, **config: Any) -> dict[str, list[dict[str, str]]]:
    border = {"inputs": {"image": {"spatial_shape": ["*"] * n_axes}}}
    parser = ConfigParser({"image_key": "scan", **config, "_meta_": {"network_data_format": border}})
    write_stand_in_data(folder / "data", parser, size=40, n_subjects=2)
    listing: dict[str, list[dict[str, str]]] = json.loads(
        (folder / "data" / "dataset.json").read_text(encoding="utf-8")
    )
    return listing


def values(folder: Path, name: str) -> set[int]:
    return set(np.unique(np.asarray(nib.load(folder / "data" / name).dataobj)).tolist())


def test_every_list_that_the_config_names_is_there_once_with_its_own_patients(tmp_path: Path) -> None:
    names = {"train_split": ["a", "b"], "val_split": None, "split": ["c", "b"], "atlas_split": "@train_split"}
    listing = written(tmp_path, 2, **names)
    assert list(listing) == ["a", "b", "c"]
    patients = [record["patient"] for records in listing.values() for record in records]
    assert patients == [f"phantom{n}" for n in range(6)]
    assert all(set(record) == {"scan", "patient"} for records in listing.values() for record in records)


def test_atlases_are_a_list_of_their_own(tmp_path: Path) -> None:
    assert list(written(tmp_path, 2, train_split="train", split="test", atlas_split="atlases")) == [
        "train",
        "test",
        "atlases",
    ]


@pytest.mark.parametrize(
    ("n_axes", "labels", "found"),
    [
        (2, [1], {0, 1}),
        (2, [7, 9], {0, 7}),
        (3, None, {0, 1, 2}),
        (3, [5, 300], {0, 5, 300}),
        (3, [4], {0, 4}),
    ],
)
def test_label_maps_hold_the_values_of_the_config(
    tmp_path: Path, n_axes: int, labels: list[int] | None, found: set[int]
) -> None:
    listing = written(tmp_path, n_axes, split="test", label_key="seg", labels=labels)
    for record in listing["test"]:
        image, label = (nib.load(tmp_path / "data" / record[key]) for key in ("scan", "seg"))
        assert image.shape == label.shape == (40,) * n_axes
        np.testing.assert_array_equal(image.affine, label.affine)
        assert values(tmp_path, record["seg"]) == found


@pytest.mark.parametrize(
    ("spacing", "voxel_mm"), [([1.0, 1.5, 2.0], (1.0, 1.5, 2.0)), (None, (5.2, 5.2, 5.2))]
)
def test_volumes_have_the_voxels_that_the_config_asks_for(
    tmp_path: Path, spacing: list[float] | None, voxel_mm: tuple[float, ...]
) -> None:
    (record, _) = written(tmp_path, 3, split="test", spacing=spacing)["test"]
    zooms = nib.load(tmp_path / "data" / record["scan"]).header.get_zooms()
    np.testing.assert_allclose(zooms, voxel_mm, rtol=1e-5)


def test_heads_with_a_ct_are_slices_on_one_grid(tmp_path: Path) -> None:
    config = {"train_split": "train", "image_key": "mr", "ct_key": "ct", "mask_key": "mask"}
    for record in written(tmp_path, 2, **config)["train"]:
        mr, ct, mask = (nib.load(tmp_path / "data" / record[key]) for key in ("mr", "ct", "mask"))
        assert mr.shape == ct.shape == mask.shape == (40, 40, 1)
        assert np.array_equal(mr.affine, ct.affine)
        assert ct.get_fdata().min() < -900 and set(np.unique(mask.get_fdata())) == {0, 1}
