from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, Invertd
from torch import Tensor, nn

from mdl_monai.errors import InputError, find_input_error
from mdl_monai.registration.localised import LocalisedAffine
from mdl_monai.registration.volume import PLACE, Place, Volume
from mdl_monai.transforms.localiser import CropAroundStructured, Localiser, turned

FRAMES = ("RAS", "LPS", "PIR", "oblique")
SHAPES = {2: (60, 47), 3: (34, 41, 28)}
SPACING = {2: (1.5, 1.2), 3: (1.8, 1.5, 2.4)}  # mm
ANY_FRAME = pytest.mark.parametrize(("dims", "frame"), [(d, f) for d in (2, 3) for f in FRAMES])


def affine(frame: str, dims: int) -> Tensor:
    """[D + 1, D + 1] with the middle of the grid at (20, -30, 40) mm."""
    axes = np.eye(dims)
    if frame == "LPS":
        axes[0, 0] = axes[1, 1] = -1
    elif frame == "PIR":
        axes = (
            np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]]) if dims == 3 else np.array([[0.0, -1], [-1, 0]])
        )
    elif frame == "oblique":
        c, s = math.cos(0.4), math.sin(0.4)
        axes[:2, :2] = [[c, -s], [s, c]]
        if dims == 3:
            axes = axes @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    out = torch.eye(dims + 1, dtype=torch.float64)
    out[:-1, :-1] = torch.from_numpy(axes @ np.diag(SPACING[dims]))
    middle = (torch.tensor(SHAPES[dims]).double() - 1) / 2
    out[:-1, -1] = torch.tensor([20.0, -30.0, 40.0][:dims]).double() - out[:-1, :-1] @ middle
    return out


def world(grid: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Places of a grid's voxels, [*shape, D] mm."""
    voxel = torch.stack(torch.meshgrid(*(torch.arange(n).double() for n in shape), indexing="ij"), dim=-1)
    return voxel @ grid[:-1, :-1].T + grid[:-1, -1]


def ball(dims: int, frame: str, at: tuple[float, ...], radius: float) -> Volume:
    """A bright disc or ball about `at` as a share of the grid's sides, on a dark ground of a little noise."""
    grid, shape = affine(frame, dims), SHAPES[dims]
    away = (world(grid, shape) - centre(dims, frame, at)).norm(dim=-1)
    values = 100 + 900 * ((radius - away) / 2 + 0.5).clamp(0, 1) + 20 * torch.rand(shape)
    return Volume(values.float(), grid)


def centre(dims: int, frame: str, at: tuple[float, ...]) -> Tensor:
    grid = affine(frame, dims)
    middle = (torch.tensor(SHAPES[dims]).double() - 1) * torch.tensor(at[:dims]).double()
    return grid[:-1, :-1] @ middle + grid[:-1, -1]


def threshold(dims: int, at: float, gain: float = 20.0) -> nn.Module:
    """A network whose structure is what is brighter than `at` standard deviations above the mean."""
    network = (nn.Conv2d if dims == 2 else nn.Conv3d)(1, 2, 1)
    with torch.no_grad():
        network.weight.view(2).copy_(torch.tensor([0.0, gain]))
        network.bias.copy_(torch.tensor([0.0, -gain * at]))
    return network


def localiser(folder: Path, dims: int, spacing: float = 2.0, at: float = 0.0) -> Localiser:
    """Its threshold is about half way up a ball's edge."""
    path = folder / "localiser.pt"
    torch.save(threshold(dims, at or {2: 1.6, 3: 3.2}[dims]).state_dict(), path)
    return Localiser(threshold(dims, 0.0, 0.0), path, spacing)


def image(volume: Volume, name: str = "case.nii.gz") -> MetaTensor:
    """[1, *spatial] as loaded, with a NIfTI's affine."""
    four = torch.eye(4, dtype=torch.float64)
    dims = volume.dims
    four[:dims, :dims], four[:dims, 3] = volume.affine[:-1, :-1], volume.affine[:-1, -1]
    return MetaTensor(volume.values[None], affine=four, meta={"filename_or_obj": name})


@ANY_FRAME
def test_a_ball_is_found_where_it_lies_with_its_size(dims: int, frame: str, tmp_path: Path) -> None:
    for spacing, at, radius in ((2.0, (0.4, 0.6, 0.45), 11.0), (3.1, (0.6, 0.35, 0.6), 12.0)):
        place = localiser(tmp_path, dims, spacing)(ball(dims, frame, at, radius))
        assert place is not None and place.centre.dtype == torch.float64
        assert (place.centre - centre(dims, frame, at)).norm() < 0.2 * spacing
        assert place.radius == pytest.approx(radius, rel=0.08)


@ANY_FRAME
def test_of_several_structures_the_largest_counts(dims: int, frame: str, tmp_path: Path) -> None:
    small, large = ball(dims, frame, (0.25, 0.75, 0.3), 6.0), ball(dims, frame, (0.6, 0.4, 0.6), 11.0)
    both = small.with_values(torch.maximum(small.values, large.values))
    place = localiser(tmp_path, dims)(both)
    assert (place.centre - centre(dims, frame, (0.6, 0.4, 0.6))).norm() < 0.5
    assert place.radius == pytest.approx(11.0, rel=0.1)


def test_scale_of_grey_values_does_not_matter(tmp_path: Path) -> None:
    find, volume = localiser(tmp_path, 2), ball(2, "LPS", (0.4, 0.6), 11.0)
    place, other = find(volume), find(volume.with_values(volume.values * 1e-3 - 7))
    torch.testing.assert_close(place.centre, other.centre, atol=1e-3, rtol=0)
    assert place.radius == pytest.approx(other.radius, rel=1e-3)


@pytest.mark.parametrize("dims", [2, 3])
def test_a_structure_on_a_coarser_grid_than_the_networks_is_found(dims: int, tmp_path: Path) -> None:
    place = localiser(tmp_path, dims, 0.7)(ball(dims, "PIR", (0.4, 0.6, 0.45), 11.0))
    assert (place.centre - centre(dims, "PIR", (0.4, 0.6, 0.45))).norm() < 0.5


@pytest.mark.parametrize("dims", [2, 3])
def test_nothing_is_found_where_nothing_looks_like_it(dims: int, tmp_path: Path) -> None:
    volume = ball(dims, "RAS", (0.5, 0.5, 0.5), 11.0)
    assert localiser(tmp_path, dims, at=50.0)(volume) is None
    flat = volume.with_values(torch.full(SHAPES[dims], 5.0))
    assert localiser(tmp_path, dims)(flat) is None
    assert localiser(tmp_path, dims)(volume.with_values(torch.full(SHAPES[dims], torch.nan))) is None


def test_weights_are_read_once_when_first_needed(tmp_path: Path) -> None:
    find, volume = localiser(tmp_path, 2), ball(2, "RAS", (0.4, 0.6), 11.0)
    assert not find.network.weight.any()
    first = find(volume)
    (tmp_path / "localiser.pt").unlink()
    torch.testing.assert_close(find(volume).centre, first.centre)
    assert find.network.weight.any() and not find.network.training


def test_weights_that_are_missing_or_of_another_network_are_refused(tmp_path: Path) -> None:
    volume = ball(2, "RAS", (0.5, 0.5), 11.0)
    with pytest.raises(InputError, match=r"(?s)weights file does not exist.*none\.pt"):
        Localiser(threshold(2, 1.0), tmp_path / "none.pt", 2.0)(volume)
    localiser(tmp_path, 3)
    with pytest.raises(InputError, match="belong to another architecture"):
        Localiser(threshold(2, 1.0), tmp_path / "localiser.pt", 2.0)(volume)


@ANY_FRAME
def test_crop_shows_the_structure_in_its_middle_at_the_same_place_of_the_world(
    dims: int, frame: str, tmp_path: Path
) -> None:
    volume, at, size = ball(dims, frame, (0.45, 0.55, 0.5), 9.0), (0.45, 0.55, 0.5), (22, 25, 16)[:dims]
    labels = volume.with_values((volume.values > 600).float())
    find = localiser(tmp_path, dims)
    record = {"image": image(volume), "label": image(labels), "other": 3}
    made = CropAroundStructured(["image", "label"], find, size)(record)
    assert all(
        record[key].shape[1:] == SHAPES[dims] and PLACE not in record[key].meta for key in ("image", "label")
    )
    assert made["other"] == 3
    place = find(volume)
    for key in ("image", "label"):
        assert made[key].shape == (1, *size)
        known = Volume.from_image(made[key]).place
        assert torch.equal(known.centre, place.centre) and known.radius == place.radius
    assert torch.equal(made["label"], (made["image"] > 600).float())
    crop = Volume.from_image(made["image"])
    index = torch.linalg.inv(crop.affine) @ torch.cat((centre(dims, frame, at), torch.ones(1))).double()
    assert (index[:-1] - torch.tensor(size) // 2).abs().max() < 0.9
    for where in np.ndindex(*(2,) * dims):  # corners
        corner = tuple(w * (n - 1) for w, n in zip(where, size, strict=True))
        spot = world(crop.affine, crop.values.shape)[corner]
        own = torch.linalg.inv(volume.affine) @ torch.cat((spot, torch.ones(1).double()))
        assert volume.values[tuple(own[:-1].round().int().tolist())] == crop.values[corner]


@ANY_FRAME
@pytest.mark.parametrize("at", [(0.5, 0.45, 0.5), (0.0, 0.1, 0.05), (1.0, 0.95, 0.9), (0.02, 1.0, 0.5)])
def test_inverted_maps_lie_on_the_voxels_that_they_came_from(
    dims: int, frame: str, at: tuple[float, ...], tmp_path: Path
) -> None:
    """Also where the structure lies at the image's border or corner, or the box is larger than the image."""
    volume = ball(dims, frame, at, 9.0)
    for size in ((20, 31, 15)[:dims], (100,) * dims):
        way = Compose(CropAroundStructured(["image", "label"], localiser(tmp_path, dims), size))
        record = way({"image": image(volume), "label": image(volume)})
        assert all(a <= b for a, b in zip(record["image"].shape[1:], size, strict=True))
        record["pred"] = MetaTensor(torch.cat((record["image"], -record["image"])))
        back = Invertd("pred", way, orig_keys="image", nearest_interp=False)(record)["pred"]
        assert back.shape == (2, *SHAPES[dims])
        torch.testing.assert_close(back.affine, image(volume).affine, atol=1e-6, rtol=0)
        cut = back[0] != 0
        assert cut.sum() == record["image"].numel()
        assert torch.equal(back[0][cut], volume.values[cut]) and torch.equal(back[1], -back[0])
        assert cut[volume.values > 600].all()


def test_an_image_without_the_structure_is_refused_in_one_sentence(tmp_path: Path) -> None:
    crop = CropAroundStructured("image", localiser(tmp_path, 2, at=50.0), (20, 20))
    record = {"image": image(ball(2, "RAS", (0.5, 0.5), 9.0), "slice7.nii.gz")}
    with pytest.raises(
        InputError, match=r"(?s)^the structure is not found in the image\n.*slice7\.nii\.gz.*remedy"
    ):
        crop(record)
    with pytest.raises(RuntimeError) as caught:
        Compose(crop)(record)
    assert find_input_error(caught.value)


@pytest.mark.parametrize("dims", [2, 3])
def test_crops_of_atlases_are_put_on_the_structure_of_the_target(dims: int, tmp_path: Path) -> None:
    crop = CropAroundStructured("image", localiser(tmp_path, dims), (24, 26, 18)[:dims])
    target, atlas = (
        Volume.from_image(crop({"image": image(ball(dims, frame, at, radius))})["image"])
        for frame, at, radius in (("LPS", (0.4, 0.6, 0.45), 9.0), ("oblique", (0.6, 0.4, 0.5), 12.0))
    )
    found = LocalisedAffine()(target, atlas)
    there = found[:-1, :-1] @ centre(dims, "LPS", (0.4, 0.6, 0.45)) + found[:-1, -1]
    assert (there - centre(dims, "oblique", (0.6, 0.4, 0.5))).norm() < 0.7
    assert found[0, 0].item() == pytest.approx(12 / 9, rel=0.08)


def test_an_atlas_is_put_where_its_label_map_says_whatever_the_network_finds(tmp_path: Path) -> None:
    crop = CropAroundStructured(["image", "label"], localiser(tmp_path, 2, at=50.0), (24, 26), "label")
    shown = ball(2, "LPS", (0.4, 0.6), 9.0)
    label = shown.with_values((shown.values > 0.5 * shown.values.max()).float())
    with pytest.raises(InputError, match="not found"):
        crop({"image": image(shown), "label": image(label.with_values(torch.zeros_like(label.values)))})
    place = Volume.from_image(crop({"image": image(shown), "label": image(label)})["image"]).place
    assert place is not None and (place.centre - centre(2, "LPS", (0.4, 0.6))).norm() < 0.3
    assert place.radius == pytest.approx(9.0, rel=0.1)


@pytest.mark.parametrize("shape", [(40, 61), (24, 33, 52)])
def test_turning_and_shrinking_keep_millimetres_and_have_an_inverse(shape: tuple[int, ...]) -> None:
    axes = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) - (n - 1) / 2 for n in shape), indexing="ij")
    steps = torch.stack(axes)
    at = torch.zeros(len(shape), dtype=torch.float64)
    at[-1] = 8.0  # voxels from the middle along the last axis, on an image that is not square
    blob = torch.exp(-(steps - at.view(-1, *[1] * len(shape))).square().sum(0) / 18)[None, None]
    found = turned(blob, 0.3, 0.8)[0, 0]
    middle = (steps * found / found.sum()).flatten(1).sum(1)
    assert middle.norm() == pytest.approx(8.0 / 0.8, rel=0.02)
    angle = math.atan2(float(middle[-2]), float(middle[-1]))
    assert abs(angle) == pytest.approx(0.3, abs=0.02)
    assert (turned(turned(blob, 0.3, 1.0), -0.3, 1.0) - blob).abs().max() < 0.06
    assert (turned(turned(blob, 0.0, 0.8), 0.0, 1.25) - blob).abs().max() < 0.06
    assert turned(blob, 0.0, 1.0) is blob


def test_a_place_is_made_of_centre_and_radius(tmp_path: Path) -> None:
    place = localiser(tmp_path, 2)(ball(2, "RAS", (0.5, 0.5), 9.0))
    assert isinstance(place, Place) and isinstance(place.radius, float) and place.centre.shape == (2,)
