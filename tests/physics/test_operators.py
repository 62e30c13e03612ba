"""Properties that every forward operator has: linearity, adjointness, norm, pseudo-inverse, gradient, dtype."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent))
from operators import CASES, Case

operator_cases = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


def inner(a: Tensor, b: Tensor) -> Tensor:
    """Real inner product of real or complex tensors; the shapes must agree before they are flattened."""
    assert a.shape == b.shape
    return (a.conj() * b).real.sum()


@operator_cases
def test_operator_is_linear(case: Case) -> None:
    op, x, y = case.make(), case.image(0), case.image(1)
    torch.testing.assert_close(op.A(2.5 * x - y), 2.5 * op.A(x) - op.A(y))


@operator_cases
def test_adjoint_passes_the_dot_test(case: Case) -> None:
    op, x = case.make(), case.image(0)
    y = torch.randn_like(op.A(x))
    torch.testing.assert_close(inner(op.A(x), y), inner(x, op.A_adjoint(y)))


@operator_cases
def test_gradient_of_the_data_term_is_the_adjoint_of_the_residual(case: Case) -> None:
    op, x = case.make(), case.image(0).requires_grad_()
    y = torch.randn_like(op.A(x).detach())
    (0.5 * (op.A(x) - y).abs().square().sum()).backward()
    torch.testing.assert_close(x.grad, op.A_adjoint(op.A(x.detach()) - y))


@operator_cases
def test_dagger_satisfies_the_penrose_conditions(case: Case) -> None:
    op, x = case.make(), case.image(0)
    y = torch.randn_like(op.A(x))
    torch.testing.assert_close(op.A(op.A_dagger(op.A(x))), op.A(x))
    torch.testing.assert_close(op.A_dagger(op.A(op.A_dagger(y))), op.A_dagger(y))


@operator_cases
def test_norm_by_power_iteration(case: Case) -> None:
    op, x = case.make(), case.image(0)
    for _ in range(100):
        x = op.A_adjoint(op.A(x))
        x = x / x.norm()
    norm = op.A(x).norm().item()
    if case.norm is None:
        assert norm <= 1 + 1e-6
    else:
        assert norm == pytest.approx(case.norm, rel=1e-6)


@operator_cases
def test_float32_stays_float32_and_agrees_with_float64(case: Case) -> None:
    op, x = case.make(), case.image(0)
    low = case.make().float().A(x.to(torch.complex64 if case.complex_image else torch.float32))
    assert low.dtype == torch.complex64
    torch.testing.assert_close(low.to(torch.complex128), op.A(x), atol=1e-5, rtol=1e-4)


@operator_cases
def test_operator_runs_on_the_meta_device(case: Case) -> None:
    op = case.make().to("meta")
    measured = op.A(case.image(0).to("meta"))
    assert op.A_adjoint(measured).shape == case.image_shape
    assert op.A_dagger(measured).device.type == "meta"


@operator_cases
def test_state_dict_restores_the_operator(case: Case) -> None:
    op, other, x = case.make(), case.make(), case.image(0)
    other.mask.zero_()
    other.load_state_dict(op.state_dict())
    torch.testing.assert_close(other.A(x), op.A(x))
