from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from torch import Tensor
from warp_cases import (
    ATLASES_2D,
    ATLASES_3D,
    TARGETS_2D,
    TARGETS_3D,
    drawn,
    grid,
    linear,
    rotation,
    wavy,
    world,
)

from mdl_monai.registration.affine import AffineRegistration
from mdl_monai.registration.batched import BatchedDeformable
from mdl_monai.registration.geometry import to_sitk_transform
from mdl_monai.registration.register import Registration, register, warp
from mdl_monai.registration.volume import RegistrationError, Volume

AFFINE = AffineRegistration(shrink=(2,), iterations=30)
PLANE = grid("RAS", (41, 36), (1.3, 1.5))
Displace = Callable[[Volume], Tensor]


class Fake:
    """A deformable stage that returns for each atlas what the function named beside it says, and notes its calls."""

    def __init__(self, atlases: Sequence[Volume], *displace: Displace) -> None:
        self.displace = {id(a): d for a, d in zip(atlases, displace, strict=True)}
        self.calls: list[int] = []

    def __call__(self, target: Volume, atlases: Sequence[Volume], affines: Tensor) -> Tensor:
        assert len(atlases) == len(affines)
        self.calls.append(len(atlases))
        return torch.stack([self.displace[id(a)](target) for a in atlases])


def still(target: Volume) -> Tensor:
    return torch.zeros(*target.values.shape, target.dims)


def folding(target: Volume) -> Tensor:
    """The image's middle turned over, 5 % of its voxels."""
    u = still(target)
    width = round(0.05 * u.shape[0])
    first = u.shape[0] // 2
    u[first : first + width, ..., 0] = (
        -2.5 * target.spacing[0].float() * torch.arange(width).view(-1, *[1] * (target.dims - 1))
    )
    return u


def unlike(target: Volume) -> Tensor:
    return still(target) + 9


def holed(target: Volume) -> Tensor:
    u = still(target)
    u[3, 4] = float("nan")
    return u


def refusing(target: Volume) -> Tensor:
    raise RegistrationError("the method found no way")


def pair(dims: int) -> tuple[Volume, list[Volume]]:
    """A target and three atlases of the same structure, up to 3 mm from its place."""
    target = drawn((TARGETS_2D if dims == 2 else TARGETS_3D)[0])
    grids = ATLASES_2D if dims == 2 else ATLASES_3D
    step = torch.tensor([3.0, -1.5, 1.0][:dims], dtype=torch.float64)
    return target, [drawn(g, lambda x, k=k: x + k * step) for k, g in enumerate(grids)]


@pytest.mark.parametrize("dims", [2, 3])
def test_a_good_registration_is_unmarked_with_its_measures(dims: int) -> None:
    target, atlases = pair(dims)
    ends = register(target, atlases, AFFINE, BatchedDeformable(shrink=(4, 2), iterations=(4, 4)))
    assert [end.reason for end in ends] == ["", "", ""]
    for end, atlas in zip(ends, atlases, strict=True):
        assert end.displacement is not None and end.displacement.shape == (*target.values.shape, dims)
        assert end.displacement.dtype == torch.float16
        assert end.affine.shape == (dims + 1, dims + 1) and end.affine.dtype == torch.float64
        assert 1.2 < end.similarity <= 2 and end.folded < 1e-3 and end.overlap > 0.6
        warped, valid = warp(target, end.affine, end.displacement, atlas, atlas.values[None])
        assert (warped[0] - target.values)[valid > 0].abs().mean() < 0.25 * target.values.std()


def test_without_a_deformable_stage_the_affine_maps_alone_remain() -> None:
    target, atlases = pair(2)
    ends = register(target, atlases, AFFINE)
    assert all(end.displacement is None and not end.reason and end.folded == 0 for end in ends)
    moved = register(target, atlases, AFFINE, Fake(atlases, still, still, still))
    for end, other in zip(ends, moved, strict=True):
        assert torch.equal(end.affine, other.affine) and end.similarity == other.similarity


def bad_atlases() -> dict[str, tuple[Volume, str]]:
    good = drawn(PLANE)
    away = good.affine.clone()
    away[:-1, -1] += 500
    holes = good.values.clone()
    holes[2, 3] = float("nan")
    return {
        "constant": (good.with_values(torch.full_like(good.values, 3.0)), "the atlas is constant"),
        "NaN": (good.with_values(holes), "not finite"),
        "3D": (drawn(grid("RAS", (12, 14, 13), (3.0, 3.0, 3.0))), "the target is 2D and the atlas 3D"),
        "thin": (Volume(good.values[:3], good.affine), "fewer than 4 voxels"),
        "elsewhere": (Volume(good.values, away), "fields of view"),
    }


@pytest.mark.parametrize("kind", list(bad_atlases()))
def test_an_atlas_that_cannot_be_registered_says_why_and_stops_no_other(kind: str) -> None:
    target, (bad, reason) = drawn(PLANE), bad_atlases()[kind]
    good = drawn(grid("LPS", (39, 44), (1.4, 1.2)))
    fake = Fake([good, good], still, still)
    # the start puts it where its header does, and not centre on centre
    starts = [None, torch.eye(3, dtype=torch.float64), None]
    ends = register(target, [good, bad, good], AFFINE, fake, starts)
    assert [bool(end.reason) for end in ends] == [False, True, False]
    assert reason in ends[1].reason and ends[1].displacement is None and fake.calls == [2]


def test_a_3d_target_refuses_2d_atlases_in_the_same_way() -> None:
    target = drawn(TARGETS_3D[0])
    (end,) = register(target, [drawn(PLANE)], AFFINE, BatchedDeformable())
    assert end.reason == "the target is 3D and the atlas 2D"


def test_an_atlas_that_covers_a_fifth_of_the_target_lost_the_overlap() -> None:
    target = drawn(PLANE)
    part = Volume(target.values[:8].clone(), target.affine)
    (end,) = register(
        target, [part], AffineRegistration(shrink=()), None, [torch.eye(3, dtype=torch.float64)]
    )
    assert end.reason == "the overlap is lost: 20% of the target lie in the atlas's field of view"
    assert end.overlap == pytest.approx(8 / 41)


def test_a_map_that_mirrors_is_marked() -> None:
    target = drawn(PLANE)
    mirror = torch.diag(torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64))
    (end,) = register(target, [target], AffineRegistration(shrink=()), None, [mirror])
    assert "inside out" in end.reason


def test_a_good_start_stays_where_the_affine_stage_makes_it_worse() -> None:
    class Lost(AffineRegistration):
        def __call__(self, target: Volume, atlas: Volume, start: Tensor | None = None) -> Tensor:
            return linear(rotation([0, 0, 0.9], 2), dims=2)

    target = drawn(PLANE)
    start = torch.eye(3, dtype=torch.float64)
    started, centred = register(target, [target, target], Lost(), None, [start, None])
    assert torch.equal(started.affine, start) and started.similarity == 2 and started.reason == ""
    assert torch.equal(centred.affine, Lost()(target, target)) and centred.similarity < 1.5


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize(
    ("displace", "reason"),
    [
        (folding, "% of the voxels fold"),
        (unlike, "the deformable stage made it less alike"),
        (holed, "holds NaN or infinite"),
        (lambda target: still(target) + 1e6, "holds NaN or infinite"),  # beyond float16
        (refusing, "the method found no way"),
    ],
)
def test_a_deformable_stage_that_fails_for_one_atlas_marks_that_one(
    dims: int, displace: Displace, reason: str
) -> None:
    target, atlases = pair(dims)
    fake = Fake(atlases, still, displace, still)
    ends = register(target, atlases, AFFINE, fake)
    assert [bool(end.reason) for end in ends] == [False, True, False]
    assert reason in ends[1].reason
    assert fake.calls == ([3, 1, 1, 1] if displace is refusing else [3])
    if displace is folding:
        assert 0.01 < ends[1].folded < 0.1
    alone = register(target, atlases[:1], AFFINE, Fake(atlases[:1], still))[0]
    assert torch.equal(ends[0].affine, alone.affine) and ends[0].similarity == alone.similarity


def test_no_atlases_are_no_registrations() -> None:
    fake = Fake([])
    assert register(drawn(PLANE), [], AFFINE, fake) == [] and fake.calls == []
    assert register(drawn(PLANE), [], AFFINE, fake, []) == []


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("deformed", [False, True])
def test_a_warped_atlas_is_what_simpleitk_resamples_through_the_written_transform(
    dims: int, deformed: bool
) -> None:
    target = (TARGETS_2D if dims == 2 else TARGETS_3D)[2]
    atlas = drawn((ATLASES_2D if dims == 2 else ATLASES_3D)[1])
    affine = linear(rotation([0.1, -0.2, 0.3], dims) * 1.1, [2.0, -3.0, 1.0][:dims], dims)
    displacement = wavy(world(target), 2.0).half() if deformed else None
    warped, valid = warp(target, affine, displacement, atlas, torch.stack([atlas.values, 2 - atlas.values]))
    transform = to_sitk_transform(target, affine, displacement)
    outside = -5.0
    there = sitk.Resample(atlas.to_sitk(), target.to_sitk(), transform, sitk.sitkLinear, outside)
    expected = torch.from_numpy(np.ascontiguousarray(sitk.GetArrayFromImage(there).T))
    seen = expected != outside
    assert seen.float().mean() > 0.3 and (seen == (valid > 0)).float().mean() > 0.995
    inside = seen & (valid > 0)
    torch.testing.assert_close(warped[0][inside], expected[inside], atol=2e-3, rtol=0)
    torch.testing.assert_close(warped[1][inside], 2 - expected[inside], atol=2e-3, rtol=0)


def test_float16_keeps_a_displacement_within_a_hundredth_of_a_millimetre() -> None:
    u = wavy(world(PLANE), 15.0)
    assert (u.half().double() - u).abs().max() < 0.01
    assert Registration(torch.eye(3), u.half()).reason == ""
