"""Non-Cartesian SENSE: the same properties, and equality with the sum that defines it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from mdl_monai.errors import InputError
from mdl_monai.physics.conjugate_gradient import inner

pytest.importorskip("torchkbnufft", reason="the extra noncartesian is not installed")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

from mdl_monai.physics.non_cartesian import (  # noqa: E402
    NonCartesianSense,
    TrajectorySampling,
    radial_trajectory,
)

SHAPE = (20, 27)


@pytest.fixture(scope="module")
def operator() -> NonCartesianSense:
    return NonCartesianSense(radial_trajectory(45, 54), steps=40)


@pytest.fixture(scope="module")
def sampling(operator: NonCartesianSense) -> torch.Tensor:
    return TrajectorySampling(operator, 3).draw(*SHAPE, np.random.default_rng(0)).double()[None]


def image(seed: int) -> torch.Tensor:
    return torch.randn(1, 1, *SHAPE, dtype=torch.complex128, generator=torch.Generator().manual_seed(seed))


def test_adjoint_passes_the_dot_test(operator: NonCartesianSense, sampling: torch.Tensor) -> None:
    x = image(0)
    y = operator.A(x, sampling)
    w = torch.randn_like(y)
    difference = inner(y, w).sum() - inner(x, operator.A_adjoint(w, sampling)).sum()
    assert abs(difference.item()) < 1e-10 * (y.norm() * w.norm()).item()


@pytest.mark.parametrize("number", [20, pytest.param(1000, marks=pytest.mark.slow)])
def test_random_trajectories_and_shapes_pass_the_dot_test(number: int) -> None:
    rng = np.random.default_rng(number)
    for _ in range(number):  # the density compensation of each takes a quarter of a second
        shape = tuple(int(n) for n in rng.integers(8, 24, 2))
        op = NonCartesianSense(torch.from_numpy(rng.uniform(-math.pi, math.pi, (2, 60))))
        coils = TrajectorySampling(op, 2).draw(shape[0], shape[1], rng).double()[None]
        x = torch.from_numpy(rng.standard_normal((1, 1, *shape))).to(torch.complex128)
        y = op.A(x, coils)
        w = torch.randn_like(y)
        assert (
            abs((inner(y, w).sum() - inner(x, op.A_adjoint(w, coils)).sum()).item())
            < 1e-10 * (y.norm() * w.norm()).item()
        )


def test_normal_is_the_adjoint_of_the_operator(operator: NonCartesianSense, sampling: torch.Tensor) -> None:
    x = image(1)
    expected = operator.A_adjoint(operator.A(x, sampling), sampling)
    torch.testing.assert_close(
        operator.normal(x, operator.prepare(x, sampling)), expected, atol=1e-4, rtol=1e-4
    )


def test_it_is_the_non_uniform_fourier_sum(operator: NonCartesianSense, sampling: torch.Tensor) -> None:
    x, points = image(2), operator.trajectory
    row, column = (torch.arange(n, dtype=torch.float64) - n // 2 for n in SHAPE)
    phase = points[0][:, None, None] * row[:, None] + points[1][:, None, None] * column
    maps = torch.complex(*sampling[:, 1:].chunk(2, 1))
    expected = torch.einsum("khw,bchw->bck", torch.exp(-1j * phase), maps * x) / math.prod(SHAPE) ** 0.5
    measured = operator.A(x, sampling)
    weights = operator._parts(x)[3] / 2
    torch.testing.assert_close(measured / weights, expected, atol=2e-3, rtol=2e-3)


def test_a_densely_measured_smooth_image_returns(operator: NonCartesianSense, sampling: torch.Tensor) -> None:
    row, column = (torch.arange(n, dtype=torch.float64) - n // 2 for n in SHAPE)
    smooth = torch.exp(-(row[:, None] ** 2 + column**2) / 18).to(torch.complex128)[None, None]
    data = operator.A_adjoint(operator.A(smooth, sampling), sampling)
    prepared = operator.prepare(data, sampling)
    assert (data - smooth).norm() < 0.15 * smooth.norm()  # by density compensation alone
    solved = operator.solve(torch.zeros_like(data), torch.tensor(1e-3), prepared, data)
    assert (solved - smooth).norm() < 0.02 * smooth.norm()


@pytest.mark.parametrize(
    "trajectory",
    [torch.zeros(3, 5), torch.zeros(2, 0), torch.full((2, 5), 4.0), torch.full((2, 5), math.nan)],
)
def test_a_wrong_trajectory_is_refused(trajectory: torch.Tensor) -> None:
    with pytest.raises(InputError, match="trajectory"):
        NonCartesianSense(trajectory)


@pytest.mark.parametrize("size", [(19, 27), (10, 8), (27, 16)])
def test_the_middle_of_the_trajectory_is_the_middle_of_the_grid(size: tuple[int, int]) -> None:
    operator = NonCartesianSense(torch.zeros(2, 1))
    cells = operator.cells(*size)
    assert cells.sum() == 1 and cells[0, size[0] // 2, size[1] // 2] == 1


def test_cartesian_data_is_refused(operator: NonCartesianSense, sampling: torch.Tensor) -> None:
    cartesian = sampling.clone()
    cartesian[:, 0] = 0
    cartesian[:, 0, :, ::3] = 1
    with pytest.raises(InputError, match="does not lie on the operator's trajectory"):
        operator.prepare(image(0), cartesian)
