import math

import pytest
import torch
from warp_cases import rotation

from mdl_monai.registration.smoothness import bending, diffusion


def plain_diffusion(displacement, spacing):
    return sum(
        (displacement.diff(dim=a + 1) / spacing[a]).square().sum() for a in range(len(spacing))
    ) / math.prod(displacement.shape[1:-1])


CASES = [((2, 6, 7, 2), (1.0, 1.7)), ((3, 5, 4, 6, 3), (1.2, 0.8, 4.0)), ((1, 5, 1, 6, 3), (1.0, 2.0, 1.0))]


@pytest.mark.parametrize(("shape", "spacing"), CASES)
def test_diffusion_and_its_gradient_equal_those_of_autograd(shape, spacing):
    field = torch.rand(shape, dtype=torch.float64, requires_grad=True)
    spacing = torch.tensor(spacing, dtype=torch.float64)
    ours, plain = diffusion(field, spacing), plain_diffusion(field, spacing)
    torch.testing.assert_close(ours, plain)
    torch.testing.assert_close(torch.autograd.grad(3 * ours, field), torch.autograd.grad(3 * plain, field))


@pytest.mark.parametrize(("shape", "spacing"), CASES)
@pytest.mark.parametrize("energy", [diffusion, bending])
def test_gradient_equals_finite_differences(shape, spacing, energy):
    field = torch.rand(
        1, *[min(n, 3) for n in shape[1:-1]], shape[-1], dtype=torch.float64, requires_grad=True
    )
    assert torch.autograd.gradcheck(lambda u: energy(u, torch.tensor(spacing)), field)


@pytest.mark.parametrize(("shape", "spacing"), CASES)
def test_constant_and_affine_displacements(shape, spacing):
    dims = shape[-1]
    axes = [torch.arange(n, dtype=torch.float64) * h for n, h in zip(shape[1:-1], spacing, strict=True)]
    place = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)
    affine = (place @ rotation([0.2, 0.1, 0.3], dims).T * 1.3 + 2)[None]
    h = torch.tensor(spacing, dtype=torch.float64)
    assert diffusion(torch.ones_like(affine), h) == 0
    torch.testing.assert_close(bending(affine, h), torch.tensor(0.0, dtype=torch.float64), atol=1e-20, rtol=0)
    assert diffusion(affine, h) > 0.1 and bending(affine**2, h) > 0.1


def test_bending_counts_mixed_derivatives_twice():
    """u = 0.1 x^2 + 0.3 x y + 0.2 y^2 on a large grid: (2 * 0.1)^2 + 2 * 0.3^2 + (2 * 0.2)^2, and 0.5^2 as units."""
    axes = [torch.arange(400, dtype=torch.float64) * h for h in (0.5, 2.0)]
    x, y = torch.meshgrid(*axes, indexing="ij")
    field = (0.1 * x**2 + 0.3 * x * y + 0.2 * y**2)[None, ..., None].expand(-1, -1, -1, 2)
    expected = 2 * 0.25 * (0.04 + 0.18 + 0.16)
    found = float(bending(field, torch.tensor([0.5, 2.0], dtype=torch.float64)))
    assert found == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("energy", [diffusion, bending])
def test_the_same_field_costs_the_same_on_another_grid(energy):
    def cost(counts):
        lengths = torch.tensor([20.0, 30.0, 24.0], dtype=torch.float64)
        h = lengths / torch.tensor(counts)
        axes = [(torch.arange(n) + 0.5) * s for n, s in zip(counts, h, strict=True)]
        place = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)
        field = (2 * math.pi * place.roll(1, -1) / torch.tensor([24.0, 20.0, 30.0])).sin()[None]
        # bending is in units of the shortest spacing
        return energy(field, h) / (h.min() ** 2 if energy is bending else 1)

    torch.testing.assert_close(cost((40, 60, 48)), cost((60, 50, 72)), rtol=0.06, atol=0)


@pytest.mark.parametrize("energy", [diffusion, bending])
def test_energies_of_images_add_up(energy):
    field, spacing = torch.rand(3, 5, 6, 4, 3), torch.tensor([1.0, 2.0, 1.5])
    torch.testing.assert_close(energy(field, spacing), sum(energy(u[None], spacing) for u in field))
