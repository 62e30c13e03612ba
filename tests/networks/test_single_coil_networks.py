"""What holds for every single-coil reconstruction network and baseline."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from single_coil import measured, smooth_images
from torch import nn

from mdl_monai.networks.admm_net import ADMMNet
from mdl_monai.networks.tv_admm import TVReconstruction
from mdl_monai.networks.wavelet_admm import WaveletReconstruction
from mdl_monai.networks.zero_filled import ZeroFilled

TRAINED: dict[str, Callable[[], nn.Module]] = {"admm_net": lambda: ADMMNet(3)}
CLASSICAL: dict[str, Callable[[], nn.Module]] = {
    "zero_filled": ZeroFilled,
    "tv": lambda: TVReconstruction(iterations=5),
    "wavelet": lambda: WaveletReconstruction(iterations=5, levels=2),
}
SIZES = [(12, 16), (15, 11), (9, 14), (16, 13)]


@pytest.fixture(params=[*TRAINED, *CLASSICAL])
def network(request: pytest.FixtureRequest) -> nn.Module:
    return (TRAINED | CLASSICAL)[request.param]()


@pytest.fixture(params=[*TRAINED])
def trained(request: pytest.FixtureRequest) -> nn.Module:
    return TRAINED[request.param]()


@pytest.mark.parametrize("size", SIZES)
def test_any_size_and_any_mask_give_a_real_image_of_that_size(
    network: nn.Module, size: tuple[int, int]
) -> None:
    pred = network(measured(smooth_images(*size)))
    assert pred.shape == (2, 1, *size) and pred.dtype == torch.float32
    assert torch.isfinite(pred).all()


@pytest.mark.parametrize("size", SIZES)
def test_an_image_of_a_batch_is_reconstructed_as_if_alone(network: nn.Module, size: tuple[int, int]) -> None:
    image = measured(smooth_images(*size, batch=3))
    torch.testing.assert_close(network(image)[1:2], network(image[1:2]), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("size", SIZES)
def test_bfloat16_autocast_stays_near_float32_and_returns_float32(
    network: nn.Module, size: tuple[int, int]
) -> None:
    image = measured(smooth_images(*size))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = network(image)
    assert low.dtype == torch.float32
    torch.testing.assert_close(low, network(image), atol=0.02, rtol=0)


def test_the_meta_device_runs_the_forward_pass(network: nn.Module) -> None:
    pred = network.to("meta")(torch.empty(2, 3, 15, 12, device="meta"))
    assert pred.shape == (2, 1, 15, 12) and pred.device.type == "meta"


def test_the_meta_device_runs_loss_and_gradient(trained: nn.Module) -> None:
    trained.to("meta")(torch.empty(2, 3, 15, 12, device="meta")).square().mean().backward()
    assert all(p.grad is not None and p.grad.device.type == "meta" for p in trained.parameters())


@pytest.mark.parametrize("size", SIZES)
def test_scripted_network_agrees_at_any_size(trained: nn.Module, size: tuple[int, int]) -> None:
    scripted = torch.jit.script(trained)
    image = measured(smooth_images(*size))
    torch.testing.assert_close(scripted(image), trained(image), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("size", [(12, 16), (15, 11)])
def test_exported_network_agrees(trained: nn.Module, size: tuple[int, int]) -> None:
    image = measured(smooth_images(*size))
    exported = torch.export.export(trained, (image,)).module()
    torch.testing.assert_close(exported(image), trained(image), atol=1e-5, rtol=1e-4)


def test_every_parameter_receives_a_gradient(trained: nn.Module) -> None:
    trained(measured(smooth_images(14, 15))).square().mean().backward()
    blind = [name for name, p in trained.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert blind == []


def test_a_nan_in_the_data_reaches_the_image_instead_of_an_index_error(trained: nn.Module) -> None:
    image = measured(smooth_images(12, 13))
    image[0, 0, 6, 6] = torch.nan
    pred = trained(image)
    assert pred[0].isnan().all() and torch.isfinite(pred[1]).all()


@pytest.mark.parametrize("name", CLASSICAL)
@pytest.mark.parametrize("scale", [1e-3, 1e4])
def test_a_classical_reconstruction_scales_with_the_data(name: str, scale: float) -> None:
    network, image = CLASSICAL[name](), measured(smooth_images(12, 15))
    scaled = torch.cat((image[:, :2] * scale, image[:, 2:]), dim=1)
    torch.testing.assert_close(network(scaled) / scale, network(image), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", CLASSICAL)
def test_a_classical_reconstruction_of_full_data_is_the_image(name: str) -> None:
    images = smooth_images(12, 15)
    torch.testing.assert_close(CLASSICAL[name]()(measured(images, ratio=2.0)), images, atol=5e-3, rtol=0)
