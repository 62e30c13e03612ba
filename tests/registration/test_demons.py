import pytest
import SimpleITK as sitk
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
from mdl_monai.registration.demons import SitkDemons
from mdl_monai.registration.folding import folded_share
from mdl_monai.registration.geometry import in_voxels
from mdl_monai.registration.volume import Volume

VARIANTS = pytest.mark.parametrize("variant", ["symmetric", "diffeomorphic"])


@VARIANTS
@pytest.mark.parametrize(
    ("dims", "axis", "sign"), [(d, a, s) for d in (2, 3) for a in range(d) for s in (-1, 1)]
)
def test_a_shift_along_each_axis_keeps_its_sign(variant, dims, axis, sign):
    target, atlas, step = shifted(dims, axis, sign)
    found = SitkDemons(variant)(target, [atlas], linear(dims=dims)[None])[0][inside(target)]
    assert (found.mean(0) - step).abs().max() < 0.3


@pytest.mark.parametrize(("target", "atlases"), CASES, ids=CASE_NAMES)
def test_a_smooth_warp_is_found_in_any_frame(target, atlases):
    image, images, affine, truth = deformed(target, atlases, amplitude=2.5)
    found = SitkDemons()(image, images, affine.expand(3, -1, -1))
    assert found.shape == (3, *target.values.shape, target.dims) and found.dtype == torch.float32
    assert error(target, truth, affine) > 2.5
    for u in found:
        assert error(target, truth, affine, u) < 0.25 * error(target, truth, affine)


def test_a_thin_stack_of_six_slices():
    target, images, affine, truth = deformed(THIN, [grid("PIR", (40, 38, 42), (1.4, 1.6, 1.3))], 2.0)
    found = SitkDemons()(target, images, affine[None])[0]
    assert error(THIN, truth, affine, found) < 0.6 * error(THIN, truth, affine)


@VARIANTS
def test_turning_the_targets_world_turns_the_displacement(variant):
    target, images, affine, _ = deformed(*CASES[0], amplitude=2.0)
    turn = linear(rotation([0.4, 0.8, -0.5], 3), [30.0, -20.0, 10.0])
    turned = Volume(target.values, turn @ target.affine)
    one = SitkDemons(variant)(target, images[:1], affine[None])
    two = SitkDemons(variant)(turned, images[:1], (affine @ torch.linalg.inv(turn))[None])
    torch.testing.assert_close(one @ turn[:3, :3].T.float(), two, atol=0.02, rtol=0)


@pytest.mark.parametrize(("of_target", "of_atlas"), [(1e6, 1.0), (1.0, 1e6), (1e-6, 1.0)])
def test_the_scale_of_grey_values_does_not_matter(of_target, of_atlas):
    target, images, affine, _ = deformed(*CASES[3], amplitude=2.0)
    plain = SitkDemons()(target, images[:1], affine[None])
    scaled = SitkDemons()(
        target.with_values(of_target * target.values),
        [images[0].with_values(of_atlas * images[0].values + of_atlas)],
        affine[None],
    )
    assert (scaled - plain).norm(dim=-1).mean() < 0.05 < plain.norm(dim=-1).mean()


@VARIANTS
@pytest.mark.parametrize("which", ["target", "atlas", "both"])
def test_constant_images_give_no_displacement(variant, which):
    target, images, affine, _ = deformed(*CASES[3], amplitude=2.0)
    atlas = images[0]
    if which != "target":
        atlas = atlas.with_values(torch.full_like(atlas.values, 0.1))
    if which != "atlas":
        target = target.with_values(torch.full_like(target.values, -3.3))
    far = linear(None, [900.0, 0.0], 2)
    found = SitkDemons(variant)(target, [atlas, atlas], torch.stack([affine, far]))
    assert (found.abs() < 1e-3).all()


def test_an_atlas_that_covers_half_the_target_gives_finite_displacements():
    target, images, affine, truth = deformed(*CASES[0], amplitude=2.0)
    found = SitkDemons()(target, [halved(images[0])], affine[None])[0]
    assert found.isfinite().all() and found.abs().max() < 25
    assert error(target, truth, affine, found) < error(target, truth, affine)


def test_diffeomorphic_demons_do_not_fold_under_a_strong_warp():
    target, images, affine, _ = deformed(*CASES[3], amplitude=6.0)
    found = SitkDemons("diffeomorphic")(target, images, affine.expand(3, -1, -1))
    assert (folded_share(in_voxels(found, target.affine).movedim(-1, 1)) < 0.001).all()


def test_options_reach_simpleitk():
    target, images, affine, _ = deformed(*CASES[3], amplitude=2.0)

    def found(**options):
        return SitkDemons(**options)(target, images[:1], affine[None])

    usual = found()
    threads = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    assert (found(threads=2) - usual).abs().max() < 0.01
    assert sitk.ProcessObject.GetGlobalDefaultNumberOfThreads() == threads
    assert not found(iterations=0).any()
    assert found(sigma=4.0).diff(dim=1).abs().mean() < 0.8 * usual.diff(dim=1).abs().mean()


def test_matching_the_histogram_undoes_another_gamma():
    target, images, affine, truth = deformed(*CASES[3], amplitude=2.0)
    gamma = [images[0].with_values(images[0].values ** 2)]
    matched, unmatched = (
        error(target, truth, affine, SitkDemons(match_histogram=m)(target, gamma, affine[None])[0])
        for m in (True, False)
    )
    assert matched < 0.5 * unmatched


def test_an_unknown_variant_is_refused():
    with pytest.raises(InputError, match="unknown variant of demons"):
        SitkDemons("angels")
