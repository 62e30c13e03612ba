import pytest
import torch
from warp_cases import rotation, wavy

from mdl_monai.registration.folding import LEAST, folded_share, jacobian_determinant, unfolded
from mdl_monai.registration.geometry import voxel_points

SHAPES = [(11, 14), (9, 12, 7)]


def field(matrix, shape):
    """Displacement of x -> matrix x, [1, D, *shape]."""
    place = voxel_points(shape)
    return (place @ matrix.T - place).movedim(-1, 0)[None]


def wave(shape, amplitude):
    return wavy(voxel_points(shape), amplitude, wavelength=12.0).movedim(-1, 0)[None].float()


@pytest.mark.parametrize("shape", SHAPES)
def test_determinant_of_linear_maps(shape):
    dims = len(shape)
    turn, scale = rotation([0.4, -0.2, 0.6], dims), torch.diag(torch.tensor([1.5, 0.5, 3.0][:dims]).double())
    mirror = torch.diag(torch.tensor([1.0, -1.0, 1.0][:dims]).double())
    for matrix in (turn, scale, mirror, turn @ scale @ mirror, torch.rand(dims, dims).double() + scale):
        found = jacobian_determinant(field(matrix, shape))
        torch.testing.assert_close(found, torch.linalg.det(matrix).expand_as(found))


def test_determinant_of_a_curved_map_is_the_derivative():
    """x -> x + a sin(kx) along the first axis alone: 1 + a k cos(kx)."""
    x = torch.arange(40, dtype=torch.float64)[:, None].expand(40, 5)
    displacement = torch.stack([2 * (0.2 * x).sin(), torch.zeros_like(x)])[None]
    expected = 1 + 0.4 * (0.2 * x).cos()
    torch.testing.assert_close(
        jacobian_determinant(displacement)[0, 1:-1], expected[1:-1], atol=0.004, rtol=0
    )


def test_share_counts_mirrored_and_flattened_voxels():
    flat, same = torch.diag(torch.tensor([0.0, 1.0]).double()), torch.eye(2, dtype=torch.float64)
    fields = torch.cat(
        [field(m, (8, 9)) for m in (flat, same, -same, torch.diag(torch.tensor([-1.0, 1]).double()))]
    )
    torch.testing.assert_close(folded_share(fields), torch.tensor([1.0, 0.0, 0.0, 1.0]))


@pytest.mark.parametrize("shape", SHAPES)
def test_an_unfolded_field_stays_bit_for_bit_beside_one_that_is_mended(shape):
    good, bad = wave(shape, 0.8), wave(shape, 4.0)
    assert jacobian_determinant(good).min() > LEAST and folded_share(bad) > 0.02
    both = torch.cat([bad, good])
    before = both.clone()
    mended = unfolded(both)
    assert torch.equal(both, before)
    assert torch.equal(mended[1], good[0])
    assert folded_share(mended)[0] < 0.001


def test_only_the_neighbourhood_of_a_fold_changes():
    displacement = torch.zeros(1, 3, 30, 12, 12)
    displacement[0, 0, 5, 6, 6] = 4.0
    far = displacement.clone()
    far[:, :, 15:] = torch.rand(1, 3, 15, 12, 12) * 0.2
    mended = unfolded(far)
    assert folded_share(far) > 0 and folded_share(mended) == 0
    assert torch.equal(mended[:, :, 20:], far[:, :, 20:])


def test_single_slices_and_empty_batches_are_no_special_case():
    assert jacobian_determinant(torch.zeros(1, 3, 5, 6, 1)).eq(1).all()
    assert unfolded(torch.zeros(0, 2, 5, 6)).shape == (0, 2, 5, 6)
