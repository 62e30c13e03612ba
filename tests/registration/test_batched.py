import pytest
import torch
from warp_cases import (
    CASE_NAMES,
    CASES,
    THIN,
    as_map,
    deformed,
    drawn,
    error,
    grid,
    halved,
    inside,
    linear,
    rotation,
    shifted,
    through,
    wavy,
    world,
)

from mdl_monai.errors import InputError
from mdl_monai.registration.batched import BatchedDeformable
from mdl_monai.registration.folding import folded_share
from mdl_monai.registration.geometry import in_voxels, sample
from mdl_monai.registration.volume import Volume

LNCC = {}
BENDING = {"regulariser": "bending", "weight": 0.1}
MIND = {"similarity": "mind", "weight": 0.03}
KINDS = pytest.mark.parametrize("options", [LNCC, BENDING, MIND], ids=["lncc", "bending", "mind"])


def folded(displacement, target):
    return folded_share(in_voxels(displacement, target.affine).movedim(-1, 1))


@KINDS
@pytest.mark.parametrize(
    ("dims", "axis", "sign"), [(d, a, s) for d in (2, 3) for a in range(d) for s in (-1, 1)]
)
def test_a_shift_along_each_axis_keeps_its_sign(options, dims, axis, sign):
    target, atlas, step = shifted(dims, axis, sign)
    found = BatchedDeformable(**options)(target, [atlas], linear(dims=dims)[None])[0][inside(target)]
    assert (found.mean(0) - step).abs().max() < 0.5


@pytest.mark.parametrize(("target", "atlases"), CASES, ids=CASE_NAMES)
@pytest.mark.parametrize(
    ("options", "share"), [(LNCC, 0.3), (BENDING, 0.3), (MIND, 0.65)], ids=["lncc", "bending", "mind"]
)
def test_a_smooth_warp_is_found_in_any_frame(target, atlases, options, share):
    image, images, affine, truth = deformed(target, atlases, amplitude=2.5)
    found = BatchedDeformable(**options)(image, images, affine.expand(3, -1, -1))
    assert found.shape == (3, *target.values.shape, target.dims) and found.dtype == torch.float32
    assert (folded(found, target) < 0.001).all()
    before = error(target, truth, affine)
    assert before > 2.5
    for u in found:
        assert error(target, truth, affine, u) < share * before


def test_a_thin_stack_of_six_slices():
    target, images, affine, truth = deformed(THIN, [grid("PIR", (40, 38, 42), (1.4, 1.6, 1.3)), THIN], 2.0)
    found = BatchedDeformable()(target, images, affine.expand(2, -1, -1))
    assert error(THIN, truth, affine, found[0]) < 0.5 * error(THIN, truth, affine)
    assert error(THIN, truth, affine, found[1]) < 0.7 * error(THIN, truth, affine)  # few slices on both sides


@KINDS
def test_turning_the_targets_world_turns_the_displacement(options):
    target, images, affine, _ = deformed(*CASES[0], amplitude=2.0)
    turn = linear(rotation([0.4, 0.8, -0.5], 3), [30.0, -20.0, 10.0])
    turned = Volume(target.values, turn @ target.affine)
    method = BatchedDeformable(**options)
    one = method(target, images[:1], affine[None])
    two = method(turned, images[:1], (affine @ torch.linalg.inv(turn))[None])
    torch.testing.assert_close(one @ turn[:3, :3].T.float(), two, atol=0.02, rtol=0)


@KINDS
def test_an_atlas_does_not_depend_on_the_others_nor_on_the_chunks(options):
    target, atlases = CASES[1]
    coarse = grid("RAS", (17, 20, 6), (3.0, 3.0, 9.0))
    image, images, affine, _ = deformed(target, [*atlases, coarse], amplitude=2.0)
    affines = affine.expand(4, -1, -1)
    together = BatchedDeformable(**options)(image, images, affines)
    chunks = BatchedDeformable(**options, max_voxels=2 * image.values.numel())(image, images, affines)
    tiny = BatchedDeformable(**options, max_voxels=1)(image, images, affines)
    for other in (chunks, tiny):  # rounding errors grow over the iterations where the image is flat
        off = (other - together).norm(dim=-1)
        assert off.mean() < 0.01 and off[:, inside(target)].median() < 1e-3


@pytest.mark.parametrize("options", [LNCC, MIND], ids=["lncc", "mind"])
@pytest.mark.parametrize(("of_target", "of_atlas"), [(1e6, 1.0), (1.0, 1e6), (1e6, 1e6), (1e-6, 1.0)])
def test_the_scale_of_grey_values_does_not_matter(options, of_target, of_atlas):
    target, images, affine, _ = deformed(*CASES[3], amplitude=2.0)
    method, affines = BatchedDeformable(**options), affine.expand(3, -1, -1)
    plain = method(target, images, affines)
    scaled = method(
        target.with_values(of_target * target.values),
        [a.with_values(of_atlas * a.values + of_atlas) for a in images],
        affines,
    )
    assert (scaled - plain).norm(dim=-1).mean() < 0.02 < plain.norm(dim=-1).mean()


def test_mind_registers_other_contrasts():
    target, images, affine, truth = deformed(*CASES[3], amplitude=2.0)
    other = [a.with_values(1 / (1 + a.values)) for a in images[:1]]
    found = BatchedDeformable(**MIND)(target, other, affine[None])
    assert error(target, truth, affine, found[0]) < 0.7 * error(target, truth, affine)


@KINDS
@pytest.mark.parametrize("which", ["target", "atlas", "both"])
def test_constant_images_and_no_overlap_give_no_displacement(options, which):
    target, images, affine, _ = deformed(*CASES[3], amplitude=2.0)
    if which != "target":
        images[1] = images[1].with_values(torch.full_like(images[1].values, 0.1))
    if which != "atlas":
        target = target.with_values(torch.full_like(target.values, -3.3))
    far = linear(None, [900.0, 0.0], 2)
    found = BatchedDeformable(**options)(target, images, torch.stack([affine, affine, far]))
    assert found.isfinite().all()
    assert (found[1].norm(dim=-1) < 1e-3).all() or options is MIND
    assert (found[2].norm(dim=-1) < 1e-3).all()
    assert which != "atlas" or found[0].norm(dim=-1).mean() > 1


@pytest.mark.parametrize("case", [0, 3], ids=["3D", "2D"])
@pytest.mark.parametrize("options", [LNCC, BENDING], ids=["lncc", "bending"])
def test_an_atlas_that_covers_half_the_target_is_right_where_it_is_seen(options, case):
    target, images, affine, truth = deformed(*CASES[case], amplitude=2.0)
    half = halved(images[0])
    found = BatchedDeformable(**options)(target, [half], affine[None])[0]
    place = world(target)
    there = truth(place)
    _, seen = sample(half.values[None], half.affine, there)
    mask = (seen > 0) & (there.norm(dim=-1) < 18)
    assert 0.2 < mask.float().sum() / (there.norm(dim=-1) < 18).sum() < 0.8

    def mean_error(u):
        return float((as_map(affine)(place + u) - there).norm(dim=-1)[mask].mean())

    assert mean_error(found) < 0.4 * mean_error(torch.zeros_like(found))
    assert found.isfinite().all() and found.abs().max() < 8


@pytest.mark.parametrize("case", [0, 3], ids=["3D", "2D"])
def test_a_strong_warp_and_a_strange_atlas_hardly_fold(case):
    target, images, affine, _ = deformed(*CASES[case], amplitude=6.0)
    images[1] = drawn(images[1], seed=5)
    images[2] = images[2].with_values(torch.rand_like(images[2].values))
    for options in (LNCC, {"weight": 0.02}, MIND):
        found = BatchedDeformable(**options)(target, images, affine.expand(3, -1, -1))
        assert (folded(found, target) < 0.001).all()


def test_an_affine_map_with_scaling_and_shear_is_undone():
    """u is in the target's world: through twice the size, a shift in the atlas counts half."""
    dims = 2
    matrix = torch.tensor([[1.9, 0.3], [-0.2, 0.6]], dtype=torch.float64)
    affine = linear(matrix, [4.0, -1.0], dims)
    target = grid("LPS", (60, 58), (0.5, 0.9))
    truth = through(affine, lambda x: wavy(x, 1.2, 40.0))
    atlas = drawn(grid("PIR", (70, 64), (0.8, 0.9)))
    found = BatchedDeformable()(drawn(target, truth), [atlas], affine[None])
    assert error(target, truth, affine, found[0]) < 0.4 * error(target, truth, affine)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"similarity": "ssd"}, "unknown similarity"),
        ({"regulariser": "tv"}, "unknown regulariser"),
        ({"shrink": (2, 1)}, "one number a level"),
        ({"shrink": (), "iterations": ()}, "one number a level"),
    ],
)
def test_wrong_options_are_refused(options, words):
    with pytest.raises(InputError, match=words):
        BatchedDeformable(**options)


@pytest.mark.cuda
@KINDS
def test_cuda_gives_what_the_cpu_gives(options):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    target, images, affine, _ = deformed(*CASES[0], amplitude=2.0)
    affines = affine.expand(3, -1, -1)
    there = BatchedDeformable(**options, device="cuda")(target, images, affines)
    here = BatchedDeformable(**options)(target, images, affines)
    assert there.device.type == "cpu"
    assert (there - here).norm(dim=-1).mean() < 0.02
