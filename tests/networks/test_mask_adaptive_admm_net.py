from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from mdl_monai.networks.admm_net import ADMMNet
from mdl_monai.networks.dct_filters import circular_convolution, circular_correlation_sum, lag_phases
from mdl_monai.networks.mask_adaptive_admm_net import MaskAdaptiveADMMNet, data_step, mask_descriptor
from mdl_monai.physics.fourier import fft2c, hermitian_mean, ifft2c
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
    """A small net whose learned priors are not the zero they start as."""
    net = MaskAdaptiveADMMNet(stages=stages, filters=4, features=8, deep_features=8)
    for stage in net.stages:
        torch.nn.init.normal_(stage.prior.tail.weight, std=0.02)
        torch.nn.init.constant_(stage.log_mu, -1.0)
    return net.eval()


def without_priors(net: MaskAdaptiveADMMNet) -> MaskAdaptiveADMMNet:
    """The same net with nothing but what Basic ADMM-Net has."""
    for stage in net.stages:
        torch.nn.init.constant_(stage.log_mu, -80.0)
    for parameter in net.condition.parameters():
        torch.nn.init.zeros_(parameter)
    return net


def test_without_its_priors_it_is_the_basic_admm_net() -> None:
    """For a conjugate-symmetric mask and a zero-filled peak of 1 the formulas are the same."""
    basic = ADMMNet(stages=3)
    for parameter in basic.parameters():
        parameter.data += 0.02 * torch.randn_like(parameter)
    net = MaskAdaptiveADMMNet(stages=3, features=8, deep_features=8)
    missing, unexpected = net.load_state_dict(basic.state_dict(), strict=False)
    assert not unexpected and all("prior" in k or "log_mu" in k or "condition" in k for k in missing)
    image = border(33, 31, mask_type="pseudo_radial", batch=1)
    peak = ifft2c(torch.complex(image[:, :1], image[:, 1:2])).real.abs().max()
    image[:, :2] /= peak
    torch.testing.assert_close(without_priors(net)(image), basic(image), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("size", SIZES)
def test_any_size_gives_an_image_of_that_size(size: tuple[int, int]) -> None:
    assert trained_looking()(border(*size)).shape == (2, 1, *size)


@pytest.mark.parametrize("scale", [1e-3, 1e4])
def test_scaled_input_gives_the_scaled_output(scale: float) -> None:
    net, image = trained_looking(), border(32, 28)
    scaled = torch.cat([image[:, :2] * scale, image[:, 2:]], 1)
    torch.testing.assert_close(net(scaled) / scale, net(image), atol=1e-5, rtol=1e-4)


def test_x_keeps_the_measured_samples_where_no_penalty_pulls() -> None:
    net, image = without_priors(trained_looking()), border(24, 26)
    torch.nn.init.zeros_(net.reconstruction.rho)
    kspace = fft2c(net(image).squeeze(1))
    measured = torch.complex(image[:, 0], image[:, 1])
    torch.testing.assert_close(kspace * image[:, 2], measured, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("size", [(20, 22), (21, 19)])
def test_the_data_step_solves_its_normal_equation(size: tuple[int, int]) -> None:
    """(M + s sum rho |h|^2 + mu) x = y + s p + mu v, with the filters applied in the image domain."""
    h, w = size
    filters, rho = torch.randn(3, 3, 3), torch.rand(3) + 0.1
    difference, v = torch.randn(1, 3, h, w), torch.randn(1, 1, h, w)
    scale, mu = torch.full((1, 1, 1, 1), 0.7), torch.full((1, 1, 1, 1), 0.3)
    symmetric = hermitian_mean(torch.rand(1, 1, h, w)) > 0.5
    known = torch.fft.ifftshift(symmetric.float(), dim=(-2, -1))[..., : w // 2 + 1]
    spectrum = torch.fft.rfft2(torch.randn(1, 1, h, w), norm="ortho") * known
    phases = lag_phases(h, w, known)
    x, p = data_step(filters, rho, difference, v, (scale, mu), (spectrum, known), phases)
    responses = circular_convolution(x, filters, torch.zeros(1, 3, h, w))
    sampled = torch.fft.irfft2(torch.fft.rfft2(x, norm="ortho") * known, s=size, norm="ortho")
    left = sampled + scale * circular_correlation_sum(responses, filters * rho[:, None, None]) + mu * x
    right = torch.fft.irfft2(spectrum, s=size, norm="ortho") + scale * p + mu * v
    torch.testing.assert_close(left, right, atol=1e-4, rtol=1e-4)


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
    # the first stage starts from zeros: its H and rho act on nothing but the denominator
    assert dead == []


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
