from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from mdl_monai.networks.mask_adaptive_admm_net import MaskAdaptiveADMMNet, mask_descriptor
from mdl_monai.physics.fourier import fft2c, ifft2c
from mdl_monai.physics.masks import sampling_mask

SIZES = [(32, 32), (21, 30), (18, 27), (33, 19)]


def border(
    height: int, width: int, ratio: float = 0.3, batch: int = 2, mask_type: str = "random2d"
) -> Tensor:
    """A smooth positive random image's masked k-space with its mask [B, 3, H, W]."""
    rng = np.random.default_rng(0)
    mask = torch.from_numpy(sampling_mask(mask_type, ratio, height, width, rng)).float()
    image = torch.rand(batch, height, width)
    image = torch.nn.functional.avg_pool2d(image, 3, 1, 1)
    kspace = fft2c(image) * mask
    return torch.stack([kspace.real, kspace.imag, mask.expand_as(kspace.real)], 1)


def trained_looking(stages: int = 3) -> MaskAdaptiveADMMNet:
    """A small net whose proximal steps are not the zero they start as."""
    net = MaskAdaptiveADMMNet(stages=stages, features=8, deep_features=8)
    for step in net.steps:
        torch.nn.init.normal_(step.tail.weight, std=0.02)
    return net.eval()


def test_untrained_network_is_the_hermitian_completed_zero_filled_image() -> None:
    image = border(24, 25, mask_type="pseudo_radial")
    pred = MaskAdaptiveADMMNet(stages=2, features=8, deep_features=8)(image)
    zero_filled = ifft2c(torch.complex(image[:, :1], image[:, 1:2])).real
    torch.testing.assert_close(pred, zero_filled, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("size", SIZES)
def test_any_size_gives_an_image_of_that_size(size: tuple[int, int]) -> None:
    assert trained_looking()(border(*size)).shape == (2, 1, *size)


@pytest.mark.parametrize("scale", [1e-3, 1e4])
def test_scaled_input_gives_the_scaled_output(scale: float) -> None:
    net, image = trained_looking(), border(32, 28)
    scaled = torch.cat([image[:, :2] * scale, image[:, 2:]], 1)
    torch.testing.assert_close(net(scaled) / scale, net(image), atol=1e-5, rtol=1e-4)


def test_the_last_x_keeps_the_measured_samples() -> None:
    """With a tiny rho the closed form takes the measurement where there is one."""
    net, image = trained_looking(), border(24, 26)
    torch.nn.init.constant_(net.log_rho, -30.0)
    kspace = fft2c(net(image).squeeze(1))
    measured = torch.complex(image[:, 0], image[:, 1])
    torch.testing.assert_close(kspace * image[:, 2], measured, atol=1e-5, rtol=1e-4)


def test_fully_sampled_kspace_gives_the_image_back() -> None:
    net = trained_looking()
    torch.nn.init.constant_(net.log_rho, -30.0)
    image = border(20, 22, ratio=1.0)
    expected = ifft2c(torch.complex(image[:, :1], image[:, 1:2])).real
    torch.testing.assert_close(net(image), expected, atol=1e-5, rtol=1e-4)


def test_values_outside_the_mask_do_not_matter() -> None:
    net, image = trained_looking(), border(24, 26)
    noisy = image.clone()
    noisy[:, :2] += (1 - image[:, 2:]) * torch.randn_like(image[:, :2])
    torch.testing.assert_close(net(noisy), net(image))


def test_cases_of_a_batch_do_not_mix() -> None:
    net, image = trained_looking(), border(24, 26)
    torch.testing.assert_close(net(image)[:1], net(image[:1]), atol=1e-5, rtol=1e-4)


def test_another_mask_modulates_the_features() -> None:
    columns = torch.zeros(1, 1, 32, 32)
    columns[..., ::2] = 1
    lines = mask_descriptor(columns), mask_descriptor(columns.transpose(2, 3))
    assert (lines[0] - lines[1]).abs().max() > 0.01  # rows and columns are told apart
    full = mask_descriptor(torch.ones(1, 1, 31, 20))
    torch.testing.assert_close(full, torch.ones(1, 16))


def test_gradient_reaches_every_parameter() -> None:
    net = trained_looking().train()
    net(border(24, 24)).square().mean().backward()
    dead = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    # the first rho has no effect: the first data step has no z yet
    assert [name for name in dead if name != "log_rho"] == []


def test_forward_and_loss_run_on_the_meta_device() -> None:
    net = MaskAdaptiveADMMNet(stages=2, features=8, deep_features=8).to("meta")
    loss = net(torch.empty(2, 3, 21, 30, device="meta")).square().mean()
    assert loss.device.type == "meta"


@pytest.mark.parametrize("size", SIZES)
def test_bfloat16_autocast_stays_near_float32(size: tuple[int, int]) -> None:
    net, image = trained_looking(), border(*size)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = net(image)
    assert low.dtype == torch.float32
    assert (low - net(image)).norm() < 0.02 * net(image).norm()


@pytest.mark.parametrize("size", [(32, 32), (21, 30)])
def test_scripted_network_gives_the_same_image(size: tuple[int, int]) -> None:
    net, image = trained_looking(), border(*size)
    torch.testing.assert_close(torch.jit.script(net)(image), net(image), atol=1e-5, rtol=1e-4)


def test_empty_kspace_gives_an_empty_image() -> None:
    pred = trained_looking()(torch.zeros(1, 3, 16, 16))
    assert torch.isfinite(pred).all() and pred.abs().max() < 1e-20


def test_no_stages_is_refused() -> None:
    with pytest.raises(ValueError, match="must be positive"):
        MaskAdaptiveADMMNet(stages=0)
