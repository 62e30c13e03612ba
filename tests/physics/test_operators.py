"""Properties that every sensing operator has: linearity, adjointness, X layer, gradients, dtypes, batches."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from operators import CASES, Case

from mdl_monai.physics.conjugate_gradient import inner

SHAPES = 1000
operator_cases = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


@pytest.mark.parametrize("name", [name for name in CASES if name != "mixture"])
def test_adjoint_passes_the_dot_test_on_a_thousand_shapes(name: str) -> None:
    case, worst = CASES[name], 0.0
    for seed in range(SHAPES):
        x, sampling = case.draw(seed, batch=1, larger=2)
        y = case.operator.A(x, sampling)
        w = torch.randn_like(y)
        left, right = inner(y, w), inner(x, case.operator.A_adjoint(w, sampling))
        # of random vectors the product itself can be near 0, and of one sample of a small image nothing is left
        worst = max(worst, ((left - right).abs() / (y.norm() * w.norm()).clamp_min(1e-30)).item())
    assert worst < 1e-10


def test_adjoint_of_a_mixture_passes_the_dot_test() -> None:
    x, sampling = CASES["mixture"].draw(0, batch=8)
    y = CASES["mixture"].operator.A(x, sampling)
    w = torch.randn_like(y)
    torch.testing.assert_close(inner(y, w), inner(x, CASES["mixture"].operator.A_adjoint(w, sampling)))


@operator_cases
def test_operator_is_linear(case: Case) -> None:
    x, sampling = case.draw(0)
    y = torch.randn_like(x)
    expected = 2.5 * case.operator.A(x, sampling) - case.operator.A(y, sampling)
    torch.testing.assert_close(case.operator.A(2.5 * x - y, sampling), expected)


@operator_cases
@pytest.mark.parametrize("seed", range(5))
def test_normal_is_the_adjoint_of_the_operator(case: Case, seed: int) -> None:
    x, sampling = case.draw(seed)
    op = case.operator
    expected = op.A_adjoint(op.A(x, sampling), sampling)
    torch.testing.assert_close(op.normal(x, op.prepare(x, sampling)), expected, atol=1e-6, rtol=1e-6)


@operator_cases
@pytest.mark.parametrize("seed", range(5))
def test_x_layer_solves_its_equation(case: Case, seed: int) -> None:
    x, sampling = case.draw(seed)
    op = case.operator
    data, prior = op.A_adjoint(op.A(x, sampling), sampling), torch.randn_like(x)
    prepared = op.prepare(data, sampling)
    rho = torch.tensor([0.3, 1.7], dtype=torch.float64).reshape(2, 1, 1, 1)
    solved = op.solve(prior, rho, prepared, torch.zeros_like(x))
    gradient = op.normal(solved, prepared) - data + rho * (solved - prior)
    assert gradient.abs().max() < 1e-5
    assert solved.is_complex() == op.complex_image


@operator_cases
def test_images_do_not_change_one_another(case: Case) -> None:
    x, sampling = case.draw(3)
    op, rho = case.operator, torch.full((2, 1, 1, 1), 0.5, dtype=torch.float64)
    data = op.A_adjoint(op.A(x, sampling), sampling)
    both = op.solve(x, rho, op.prepare(data, sampling), x)
    for n in range(2):
        one = slice(n, n + 1)
        alone = op.solve(x[one], rho[one], op.prepare(data[one], sampling[one]), x[one])
        torch.testing.assert_close(both[one], alone, atol=1e-9, rtol=1e-9)


@operator_cases
def test_gradient_of_the_data_term_is_the_adjoint_of_the_residual(case: Case) -> None:
    x, sampling = case.draw(1)
    x.requires_grad_()
    y = torch.randn_like(case.operator.A(x, sampling).detach())
    (0.5 * (case.operator.A(x, sampling) - y).abs().square().sum()).backward()
    expected = case.operator.A_adjoint(case.operator.A(x.detach(), sampling) - y, sampling)
    torch.testing.assert_close(x.grad, expected)


@operator_cases
def test_x_layer_has_the_gradient_that_finite_differences_have(case: Case) -> None:
    x, sampling = case.draw(2)
    op = case.operator
    prepared = op.prepare(op.A_adjoint(op.A(x, sampling), sampling), sampling)
    rho = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    right = x.clone().requires_grad_()

    def energy(r: torch.Tensor, penalty: torch.Tensor) -> torch.Tensor:
        solved = op.solve(r, penalty, prepared, torch.zeros_like(x))
        return solved.abs().square().sum()

    energy(right, rho).backward()
    step, direction = 1e-5, torch.randn_like(x)
    assert right.grad is not None and rho.grad is not None
    with torch.no_grad():
        along = (energy(x + step * direction, rho) - energy(x - step * direction, rho)) / (2 * step)
        of_rho = (energy(x, rho + step) - energy(x, rho - step)) / (2 * step)
    torch.testing.assert_close(inner(right.grad, direction).sum(), along, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(rho.grad, of_rho, atol=1e-4, rtol=1e-4)


@operator_cases
def test_float32_stays_float32_and_agrees_with_float64(case: Case) -> None:
    x, sampling = case.draw(4)
    low = x.to(torch.complex64 if x.is_complex() else torch.float32)
    op = case.operator
    measured = op.A(low, sampling.float())
    assert measured.dtype in (torch.complex64, torch.float32)
    torch.testing.assert_close(measured.to(op.A(x, sampling).dtype), op.A(x, sampling), atol=1e-4, rtol=1e-3)
    solved = op.solve(low, torch.tensor(0.3), op.prepare(low, sampling.float()), low)
    assert solved.dtype == low.dtype


@operator_cases
def test_full_sampling_returns_the_image(case: Case) -> None:
    x, sampling = case.draw(5)
    sampling[:, 0] = 1
    back = case.operator.A_adjoint(case.operator.A(x, sampling), sampling)
    torch.testing.assert_close(back, x, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("name", ["block Gaussian", "permuted Walsh-Hadamard"])
def test_an_image_of_no_whole_blocks_is_refused(name: str) -> None:
    image = torch.randn(1, 1, 32, 48)
    with pytest.raises(ValueError, match="multiples of 32"):
        CASES[name].operator.A(image, torch.ones_like(image))
