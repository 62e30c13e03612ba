import pytest
import torch
from single_coil import measured, smooth_images
from torch import Tensor
from torch.nn import functional

from mdl_monai.networks.admm_net import ADMMNet
from mdl_monai.networks.dct_filters import dct_atoms, lag_phases
from mdl_monai.networks.piecewise_linear import PiecewiseLinear
from mdl_monai.networks.reconstruction_border import real_image_data
from mdl_monai.physics.fourier import fft2c


def classical_admm(image: Tensor, stages: int) -> Tensor:
    """ADMM with the eight DCT filters written out with full FFTs, one image [1, 3, H, W] to [H, W]."""
    real, imaginary, mask = torch.fft.ifftshift(image[0], dim=(-2, -1))
    placed = torch.zeros(8, *mask.shape)
    placed[:, :3, :3] = dct_atoms()
    filters = torch.fft.fft2(placed.roll((-1, -1), (1, 2)))
    denominator = mask + 0.2 * filters.abs().square().sum(0)
    z, b = torch.zeros(8, *mask.shape), torch.zeros(8, *mask.shape)
    shrink = PiecewiseLinear(functional.softshrink(torch.linspace(-1, 1, 101), 0.05), 8)
    for stage in range(stages + 1):
        numerator = torch.complex(real, imaginary) + 0.2 * (filters.conj() * ortho(z - b)).sum(0)
        x = torch.fft.ifft2(numerator / denominator, norm="ortho").real
        if stage < stages:
            c = torch.fft.ifft2(torch.fft.fft2(x) * filters).real
            z = shrink((c + b)[None])[0]
            b = b + 1.6 * (c - z)
    return torch.fft.fftshift(x)


def ortho(images: Tensor) -> Tensor:
    return torch.fft.fft2(images, norm="ortho")


@pytest.mark.parametrize(("stages", "count"), [(9, 8640), (16, 15304), (17, 16256)])
def test_parameter_counts_are_those_of_the_published_networks(stages: int, count: int) -> None:
    assert sum(p.numel() for p in ADMMNet(stages).parameters()) == count


@pytest.mark.parametrize("size", [(12, 16), (13, 10)])
def test_the_untrained_network_is_the_classical_admm(size: tuple[int, int]) -> None:
    images = smooth_images(*size, batch=1)
    mask = (torch.rand(size) < 0.5).float()
    plain = torch.fft.ifftshift(mask)
    symmetric = torch.maximum(plain, plain.flip((0, 1)).roll((1, 1), (0, 1)))
    symmetric[0, 0] = 1
    mask = torch.fft.fftshift(symmetric)
    kspace = mask * fft2c(images)
    image = torch.cat((kspace.real, kspace.imag, mask.expand_as(images)), dim=1)
    expected = classical_admm(image, stages=4)
    torch.testing.assert_close(ADMMNet(4)(image)[0, 0], expected, atol=1e-4, rtol=0)


def test_without_symmetry_of_the_mask_the_first_image_is_the_minimiser_over_real_images() -> None:
    """The gradient of 1/2 ||mask F x - y||^2 + 0.1 sum_l ||H_l x||^2 vanishes at one X layer's image."""
    network = ADMMNet(1).double()
    image = measured(smooth_images(9, 14, batch=1).double())
    spectrum, mask = image[:, :2], image[:, 2:]
    nothing = torch.zeros(1, 8, 9, 14, dtype=torch.float64)
    phases = lag_phases(9, 14, like=nothing)
    x = network.reconstruction(nothing, *real_image_data(image), phases).detach().requires_grad_()
    kspace = mask * fft2c(x)
    misfit = (kspace.real - spectrum[:, 0:1]).square().sum() + (kspace.imag - spectrum[:, 1:2]).square().sum()
    placed = torch.zeros(8, 9, 14, dtype=torch.float64)
    placed[:, :3, :3] = network.reconstruction.atoms
    responses = torch.fft.ifft2(torch.fft.fft2(x) * torch.fft.fft2(placed)).real
    (gradient,) = torch.autograd.grad(misfit / 2 + 0.1 * responses.square().sum(), x)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), atol=1e-7, rtol=0)


def test_a_negative_penalty_keeps_the_image_bounded() -> None:
    network = ADMMNet(2)
    torch.nn.init.constant_(network.reconstruction.rho, -0.2)
    assert network(measured(smooth_images(16, 12))).abs().max() < 100


def test_a_few_steps_of_training_lower_the_error() -> None:
    network, images = ADMMNet(2), smooth_images(16, 18, batch=4)
    image = measured(images, ratio=0.3)
    optimiser = torch.optim.Adam(network.parameters(), 1e-3)
    errors = []
    for _ in range(15):
        loss = (network(image) - images).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        errors.append(loss.item())
    assert errors[-1] < 0.9 * errors[0]


@pytest.mark.parametrize("arguments", [{"stages": 0}, {"filters": 0}, {"filters": 9}])
def test_an_impossible_architecture_is_refused(arguments: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(arguments))):
        ADMMNet(**arguments)
