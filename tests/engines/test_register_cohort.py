"""Three targets against four atlases on two worker processes."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from cohort_pipeline import Refusing, pipeline, save
from monai.transforms import Compose

pytest.importorskip("distributed")

from mdl_monai.engines.register_cohort import register_cohort
from mdl_monai.errors import InputError, find_input_error
from mdl_monai.registration import cluster
from mdl_monai.registration.affine import AffineRegistration
from mdl_monai.registration.demons import SitkDemons

DEMONS = SitkDemons(iterations=2)


@pytest.fixture(scope="module")
def atlas_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("atlases")
    records = [save(folder, f"a{n}", n, label=True) for n in range(4)]
    (folder / "dataset.json").write_text(json.dumps({"train": records}))
    return folder


@pytest.fixture
def targets(tmp_path: Path) -> list[dict[str, Any]]:
    return [save(tmp_path, f"t{n}", n, label=False) for n in (5, 6, 7)]


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "pairs.csv").open() as file:
        return list(csv.DictReader(file))


def forbidden(self: Any, *arguments: Any) -> None:
    raise AssertionError("something is registered again")


def test_a_cohort_fills_the_cache_and_a_later_run_registers_nothing(
    atlas_dir: Path, targets: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, out = tmp_path / "cache", tmp_path / "out"
    report = register_cohort(targets, pipeline(atlas_dir, cache, DEMONS), out, chunk=2, progress=False)
    assert report.failed == {} and len(set(report.done)) == 9
    rows = table(out)
    assert [(row["target"], row["atlas"]) for row in rows] == report.done
    assert {row["target"] for row in rows} == {"t5", "t6", "t7"} and {row["status"] for row in rows} == {
        "done"
    }
    monkeypatch.setattr(SitkDemons, "__call__", forbidden)
    monkeypatch.setattr(AffineRegistration, "__call__", forbidden)
    later = pipeline(atlas_dir, cache, DEMONS)
    for target in targets:
        image = later(target)["image"]
        assert image.shape == (1 + 3 * 4, 24, 28) and image[4::4].flatten(1).any(1).all()
    with pytest.raises(RuntimeError) as caught:
        pipeline(atlas_dir, cache, SitkDemons(iterations=3))(targets[0])
    assert "something is registered again" in str(caught.value.__cause__)


def test_bad_targets_and_pairs_are_listed_with_their_reasons_while_the_others_are_done(
    atlas_dir: Path, targets: list[dict[str, Any]], tmp_path: Path
) -> None:
    image = nib.load(targets[1]["image"])
    holes = np.asarray(image.dataobj).copy()
    holes[3, 4] = np.nan
    nib.save(nib.Nifti1Image(holes, image.affine), targets[1]["image"])
    targets.append({"image": str(tmp_path / "gone.nii"), "case": "gone"})
    bad = float(pipeline(atlas_dir, tmp_path / "c", None).transforms[-1].library[2].image.values.sum())
    way = pipeline(atlas_dir, tmp_path / "cache", Refusing(bad))
    report = register_cohort(targets, way, tmp_path / "out", chunk=3, progress=False)
    rows = table(tmp_path / "out")
    reasons = {(r["target"], r["atlas"]): r["reason"] for r in rows if r["status"] == "failed"}
    assert reasons == report.failed and len(rows) == 3 + 3 + 2
    assert reasons.pop(("t6", "")).startswith("the image holds NaN or infinite values where: ")
    assert reasons.pop(("gone", "")).startswith("the image file does not exist")
    assert (
        reasons
        and {atlas for _, atlas in reasons} == {"a2"}
        and set(reasons.values()) == {"no way was found"}
    )
    assert len(report.done) + len(reasons) == 6 and {target for target, _ in report.done} == {"t5", "t7"}


def test_without_any_pair_nothing_starts_and_the_table_says_why(
    atlas_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "LocalCluster", None)
    targets = [{"image": str(tmp_path / "gone.nii"), "case": "gone"}, {"case": "an error nobody foresaw"}]
    with pytest.raises(InputError, match="(?s)no pair could be registered.*does not exist"):
        register_cohort(targets, pipeline(atlas_dir, tmp_path / "c", DEMONS), tmp_path, progress=False)
    rows = table(tmp_path)
    assert [row["status"] for row in rows] == ["failed", "failed"]
    assert rows[1]["reason"] == "KeyError: 'image'"


def test_a_bad_atlas_is_no_targets_fault(targets: list[dict[str, Any]], tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    records = [save(tmp_path / "a", f"a{n}", n, label=True) for n in range(2)]
    (tmp_path / "a" / "dataset.json").write_text(json.dumps({"train": records}))
    label = nib.load(tmp_path / "a" / "a1_label.nii")
    nib.save(nib.Nifti1Image(np.zeros(label.shape, np.uint8), label.affine), tmp_path / "a" / "a1_label.nii")
    with pytest.raises(InputError, match="an atlas has an empty label map") as caught:
        register_cohort(targets, pipeline(tmp_path / "a", tmp_path / "c", DEMONS), tmp_path, progress=False)
    assert find_input_error(caught.value) is caught.value
    assert not (tmp_path / "pairs.csv").exists()


def test_other_preprocessing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not end in SelectAtlasesd and RegisterAtlasesd"):
        register_cohort([], Compose([str, str]), tmp_path)
