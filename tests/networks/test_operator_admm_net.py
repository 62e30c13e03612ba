"""Our network with an operator as a part: what holds for any operator."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mdl_monai.networks.operator_admm_net import OperatorADMMNet
from mdl_monai.physics.masked_transform import MaskedTransform
from mdl_monai.physics.orthonormal import CodedDiffraction, Fourier, PermutedHadamard
from mdl_monai.physics.sampling import CoefficientSampling, CoilSampling, Sampling
from mdl_monai.physics.sense import Sense
from mdl_monai.physics.sensing import SensingOperator, from_channels, to_channels

SINGLE = MaskedTransform(Fourier("cartesian1d"), complex_image=True)
PHASE = {"levels": 2, "phase_width": 0.06}
KINDS: dict[str, tuple[SensingOperator, Sampling, dict[str, Any]]] = {
    "coils": (Sense(4), CoilSampling("cartesian1d", 0.4, [1, 3]), {}),
    "coils, smooth phase": (Sense(4), CoilSampling("cartesian1d", 0.4, [1, 3]), PHASE),
    "one coil": (SINGLE, CoefficientSampling(Fourier("cartesian1d"), 0.4), {}),
    "hadamard": (MaskedTransform(PermutedHadamard()), CoefficientSampling(PermutedHadamard(), 0.3), {}),
    "hadamard, wavelets": (
        MaskedTransform(PermutedHadamard()), CoefficientSampling(PermutedHadamard(), 0.3), {"levels": 3}
    ),
}  # fmt: skip


def network_of(operator: SensingOperator, **options: Any) -> OperatorADMMNet:
    torch.manual_seed(0)
    network = OperatorADMMNet(operator, stages=3, features=6, deep_features=8, **options)
    for prior in network.priors:  # as if trained: the CNN says something
        torch.nn.init.normal_(prior.tail.weight, std=0.02)
    return network


def network_of_kind(kind: str) -> OperatorADMMNet:
    operator, _, options = KINDS[kind]
    return network_of(operator, **options)


def border(kind: str, batch: int = 3, size: tuple[int, int] | None = None) -> Tensor:
    operator, sampling, _ = KINDS[kind]
    rng = np.random.default_rng(1)
    h, w = size or ((32, 64) if operator.multiple > 1 else (21, 26))
    drawn = torch.stack([sampling.draw(h, w, rng) for _ in range(batch)])
    image = from_channels(torch.rand(batch, 2 if operator.complex_image else 1, h, w))
    return torch.cat([to_channels(operator.A_adjoint(operator.A(image, drawn), drawn)), drawn], 1)


@pytest.mark.parametrize("kind", KINDS)
def test_output_has_the_images_channels_and_size(kind: str) -> None:
    image = border(kind)
    pred = network_of_kind(kind)(image)
    assert pred.shape == (3, 2 if KINDS[kind][0].complex_image else 1, *image.shape[2:])
    assert pred.dtype == torch.float32 and torch.isfinite(pred).all()


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_of_a_batch_is_reconstructed_as_if_alone(kind: str) -> None:
    network, image = network_of_kind(kind).eval(), border(kind)
    torch.testing.assert_close(network(image)[1:2], network(image[1:2]), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_scaled_measurement_gives_the_scaled_image(kind: str) -> None:
    network, image = network_of_kind(kind), border(kind)
    channels = 2 if KINDS[kind][0].complex_image else 1
    scaled = torch.cat([1e3 * image[:, :channels], image[:, channels:]], 1)
    torch.testing.assert_close(network(scaled), 1e3 * network(image), atol=1e-1, rtol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_every_weight_gets_a_gradient(kind: str) -> None:
    network = network_of_kind(kind)
    network(border(kind)).square().sum().backward()
    without = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    # the modulation behind the last x has no CNN to modulate, and gets zeros
    assert without == []


@pytest.mark.parametrize("kind", KINDS)
def test_untrained_it_keeps_the_measurement(kind: str) -> None:
    operator, _, options = KINDS[kind]
    network = OperatorADMMNet(operator, stages=6, features=4, deep_features=4, **options)
    image = border(kind)
    channels = 2 if operator.complex_image else 1
    adjoint, sampling = from_channels(image[:, :channels]), image[:, channels:]
    again = operator.normal(from_channels(network(image)), operator.prepare(adjoint, sampling))
    assert (again - adjoint).norm() < 0.1 * adjoint.norm()


def test_an_image_turned_by_a_phase_gives_the_turned_image() -> None:
    network, image = network_of_kind("coils, smooth phase"), border("coils, smooth phase")
    turn = torch.tensor(0.6 + 0.8j)
    turned = torch.cat([to_channels(turn * from_channels(image[:, :2])), image[:, 2:]], 1)
    expected = to_channels(turn * from_channels(network(image)))
    torch.testing.assert_close(network(turned), expected, atol=1e-4, rtol=1e-3)


def test_one_coil_is_the_same_by_sense_and_in_closed_form() -> None:
    closed = border("one coil", batch=2)
    maps = torch.cat([torch.ones_like(closed[:, :1]), torch.zeros_like(closed[:, :1])], 1)
    one, many = network_of(SINGLE), network_of(Sense(6))
    many.load_state_dict(one.state_dict())
    torch.testing.assert_close(many(torch.cat([closed, maps], 1)), one(closed), atol=1e-3, rtol=1e-3)


def test_weights_serve_any_operator_of_the_same_images() -> None:
    weights = network_of(MaskedTransform(PermutedHadamard())).state_dict()
    other = network_of(MaskedTransform(CodedDiffraction()))
    assert other.load_state_dict(weights).missing_keys == []


@pytest.mark.parametrize("kind", ["coils", "coils, smooth phase"])
@pytest.mark.parametrize("size", [(17, 22), (24, 19)])
def test_bfloat16_autocast_stays_near_float32(kind: str, size: tuple[int, int]) -> None:
    network, image = network_of_kind(kind), border(kind, size=size)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = network(image)
    expected = network(image)
    assert low.dtype == torch.float32
    assert (low - expected).norm() < 0.05 * expected.norm()


def test_training_lowers_the_error() -> None:
    torch.manual_seed(0)
    operator, sampling, _ = KINDS["coils"]
    network = OperatorADMMNet(operator, stages=2, features=8, deep_features=8)
    rng = np.random.default_rng(0)
    drawn = torch.stack([sampling.draw(24, 20, rng) for _ in range(4)])
    row, column = torch.linspace(-1, 1, 24)[:, None], torch.linspace(-1, 1, 20)
    disc = torch.stack([((row - 0.1 * n) ** 2 + column**2 < 0.4).float() for n in range(4)])[:, None]
    label = torch.cat([disc, 0.3 * disc], 1)
    image = operator.A_adjoint(operator.A(from_channels(label), drawn), drawn)
    image = torch.cat([to_channels(image), drawn], 1)
    optimiser, errors = torch.optim.Adam(network.parameters(), 3e-3), []
    for _ in range(25):
        loss = (network(image) - label).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        errors.append(loss.item())
    assert errors[-1] < 0.7 * errors[0]


@pytest.mark.parametrize("arguments", [{"stages": 0}, {"features": 0}, {"deep_features": -1}])
def test_impossible_sizes_are_refused(arguments: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="positive"):
        OperatorADMMNet(Sense(), **arguments)


@pytest.mark.parametrize(
    ("operator", "levels"),
    [(Sense(), 0), (MaskedTransform(PermutedHadamard()), 2)],
    ids=["no levels", "real"],
)
def test_a_phase_without_wavelets_or_of_real_images_is_refused(
    operator: SensingOperator, levels: int
) -> None:
    with pytest.raises(ValueError, match="phase_width needs"):
        OperatorADMMNet(operator, levels=levels, phase_width=0.04)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_a_trace_holds_for_other_masks_coils_and_sizes() -> None:
    """What is done faster for whole columns and for coils that are not there must not be in it for good."""
    network = network_of_kind("coils, smooth phase").eval()
    traced = torch.jit.trace(
        network, border("coils, smooth phase", batch=1, size=(32, 40)), check_trace=False
    )
    rng = np.random.default_rng(2)
    drawn = CoilSampling("random2d", 0.3, 3).draw(27, 34, rng)[None]
    image = from_channels(torch.rand(1, 2, 27, 34))
    operator = Sense()
    other = torch.cat([to_channels(operator.A_adjoint(operator.A(image, drawn), drawn)), drawn], 1)
    torch.testing.assert_close(traced(other), network(other), atol=1e-4, rtol=1e-3)
