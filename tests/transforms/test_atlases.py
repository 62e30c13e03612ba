from __future__ import annotations

import csv
import logging
import multiprocessing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from atlas_cases import (
    LABELS,
    OBLIQUE,
    SIZES,
    Counting,
    CountingAffine,
    Pair,
    fill,
    head,
    library,
    preprocessing,
    record,
    reoriented,
    save,
)
from monai.data import MetaTensor
from monai.transforms import Compose, Invertd
from nibabel.processing import resample_to_output
from torch import Tensor

from mdl_monai.errors import InputError, find_input_error
from mdl_monai.networks.fusion_border import FusionInput, split_fusion_input
from mdl_monai.networks.majority_vote import MajorityVote
from mdl_monai.registration.affine import AffineRegistration
from mdl_monai.registration.demons import SitkDemons
from mdl_monai.registration.volume import RegistrationError, Volume
from mdl_monai.transforms.atlas_library import volume_key
from mdl_monai.transforms.atlases import SELECTION, RegisterAtlasesd, SelectAtlasesd, one_hot


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Five atlases each, in 2D and in 3D."""
    root = tmp_path_factory.mktemp("libraries")
    return {d: save(root / f"{d}D", {f"s{n}": head(n, dims=d) for n in range(5)}) for d in (2, 3)}


def border(made: dict[str, Any], count: int, n_labels: int = 3) -> FusionInput:
    return split_fusion_input(torch.as_tensor(made["image"])[None], count, n_labels)


def voted(way: Compose, record: dict[str, Any], count: int, n_labels: int = 3) -> nib.Nifti1Image:
    """Majority vote on the grid of the record's own image."""
    made = way(record)
    pred = MajorityVote(count, n_labels)(torch.as_tensor(made["image"])[None])[0]
    made["pred"] = MetaTensor(pred, meta={})
    back = Invertd("pred", way, orig_keys="image", nearest_interp=False)(made)["pred"]
    return nib.Nifti1Image(back.argmax(0).numpy().astype(np.uint8), np.asarray(back.affine))


def dice(found: np.ndarray, truth: np.ndarray, label: int = 1) -> float:
    a, b = found == label, truth == label
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("deformed", [False, True])
def test_the_result_is_what_fusion_networks_take(
    folders: dict[int, Path], tmp_path: Path, dims: int, deformed: bool
) -> None:
    atlases = library(folders[dims], tmp_path / "cache", dims)
    stage = SitkDemons(iterations=3) if deformed else None
    way = preprocessing(atlases, 3, dims, deformable=stage)
    made = way(record(tmp_path, head(7, dims=dims)))
    assert sorted(made) == ["image", "native"]
    parts = border(made, 3, dims)  # two labels in 3D, one in 2D, and the background
    size = SIZES[dims]
    assert parts.target.shape == (1, 1, *size) and parts.labels.shape == (1, 3, dims, *size)
    assert (
        made["image"].min() >= 0
        and float(made["image"].max()) < 1.00001
        and made["image"].dtype == torch.float32
    )
    assert torch.equal(
        parts.target, Compose(way.transforms[:5])(record(tmp_path, head(7, dims=dims)))["image"][None]
    )
    torch.testing.assert_close(parts.labels.sum(2), torch.ones_like(parts.valid))
    assert set(parts.valid.unique().tolist()) <= {0, 1} and parts.valid.mean() > 0.7
    for k in range(3):
        seen = parts.valid[0, k] > 0
        alike = torch.corrcoef(torch.stack([parts.images[0, k][seen], parts.target[0, 0][seen]]))[0, 1]
        assert alike > 0.6 and (parts.labels[0, k, 1:].flatten(1).amax(1) > 0.5).all()


def chosen(folder: Path, cache: Path, target: dict[str, Any], count: int = 9) -> set[str]:
    atlases = library(folder, cache)
    steps = preprocessing(atlases, count).transforms[:-1]
    return {atlases.records[k]["case"] for k in Compose(steps)(target)[SELECTION].indices}


def test_an_image_is_never_its_own_atlas(folders: dict[int, Path], tmp_path: Path) -> None:
    every, cache = {f"s{n}" for n in range(5)}, tmp_path / "cache"
    own = folders[3] / "s2.nii.gz"
    assert chosen(folders[3], cache, {"image": str(own), "case": "s2"}) == every - {"s2"}
    # the same file elsewhere, on a grid that preprocessing changes, where the voxels are no longer equal
    turned = {f"s{n}": tuple(reoriented(i, "LPS") for i in head(n)) for n in range(5)}
    turned_folder = save(tmp_path / "turned", turned)
    (tmp_path / "copy.nii.gz").write_bytes((turned_folder / "s3.nii.gz").read_bytes())
    copy = {"image": str(tmp_path / "copy.nii.gz"), "case": "copy"}
    assert chosen(turned_folder, cache, copy) == every - {"s3"}
    # the same voxels in another file
    nib.save(head(4)[0], tmp_path / "uncompressed.nii")
    same = {"image": str(tmp_path / "uncompressed.nii"), "case": "x"}
    assert chosen(folders[3], cache, same) == every - {"s4"}


def test_a_patients_other_images_are_no_atlases_but_equal_names_in_other_sets_are(tmp_path: Path) -> None:
    pairs = {f"s{n}": head(n) for n in range(4)}
    patients = {"s0": {"patient": 7}, "s1": {"patient": "7"}, "s2": {"patient": "8"}}
    folder, cache = save(tmp_path / "a", pairs, **patients), tmp_path / "cache"
    target = record(tmp_path / "b", head(6), "s3")
    assert chosen(folder, cache, {**target, "patient": "7"}) == {"s2", "s3"}
    assert chosen(folder, cache, {**target, "patient": 8}) == {"s0", "s1", "s3"}
    assert chosen(folder, cache, target) == {"s0", "s1", "s2", "s3"}


def test_no_atlas_left_and_counts_below_one_are_refused(tmp_path: Path) -> None:
    folder = save(tmp_path / "a", {"s0": head(0)}, s0={"patient": "p"})
    atlases = library(folder, tmp_path / "cache")
    with pytest.raises(RuntimeError) as caught:
        preprocessing(atlases)({**record(tmp_path, head(1)), "patient": "p"})
    assert "no atlas is left for the target" in str(find_input_error(caught.value))
    with pytest.raises(InputError, match="n_atlases of at least 1"):
        SelectAtlasesd("image", atlases, 0)


def test_a_second_run_registers_nothing_and_gives_the_same_bits(
    folders: dict[int, Path], tmp_path: Path
) -> None:
    target, results = record(tmp_path, head(7)), []
    for expected in ([3], []):
        stage, affine = Counting(), CountingAffine()
        atlases = library(folders[3], tmp_path / "cache", affine=affine)
        results.append(preprocessing(atlases, 3, deformable=stage)(target)["image"])
        assert stage.calls == expected and affine.calls == (5 + 1 + 3 if expected else 0)
    assert torch.equal(*results)


def test_other_options_or_images_are_registered_anew_and_labels_are_not(tmp_path: Path) -> None:
    pairs = {f"s{n}": head(n) for n in range(3)}
    folder, target = save(tmp_path / "a", pairs), record(tmp_path, head(7))

    def computed(stage: Any, affine: Any = None, target: dict[str, Any] = target) -> tuple[list[int], Tensor]:
        stage.calls.clear()
        atlases = library(folder, tmp_path / "cache", affine=affine or CountingAffine())
        made = preprocessing(atlases, 3, deformable=stage)(target)["image"]
        return list(stage.calls), torch.as_tensor(made)

    calls, first = computed(Counting())
    assert calls == [3] and computed(Counting())[0] == []
    assert computed(Counting(shift=0.4))[0] == [3]
    assert computed(Counting(), CountingAffine(iterations=29))[0] == [3]
    assert computed(Counting(), target=record(tmp_path, head(8), "other"))[0] == [3]
    label = np.asarray(pairs["s1"][1].dataobj).copy()
    label[label == 2] = 1
    save(folder, {**pairs, "s1": (pairs["s1"][0], nib.Nifti1Image(label, pairs["s1"][1].affine))})
    calls, relabelled = computed(Counting())
    assert calls == [] and not torch.equal(first, relabelled)
    # another image in place of one that is not the template: only that one is registered
    save(folder, {**pairs, "s2": head(2, (1, 0, 0))})
    assert computed(Counting())[0] == [1]


def test_an_interrupted_run_goes_on_with_what_is_missing(folders: dict[int, Path], tmp_path: Path) -> None:
    target, cache = record(tmp_path, head(7)), tmp_path / "cache"
    preprocessing(library(folders[3], cache), 2, deformable=Counting())(target)
    stage = Counting()
    preprocessing(library(folders[3], cache), 4, deformable=stage)(target)
    assert stage.calls == [2]
    entries = sorted(cache.rglob("*.npz"), key=lambda p: p.stat().st_size)
    entries[-1].write_bytes(entries[-1].read_bytes()[:-40])  # torn: the largest is a displacement
    stage = Counting()
    preprocessing(library(folders[3], cache), 4, deformable=stage)(target)
    assert stage.calls == [1]


def test_two_processes_fill_one_cache_at_once(folders: dict[int, Path], tmp_path: Path) -> None:
    target, cache = record(tmp_path, head(7)), tmp_path / "cache"
    spawn = multiprocessing.get_context("spawn")
    runs = [
        spawn.Process(target=fill, args=(folders[3], cache, target, tmp_path / f"{n}.npy")) for n in range(2)
    ]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    assert [run.exitcode for run in runs] == [0, 0]
    stored = {p: p.read_bytes() for p in cache.rglob("*") if p.is_file()}
    fill(folders[3], cache, target, tmp_path / "after.npy")
    assert {p: p.read_bytes() for p in cache.rglob("*") if p.is_file()} == stored
    assert len(stored) == 5 + 1 + 3 and all(p.suffix == ".npz" and p.name[0] != "." for p in stored)
    results = [np.load(tmp_path / f"{n}.npy") for n in (0, 1, "after")]
    assert all(np.array_equal(results[0], other) for other in results[1:])


def test_missing_atlases_are_filled_up_with_validity_0(folders: dict[int, Path], tmp_path: Path) -> None:
    atlases = library(folders[3], tmp_path / "cache")
    target = record(tmp_path, head(7))
    some, more = (border(preprocessing(atlases, n)(target), n) for n in (5, 8))
    assert more.valid.shape[1] == 8 and not more.valid[:, 5:].any()
    for a, b in zip(some, more, strict=True):
        assert torch.equal(a, b[:, :5])
    torch.testing.assert_close(MajorityVote(8, 3)(preprocessing(atlases, 8)(target)["image"][None])[0],
                               MajorityVote(5, 3)(preprocessing(atlases, 5)(target)["image"][None])[0])  # fmt: skip


class Refusing:
    """A stage that fails for the images whose keys it knows, in one way or another."""

    def __init__(self, keys: Sequence[str], way: str = "raises") -> None:
        self.keys, self.way = tuple(keys), way

    def __call__(self, target: Volume, atlases: Sequence[Volume], affines: Tensor) -> Tensor:
        out = torch.zeros(len(atlases), *target.values.shape, target.dims)
        for k, atlas in enumerate(atlases):
            if volume_key(atlas) in self.keys:
                if self.way == "raises":
                    raise RegistrationError("no way was found")
                out[k] = float("nan")
        return out


@pytest.mark.parametrize("way", ["raises", "NaN"])
def test_a_failed_atlas_is_left_out_with_a_warning_also_from_the_cache(
    folders: dict[int, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture, way: str
) -> None:
    atlases = library(folders[3], tmp_path / "cache")
    bad = [volume_key(atlases[k].image) for k in (1, 3)]
    target = record(tmp_path, head(7), "t7")
    stage = Refusing(bad, way)
    for _ in range(2):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            parts = border(
                preprocessing(atlases, 5, deformable=stage, output_dir=tmp_path / "out")(target), 5
            )
        told = [r.message for r in caplog.records if r.name.startswith("mdl_monai")]
        assert len(told) == 1 and told[0].startswith("t7: 2 of 5 atlases left out: s")
        assert ("no way was found" if way == "raises" else "NaN or infinite") in told[0]
        with (tmp_path / "out" / "t7.csv").open() as file:
            rows = list(csv.DictReader(file))
        lost = [k for k, row in enumerate(rows) if row["left_out_because"]]
        assert {rows[k]["atlas"] for k in lost} == {"s1", "s3"}
        empty = [k for k in range(5) if not parts.valid[0, k].any()]
        assert empty == lost and not parts.labels[0, lost].any() and torch.isfinite(parts.images).all()


def test_an_image_that_no_atlas_fits_is_refused(folders: dict[int, Path], tmp_path: Path) -> None:
    atlases = library(folders[3], tmp_path / "cache")
    stage = Refusing([volume_key(a.image) for a in (atlases[k] for k in range(5))])
    with pytest.raises(RuntimeError) as caught:
        preprocessing(atlases, 3, deformable=stage, output_dir=tmp_path / "out")(record(tmp_path, head(7)))
    message = str(find_input_error(caught.value))
    assert message.startswith("none of the atlases could be registered") and "no way was found" in message
    assert not (tmp_path / "out").exists()


def other_grid(pair: Pair, kind: str) -> Pair:
    if kind == "finer and longer":
        return tuple(resample_to_output(i, (4.5, 5.3, 3.8), order=1 - n) for n, i in enumerate(pair))
    if kind == "oblique":
        return tuple(nib.Nifti1Image(np.asarray(i.dataobj), OBLIQUE @ i.affine) for i in pair)
    return tuple(reoriented(i, kind) for i in pair)


@pytest.mark.parametrize(
    ("kind", "least"), [("LPS", 0.9), ("PIL", 0.9), ("oblique", 0.8), ("finer and longer", 0.8)]
)
def test_atlases_on_other_grids_than_the_targets_give_the_same(
    folders: dict[int, Path], tmp_path: Path, kind: str, least: float
) -> None:
    others = save(tmp_path / "other", {f"s{n}": other_grid(head(n), kind) for n in range(5)})
    target, truth = record(tmp_path, head(7)), np.asarray(head(7)[1].dataobj)
    here, there = (
        np.asarray(
            voted(
                preprocessing(library(f, tmp_path / "c", affine=AffineRegistration()), 5), target, 5
            ).dataobj
        )
        for f in (folders[3], others)
    )
    assert dice(here, there) > least
    assert min(dice(here, truth), dice(there, truth)) > 0.55


@pytest.mark.parametrize(("spacing", "least"), [(6.0, 1.0), (4.7, 0.85)])
@pytest.mark.parametrize("frame", ["RAS", "LPS", "IAL", "oblique", "oblique PIR"])
def test_a_vote_lies_on_the_input_voxel_for_voxel_in_any_frame(
    tmp_path: Path, frame: str, spacing: float, least: float
) -> None:
    """One atlas that shows the target itself, but for noise: its label must come back where it was."""
    pair = head(2)
    if "oblique" in frame:
        pair = other_grid(pair, "oblique")
    image, label = pair
    noisy = np.asarray(image.dataobj) + np.random.default_rng(0).random(image.shape, np.float32)
    folder = save(tmp_path / "a", {"same": (nib.Nifti1Image(noisy, image.affine), label)})
    if frame != "oblique":
        image, label = (reoriented(i, frame[-3:]) for i in pair)
    atlases = library(folder, tmp_path / "cache", affine=AffineRegistration(shrink=()))
    found = voted(preprocessing(atlases, 1, spacing=spacing), record(tmp_path, (image, label)), 1)
    truth = np.asarray(label.dataobj)
    assert found.shape == truth.shape
    np.testing.assert_allclose(found.affine, image.affine, atol=1e-4)
    for value in LABELS:
        assert dice(np.asarray(found.dataobj), truth, value) >= least


def test_the_written_transform_maps_the_target_onto_the_atlas(
    folders: dict[int, Path], tmp_path: Path
) -> None:
    for dims in (2, 3):
        atlases = library(folders[dims], tmp_path / "cache", dims)
        out = tmp_path / f"out{dims}"
        way = preprocessing(
            atlases, 2, dims, deformable=SitkDemons(iterations=5), output_dir=out, save_transforms=True
        )
        made = way(record(tmp_path, head(7, dims=dims), f"t{dims}"))
        with (out / f"t{dims}.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert list(rows[0]) == [
            "atlas", "selection_score", "similarity", "overlap", "folded", "left_out_because"
        ]  # fmt: skip
        names = [row["atlas"] for row in rows]
        assert sorted(p.name for p in out.rglob("*.h5")) == sorted(f"{n}.h5" for n in names)
        for k, (name, row) in enumerate(zip(names, rows, strict=True)):
            assert (
                float(row["overlap"]) > 0.7 and float(row["folded"]) < 0.001 and row["left_out_because"] == ""
            )
            transform = sitk.ReadTransform(out / f"t{dims}" / f"{name}.h5")
            atlas = atlases[[r["case"] for r in atlases.records].index(name)].image
            target = Volume.from_image(made["image"][:1])
            moved = sitk.Resample(atlas.to_sitk(), target.to_sitk(), transform, sitk.sitkLinear, -1.0)
            expected = torch.from_numpy(sitk.GetArrayFromImage(moved).T.copy())
            parts = border(made, 2, dims)
            both = (expected != -1) & (parts.valid[0, k] > 0)
            assert both.float().mean() > 0.7
            torch.testing.assert_close(parts.images[0, k][both], expected[both], atol=2e-3, rtol=0)


@pytest.mark.parametrize(
    ("shape", "message"), [((18, 24), "wrong number of axes"), ((9, 8, 7, 3), "wrong number of axes")]
)
def test_a_target_of_another_number_of_axes_is_refused(
    folders: dict[int, Path], tmp_path: Path, shape: tuple[int, ...], message: str
) -> None:
    image = nib.Nifti1Image(np.random.default_rng(0).random(shape, np.float32), np.eye(4))
    with pytest.raises(RuntimeError) as caught:
        preprocessing(library(folders[3], tmp_path / "cache"))(record(tmp_path, (image, image)))
    assert message in str(find_input_error(caught.value))


def test_what_is_no_single_image_is_refused(folders: dict[int, Path], tmp_path: Path) -> None:
    atlases = library(folders[3], tmp_path / "cache")
    two = MetaTensor(torch.rand(2, 9, 8, 7))
    with pytest.raises(InputError, match="one channel"):
        SelectAtlasesd("image", atlases)({"image": two})


def test_one_hot_counts_every_other_value_as_background() -> None:
    label = torch.tensor([[0.0, 4.0, 1.0], [9.0, 1.0, 0.0]])
    expected = torch.tensor([[[1, 0, 0], [1, 0, 1]], [[0, 1, 0], [0, 0, 0]], [[0, 0, 1], [0, 1, 0]]])
    assert torch.equal(one_hot(label, [4, 1]), expected.float())


def test_the_default_affine_stage_needs_no_options(folders: dict[int, Path], tmp_path: Path) -> None:
    step = RegisterAtlasesd("image", library(folders[3], tmp_path / "cache"), LABELS)
    assert step.affine.shrink == (4, 2) and step.count == 10
