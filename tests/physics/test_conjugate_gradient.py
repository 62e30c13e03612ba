from __future__ import annotations

import pytest
import torch

from mdl_monai.physics.conjugate_gradient import conjugate_gradient, inner


def system(n: int, dtype: torch.dtype) -> torch.Tensor:
    generator = torch.Generator().manual_seed(n)
    root = torch.randn(3, n, n, dtype=dtype, generator=generator)
    return root @ root.mH + 0.1 * torch.eye(n, dtype=dtype)


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_as_many_steps_as_unknowns_solve_any_system(dtype: torch.dtype) -> None:
    matrix = system(9, dtype)
    right = torch.randn(3, 9, 1, dtype=dtype)
    solved = conjugate_gradient(lambda x: matrix @ x, right, torch.zeros_like(right), 30)
    torch.testing.assert_close(solved, torch.linalg.solve(matrix, right), atol=1e-6, rtol=1e-6)


def test_each_step_lowers_the_energy_of_the_error() -> None:
    matrix = system(12, torch.float64)
    right = torch.randn(3, 12, 1, dtype=torch.float64)
    exact = torch.linalg.solve(matrix, right)
    energies = []
    for steps in range(1, 8):
        error = conjugate_gradient(lambda x: matrix @ x, right, torch.zeros_like(right), steps) - exact
        energies.append(inner(error, matrix @ error).flatten())
    assert (torch.stack(energies).diff(dim=0) < 0).all()


def test_a_solved_item_stays_beside_one_that_is_not() -> None:
    matrix = system(6, torch.float64)
    right = torch.randn(3, 6, 1, dtype=torch.float64)
    start = torch.linalg.solve(matrix, right)
    start[1:] = 0
    found = conjugate_gradient(lambda x: matrix @ x, right, start, 40)
    torch.testing.assert_close(found, torch.linalg.solve(matrix, right), atol=1e-6, rtol=1e-6)


def test_gradients_are_finite_long_after_it_has_converged() -> None:
    right = torch.randn(2, 4, 1, dtype=torch.float32, requires_grad=True)
    conjugate_gradient(lambda x: 2 * x, right, torch.zeros(2, 4, 1), 10).sum().backward()
    assert right.grad is not None
    torch.testing.assert_close(right.grad, torch.full_like(right.grad, 0.5))
