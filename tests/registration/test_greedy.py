import sys

import pytest
import torch
from warp_cases import (
    CASE_NAMES,
    CASES,
    THIN,
    deformed,
    error,
    grid,
    halved,
    inside,
    linear,
    rotation,
    shifted,
)

from mdl_monai.errors import InputError
from mdl_monai.registration.folding import folded_share
from mdl_monai.registration.geometry import in_voxels
from mdl_monai.registration.greedy import GreedyDeformable
from mdl_monai.registration.volume import Volume


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "picsl_greedy", None)
    target, atlas, _ = shifted(2, 0, 1)
    stage = GreedyDeformable()  # a config may hold it unused
    with pytest.raises(InputError, match=r"picsl-greedy is not installed\n.*pip install mdl_monai\[greedy\]"):
        stage(target, [atlas], linear(dims=2)[None])


@pytest.fixture(autouse=True)
def _installed(request):
    if "without" not in request.node.name:
        pytest.importorskip("picsl_greedy", reason="needs the extra greedy")


@pytest.mark.parametrize(
    ("dims", "axis", "sign"), [(d, a, s) for d in (2, 3) for a in range(d) for s in (-1, 1)]
)
def test_a_shift_along_each_axis_keeps_its_sign(dims, axis, sign):
    target, atlas, step = shifted(dims, axis, sign)
    found = GreedyDeformable()(target, [atlas], linear(dims=dims)[None])[0][inside(target)]
    assert (found.mean(0) - step).abs().max() < 0.6


@pytest.mark.parametrize(("target", "atlases"), CASES, ids=CASE_NAMES)
@pytest.mark.parametrize("metric", ["NCC", "SSD"])
def test_a_smooth_warp_is_found_in_any_frame(target, atlases, metric):
    image, images, affine, truth = deformed(target, atlases[:1], amplitude=2.5)
    found = GreedyDeformable(metric)(image, images, affine[None])
    assert found.shape == (1, *target.values.shape, target.dims) and found.dtype == torch.float32
    assert (folded_share(in_voxels(found, target.affine).movedim(-1, 1)) < 0.001).all()
    assert error(target, truth, affine) > 2.5
    assert error(target, truth, affine, found[0]) < 0.25 * error(target, truth, affine)


def test_displacements_are_not_rounded():
    target, images, affine, _ = deformed(*CASES[3], amplitude=2.0)
    tenths = 10 * in_voxels(GreedyDeformable()(target, images[:1], affine[None]), target.affine)
    assert (tenths - tenths.round()).abs().mean() > 0.2


def test_a_thin_stack_of_six_slices():
    target, images, affine, truth = deformed(THIN, [grid("PIR", (40, 38, 42), (1.4, 1.6, 1.3))], 2.0)
    found = GreedyDeformable()(target, images, affine[None])[0]
    assert error(THIN, truth, affine, found) < 0.6 * error(THIN, truth, affine)


def test_turning_the_targets_world_turns_the_displacement():
    target, images, affine, _ = deformed(*CASES[0], amplitude=2.0)
    turn = linear(rotation([0.4, 0.8, -0.5], 3), [30.0, -20.0, 10.0])
    turned = Volume(target.values, turn @ target.affine)
    one = GreedyDeformable()(target, images[:1], affine[None])
    two = GreedyDeformable()(turned, images[:1], (affine @ torch.linalg.inv(turn))[None])
    assert (one @ turn[:3, :3].T.float() - two)[:, inside(target)].norm(dim=-1).mean() < 0.1


@pytest.mark.parametrize(("of_target", "of_atlas"), [(1e6, 1.0), (1.0, 1e6), (1e-6, 1.0)])
def test_the_scale_of_grey_values_does_not_matter(of_target, of_atlas):
    target, images, affine, _ = deformed(*CASES[3], amplitude=2.0)
    plain = GreedyDeformable()(target, images[:1], affine[None])
    scaled = GreedyDeformable()(
        target.with_values(of_target * target.values),
        [images[0].with_values(of_atlas * images[0].values + of_atlas)],
        affine[None],
    )
    assert (scaled - plain)[:, inside(target)].norm(dim=-1).mean() < 0.05 < plain.norm(dim=-1).mean()


@pytest.mark.parametrize("which", ["target", "atlas", "both"])
@pytest.mark.parametrize("metric", ["NCC", "SSD"])
def test_constant_images_give_no_displacement(metric, which):
    target, images, affine, _ = deformed(*CASES[3], amplitude=2.0)
    atlas = images[0]
    if which != "target":
        atlas = atlas.with_values(torch.full_like(atlas.values, 0.1))
    if which != "atlas":
        target = target.with_values(torch.full_like(target.values, -3.3))
    far = linear(None, [900.0, 0.0], 2)
    found = GreedyDeformable(metric)(target, [atlas, atlas], torch.stack([affine, far]))
    assert (found.abs() < 1e-3).all()


def test_an_atlas_that_covers_half_the_target_gives_finite_displacements():
    target, images, affine, truth = deformed(*CASES[0], amplitude=2.0)
    found = GreedyDeformable()(target, [halved(images[0])], affine[None])[0]
    assert found.isfinite().all() and found.abs().max() < 25
    assert error(target, truth, affine, found) < error(target, truth, affine)


def test_options_reach_greedy():
    target, images, affine, _ = deformed(*CASES[3], amplitude=2.0)

    def found(**options):
        return GreedyDeformable(**options)(target, images[:1], affine[None])

    usual = found()
    assert torch.equal(found(), usual)
    assert (found(threads=2) - usual)[:, inside(target)].abs().mean() < 0.05
    assert not found(iterations=(0, 0)).any()
    assert found(sigmas=(4.0, 2.0)).diff(dim=1).abs().mean() < 0.8 * usual.diff(dim=1).abs().mean()


def test_an_unknown_metric_is_refused():
    with pytest.raises(InputError, match="unknown metric of greedy"):
        GreedyDeformable("XYZ")
