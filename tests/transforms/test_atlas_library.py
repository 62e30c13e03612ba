from __future__ import annotations

import pickle
from pathlib import Path

import cloudpickle
import nibabel as nib
import numpy as np
import pytest
import torch
from atlas_cases import AFFINE, CountingAffine, head, library, reoriented, save
from torch import Tensor

from mdl_monai.errors import InputError, find_input_error
from mdl_monai.registration.affine import AffineRegistration
from mdl_monai.registration.batched import BatchedDeformable
from mdl_monai.registration.geometry import points, sample
from mdl_monai.registration.volume import Volume
from mdl_monai.transforms import atlas_library
from mdl_monai.transforms.atlas_library import AtlasLibrary, options_of, shrunk


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Five atlases each, in 2D and in 3D."""
    root = tmp_path_factory.mktemp("libraries")
    return {d: save(root / f"{d}D", {f"s{n}": head(n, dims=d) for n in range(5)}) for d in (2, 3)}


def volume(subject: int, shift: tuple[int, ...] = (0, 0, 0), dims: int = 3) -> Volume:
    image = head(subject, shift, dims)[0]
    values = torch.as_tensor(np.asarray(image.dataobj, np.float32))
    affine = torch.as_tensor(image.affine)
    if dims == 2:
        affine = affine[[0, 1, 3]][:, [0, 1, 3]]
    return Volume(values / values.max(), affine)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("subject", [1, 4])
def test_the_atlas_that_is_the_target_but_for_a_shift_comes_first(
    folders: dict[int, Path], tmp_path: Path, dims: int, subject: int
) -> None:
    atlases = library(folders[dims], tmp_path, dims)
    target = volume(subject, (1, -2, 1), dims)
    chosen = atlases.select(target, 3)
    assert chosen.indices[0] == subject and len(set(chosen.indices)) == 3
    assert chosen.scores == sorted(chosen.scores, reverse=True) and chosen.scores[0] > chosen.scores[1] + 0.01
    # the start is already the map between the two: here it is the identity in 3D, and the shift in 2D
    atlas = atlases[subject].image
    moved, valid = sample(atlas.values[None], atlas.affine, points(target, chosen.starts[0]))
    assert np.corrcoef(moved[0][valid > 0], target.values[valid > 0])[0, 1] > 0.9


def test_a_selection_costs_one_registration_to_the_template_and_none_for_an_atlas(
    folders: dict[int, Path], tmp_path: Path
) -> None:
    atlases = library(folders[3], tmp_path, affine=CountingAffine())
    atlases.select(volume(7), 2)
    assert atlases.affine.calls == 5 + 1
    atlases.select(volume(8), 2)
    assert atlases.affine.calls == 5 + 2
    again = library(folders[3], tmp_path, affine=CountingAffine())
    first, second = (lib.select(volume(7), 4) for lib in (atlases, again))
    assert again.affine.calls == 0 and first.scores == second.scores
    assert all(torch.equal(a, b) for a, b in zip(first.starts, second.starts, strict=True))
    other = library(folders[3], tmp_path, affine=CountingAffine(iterations=29))
    other.select(volume(7), 2)
    assert other.affine.calls == 5 + 1


def test_an_atlas_that_changed_is_aligned_again_and_no_other(
    folders: dict[int, Path], tmp_path: Path
) -> None:
    pairs = {f"s{n}": head(n) for n in range(4)}
    pairs["s0"] = tuple(i.slicer[:26] for i in pairs["s0"])  # smallest, so never the template
    atlases = library(save(tmp_path / "a", pairs), tmp_path / "cache", affine=CountingAffine())
    assert len(atlases.aligned.keys) == 4
    pairs["s0"] = tuple(i.slicer[1:27] for i in head(0))
    atlases = library(save(tmp_path / "a", pairs), tmp_path / "cache", affine=CountingAffine())
    assert len(atlases.aligned.keys) == 4 and atlases.affine.calls == 1


def test_equal_content_and_excluded_atlases_are_passed_over(folders: dict[int, Path], tmp_path: Path) -> None:
    atlases = library(folders[3], tmp_path)
    chosen = atlases.select(atlases[2].image, 5, exclude=[0])
    assert sorted(chosen.indices) == [1, 3, 4]
    with pytest.raises(InputError, match="(?s)no atlas is left.*5 atlases, of which 4"):
        atlases.select(atlases[2].image, 5, exclude=[0, 1, 3, 4])


def test_the_similarity_sees_few_atlases_at_once_and_decides_the_order(
    folders: dict[int, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(atlas_library, "COMPARED", 2)
    sizes = []

    def brightest(target: Tensor, images: Tensor, valid: Tensor) -> Tensor:
        assert images.shape == valid.shape == (len(images), *target.shape)
        sizes.append(len(images))
        return images.flatten(1).mean(1)

    atlases = library(folders[3], tmp_path)
    chosen = atlases.select(volume(7), 5, brightest)
    means = atlases.aligned.images.flatten(1).mean(1)
    assert sizes == [2, 2, 1] and chosen.indices == means.argsort(descending=True).tolist()


def test_a_target_of_other_axes_or_that_shows_nothing_is_refused(
    folders: dict[int, Path], tmp_path: Path
) -> None:
    atlases = library(folders[3], tmp_path)
    with pytest.raises(InputError, match="(?s)different numbers of axes.*expected: 3D.*found: 2D"):
        atlases.select(volume(0, dims=2), 2)
    constant = volume(0)
    with pytest.raises(InputError, match="cannot be aligned with the atlas library"):
        atlases.select(constant.with_values(torch.ones_like(constant.values)), 2)


def test_an_atlas_that_cannot_be_aligned_is_named_and_never_selected(
    folders: dict[int, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pairs = {f"s{n}": head(n) for n in range(3)}
    pairs["thin"] = tuple(i.slicer[:, :, 15:18] for i in head(3))
    atlases = library(save(tmp_path / "a", pairs), tmp_path / "cache")
    assert sorted(atlases.select(volume(7), 4).indices) == [0, 1, 2]
    assert "1 of 4 atlases cannot be aligned: thin" in caplog.text


class Slipped(AffineRegistration):
    """Ends with a quarter of the target in the atlas's field of view, where a few voxels agree by chance."""

    def __call__(self, target: Volume, atlas: Volume, start: Tensor | None = None) -> Tensor:
        out = super().__call__(target, atlas, start)
        if float(atlas.values.mean()) > self.least:
            out[0, -1] += 0.75 * target.values.shape[0] * target.spacing[0]
        return out


def test_an_alignment_that_lost_the_overlap_counts_as_failed(
    folders: dict[int, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    affine = Slipped(shrink=(2,), iterations=5)
    atlases = library(folders[3], tmp_path, affine=affine)
    means = [float(atlases[k].image.values.mean()) for k in range(5)]
    last = int(np.argmax(means))
    affine.least = sorted(means)[-2] + 1e-6
    assert not torch.equal(atlases.template.values, atlases[last].image.values)
    assert sorted(atlases.select(volume(7), 5).indices) == [k for k in range(5) if k != last]
    assert f"1 of 5 atlases cannot be aligned: s{last}" in caplog.text
    affine.least = 0.0
    with pytest.raises(InputError, match="(?s)cannot be aligned.*hardly overlap"):
        atlases.select(volume(8), 5)


def test_a_large_template_is_shrunk_and_stays_in_its_place() -> None:
    fine = Volume(torch.rand(70, 51, 64), torch.diag(torch.tensor([1.0, 1.5, 1.0, 1.0], dtype=torch.float64)))
    fine.affine[:-1, -1] = torch.tensor([3.0, -4.0, 9.0])
    ramp = points(fine, torch.eye(4, dtype=torch.float64))[..., 0]
    coarse = shrunk(fine.with_values(ramp), 2.3)
    assert coarse.values.shape == (23, 26, 21) and coarse.values.numel() < 70 * 51 * 64 / 2.3**3
    places = points(coarse, torch.eye(4, dtype=torch.float64))[..., 0]
    assert (coarse.values - places).abs().max() < 0.5  # 70 voxels in 23 blocks: some take one more
    for end in (0, 1):  # both show the same field of view
        corners = [end * torch.tensor(v.values.shape).double() - 0.5 for v in (fine, coarse)]
        outer = [
            v.affine[:-1, :-1] @ c + v.affine[:-1, -1] for v, c in zip((fine, coarse), corners, strict=True)
        ]
        torch.testing.assert_close(*outer)
    assert shrunk(fine, 1.0) is fine


def test_the_template_is_the_atlas_of_middle_size(tmp_path: Path) -> None:
    pairs = {f"s{n}": tuple(i.slicer[: 24 + n] for i in head(n)) for n in (0, 4, 2)}
    atlases = library(save(tmp_path / "a", pairs), tmp_path / "cache")
    assert atlases.template.values.shape == (26, 36, 34)


def test_a_library_travels_without_loaded_atlases(folders: dict[int, Path], tmp_path: Path) -> None:
    atlases = library(folders[3], tmp_path)
    bare = len(cloudpickle.dumps(atlases))
    assert len(atlases) == 5 and atlases[3] is atlases[3]
    assert len(cloudpickle.dumps(atlases)) < bare + 1000  # one atlas has 300,000 bytes
    chosen = atlases.select(volume(7), 3)
    for travelled in (pickle.loads(pickle.dumps(atlases)), cloudpickle.loads(cloudpickle.dumps(atlases))):
        assert travelled._held == {} and "aligned" in travelled.__dict__
        assert travelled.select(volume(7), 3).scores == chosen.scores
        assert torch.equal(travelled[1].image.values, atlases[1].image.values)


def test_memory_is_bounded_by_voxels(
    folders: dict[int, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    atlases = library(folders[3], tmp_path)
    read, numel = [], 30 * 36 * 34
    monkeypatch.setattr(atlas_library, "HELD_VOXELS", 2 * numel)
    monkeypatch.setattr(atlases, "_read", lambda k: read.append(k) or AtlasLibrary._read(atlases, k))
    for k in (0, 1, 0, 2, 0, 1, 3):
        assert atlases[k].image.values.numel() == numel
    assert read == [0, 1, 2, 1, 3] and list(atlases._held) == [1, 3]
    monkeypatch.setattr(atlas_library, "HELD_VOXELS", 1)  # one is always kept
    assert atlases[4] is atlases[4]


def test_options_of_a_stage_are_what_decides_its_result() -> None:
    one = options_of(BatchedDeformable())
    assert one == options_of(BatchedDeformable(max_voxels=5, device="cpu"))
    assert one["regulariser"] == "diffusion" and one["stage"] == "BatchedDeformable"
    assert one != options_of(BatchedDeformable(regulariser="bending"))
    assert one != options_of(BatchedDeformable(step=0.4))
    assert options_of(AFFINE) == options_of(AffineRegistration(shrink=[2], iterations=30, threads=3))
    assert options_of(AFFINE) != options_of(AffineRegistration(shrink=[2], iterations=16))


def bad_library(kind: str, folder: Path) -> AtlasLibrary:
    pairs = {f"s{n}": head(n) for n in range(2)}
    image, label = pairs["s1"]
    values = np.asarray(label.dataobj).copy()
    if kind == "an empty label":
        pairs["s1"] = (image, nib.Nifti1Image(np.zeros_like(values), label.affine))
    elif kind == "an unknown label":
        values[3, 4, 5] = 7
        pairs["s1"] = (image, nib.Nifti1Image(values, label.affine))
    elif kind == "a 4D image":
        four = np.stack([np.asarray(image.dataobj)] * 2, -1)
        pairs["s1"] = (nib.Nifti1Image(four, image.affine), label)
    elif kind == "a label on another grid":
        pairs["s1"] = (image, reoriented(label, "LPS"))
    elif kind == "a constant image":
        pairs["s1"] = (nib.Nifti1Image(np.full(image.shape, 7.0, np.float32), image.affine), label)
    save(folder / "a", pairs)
    if kind == "images alone":
        (folder / "a" / "dataset.json").unlink()
        for path in (folder / "a").glob("*_label.nii.gz"):
            path.unlink()
    if kind == "a cache inside":
        return library(folder / "a", folder / "a" / "cache")
    return library(folder / ("b" if kind == "no folder" else "a"), folder / "cache")


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("an empty label", "(?s)an atlas has an empty label map.*s1.nii.gz"),
        ("an unknown label", "(?s)unknown label.*s1_label.*found: 7"),
        ("a 4D image", "(?s)wrong number of axes.*s1.nii.gz"),
        ("a label on another grid", "(?s)lies elsewhere in space.*s1_label"),
        ("a constant image", "(?s)the image is empty.*s1.nii.gz"),
        ("images alone", "a record has no 'label'"),
        ("a cache inside", "cache folder lies inside the atlas folder"),
        ("no folder", "(?s)atlas folder does not exist.*--atlas_dir"),
    ],
)
def test_a_bad_library_is_refused_in_one_sentence(kind: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(Exception) as caught:
        bad_library(kind, tmp_path).select(volume(7), 2)
    known = find_input_error(caught.value)
    assert known is not None
    with pytest.raises(InputError, match=message):
        raise known
