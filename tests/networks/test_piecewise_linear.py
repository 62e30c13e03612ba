import numpy as np
import pytest
import torch
from torch import Tensor

from mdl_monai.networks import piecewise_linear
from mdl_monai.networks.piecewise_linear import PiecewiseLinear, piecewise_linear_gather

POINTS = torch.linspace(-1, 1, 101)


def layer(channels: int = 3) -> PiecewiseLinear:
    made = PiecewiseLinear(POINTS, channels).double()
    made.values.data = torch.randn(channels, 101, dtype=torch.float64)
    return made


def signals(channels: int = 3) -> Tensor:
    """Values inside and well outside the control points."""
    return torch.randn(2, channels, 5, 7, dtype=torch.float64) * 1.5


def test_equal_values_and_positions_give_the_identity_inside_and_outside() -> None:
    x = torch.linspace(-3, 3, 4 * 31).reshape(1, 4, 31)
    torch.testing.assert_close(PiecewiseLinear(POINTS, 4)(x), x)


def test_control_points_return_their_values() -> None:
    made = layer()
    x = torch.linspace(-1, 1, 101, dtype=torch.float64).expand(1, 3, 101)
    torch.testing.assert_close(made(x)[0], made.values)


def test_beyond_the_ends_the_slope_is_one() -> None:
    made = layer()
    ends = torch.tensor([-1.0, -1.37, 1.0, 2.5], dtype=torch.float64).expand(1, 3, 4)
    left, further_left, right, further_right = made(ends)[0].unbind(-1)
    torch.testing.assert_close(further_left, left - 0.37)
    torch.testing.assert_close(further_right, right + 1.5)


def test_channels_use_their_own_curve_like_numpy_interp() -> None:
    made = layer()
    x = torch.rand(4, 3, 6, 5, dtype=torch.float64) * 2 - 1
    expected = torch.empty_like(x)
    for channel in range(3):
        curve = made.values[channel].detach().numpy()
        expected[:, channel] = torch.from_numpy(np.interp(x[:, channel], np.linspace(-1, 1, 101), curve))
    torch.testing.assert_close(made(x), expected)


@pytest.mark.parametrize("piece", [1, 40, 100_000])
def test_gradients_of_input_and_values_are_exact(piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(piecewise_linear, "_CPU_PIECE", piece)
    made = layer()

    def function(x: Tensor, values: Tensor) -> Tensor:
        return torch.func.functional_call(made, {"values": values}, (x,))

    inputs = (signals().requires_grad_(), made.values.detach().requires_grad_())
    assert torch.autograd.gradcheck(function, inputs)


@pytest.mark.parametrize("piece", [1, 40, 100_000])
def test_table_lookup_and_plain_gather_agree_in_value_and_gradient(
    piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(piecewise_linear, "_CPU_PIECE", piece)
    made = layer(channels=5)
    x = signals(channels=5).transpose(2, 3).requires_grad_()  # not contiguous
    weight = torch.randn_like(x)
    results = []
    for out in (made(x), piecewise_linear_gather(x, made.values, made.lower, made.spacing)):
        gradients = torch.autograd.grad((out * weight).sum(), (x, made.values))
        results.append((out, *gradients))
    for table, plain in zip(*results, strict=True):
        torch.testing.assert_close(table, plain)


def test_scripted_layer_agrees_with_the_eager_one() -> None:
    made, x = layer(), signals()
    torch.testing.assert_close(torch.jit.script(made)(x), made(x))


def test_a_chosen_range_moves_the_control_points() -> None:
    made = PiecewiseLinear(torch.tensor([0.0, 3.0, 2.0]), 1, lower=0.0, upper=4.0)
    x = torch.tensor([[[-1.0, 0.0, 1.0, 3.0, 5.0]]])
    torch.testing.assert_close(made(x), torch.tensor([[[-1.0, 0.0, 1.5, 2.5, 3.0]]]))


def test_half_precision_input_is_computed_in_the_dtype_of_the_values() -> None:
    made = PiecewiseLinear(POINTS.relu(), 2)
    x = (torch.rand(1, 2, 9) * 2 - 1).bfloat16()
    out = made(x)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, x.float().relu())


@pytest.mark.parametrize("initial", [torch.zeros(1), torch.zeros(3, 2)])
def test_initial_values_of_another_shape_are_refused(initial: Tensor) -> None:
    with pytest.raises(ValueError, match="shape"):
        PiecewiseLinear(initial, 2)
