from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from monai.data import MetaTensor
from warp_cases import grid

from mdl_monai.registration.localised import LocalisedAffine
from mdl_monai.registration.volume import PLACE, Place, RegistrationError, Volume

DIMS = pytest.mark.parametrize("dims", [2, 3])


def located(frame: str, centre: tuple[float, ...], radius: float, dims: int) -> Volume:
    volume = grid(frame, (9, 8, 7)[:dims], (1.0, 2.0, 3.0)[:dims])
    return replace(volume, place=Place(torch.tensor(centre[:dims], dtype=torch.float64), radius))


def pair(dims: int, radius: float = 12.0) -> tuple[Volume, Volume]:
    """A target with a structure of 8 mm and an atlas."""
    return located("RAS", (10.0, -20.0, 5.0), 8.0, dims), located("LPS", (-3.0, 40.0, 7.0), radius, dims)


@DIMS
@pytest.mark.parametrize("radius", [12.0, 6.0])
def test_centre_goes_to_centre_and_rim_to_rim(dims: int, radius: float) -> None:
    target, atlas = pair(dims, radius)
    for start in (None, torch.full((dims + 1, dims + 1), 3.0)):
        found = LocalisedAffine()(target, atlas, start)
        assert found.shape == (dims + 1, dims + 1) and found.dtype == torch.float64
        at = found[:-1, :-1] @ target.place.centre + found[:-1, -1]
        torch.testing.assert_close(at, atlas.place.centre)
        for axis in torch.eye(dims, dtype=torch.float64):
            rim = found[:-1, :-1] @ (target.place.centre + 8.0 * axis) + found[:-1, -1]
            torch.testing.assert_close(rim, atlas.place.centre + radius * axis)
        assert found[-1].tolist() == [0.0] * dims + [1.0]


@DIMS
@pytest.mark.parametrize(("radius", "scale"), [(80.0, 2.0), (0.8, 0.5), (15.9, 15.9 / 8)])
def test_scale_is_bounded_and_the_centre_still_goes_to_the_centre(
    dims: int, radius: float, scale: float
) -> None:
    target, atlas = pair(dims, radius)
    found = LocalisedAffine()(target, atlas)
    torch.testing.assert_close(found[:-1, :-1], scale * torch.eye(dims, dtype=torch.float64))
    torch.testing.assert_close(found[:-1, :-1] @ target.place.centre + found[:-1, -1], atlas.place.centre)


@DIMS
@pytest.mark.parametrize("radius", [12.0, 80.0])
def test_the_way_back_is_the_inverse(dims: int, radius: float) -> None:
    target, atlas = pair(dims, radius)
    back = LocalisedAffine()(atlas, target) @ LocalisedAffine()(target, atlas)
    torch.testing.assert_close(back, torch.eye(dims + 1, dtype=torch.float64))


def test_a_place_that_is_not_known_or_other_dimensions_are_refused_with_the_reason() -> None:
    target, atlas = pair(3)
    for name, images in (
        ("target", (replace(target, place=None), atlas)),
        ("atlas", (target, replace(atlas, place=None))),
    ):
        with pytest.raises(RegistrationError, match=f"^the structure was not located in the {name}$"):
            LocalisedAffine()(*images)
    with pytest.raises(RegistrationError, match="^the target is 3D and the atlas 2D$"):
        LocalisedAffine()(target, pair(2)[0])


@DIMS
def test_an_images_place_is_read_from_its_meta_data(dims: int) -> None:
    image = MetaTensor(torch.rand(1, *(5, 6, 7)[:dims]), affine=torch.eye(4, dtype=torch.float64))
    assert Volume.from_image(image).place is None
    image.meta[PLACE] = [*[1.5, -2.0, 7.0][:dims], 4.0]
    volume = Volume.from_image(image)
    assert volume.place.centre.tolist() == [1.5, -2.0, 7.0][:dims] and volume.place.radius == 4.0
    assert volume.with_values(volume.values + 1).place == volume.standardised().place == volume.place
