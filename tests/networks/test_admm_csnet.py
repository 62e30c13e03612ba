import pytest
import torch
from single_coil import measured, smooth_images
from torch import Tensor
from torch.nn import functional

from mdl_monai.networks.admm_csnet import ADMMCSNet
from mdl_monai.networks.reconstruction_border import adjoint_border
from mdl_monai.physics.fourier import fft2c
from mdl_monai.physics.masked_transform import MaskedTransform
from mdl_monai.physics.orthonormal import Fourier


def real_images(**arguments: int) -> ADMMCSNet:
    return ADMMCSNet(MaskedTransform(Fourier()), **arguments)


def symmetric_input(height: int, width: int) -> Tensor:
    images = smooth_images(height, width, batch=1)
    plain = torch.fft.ifftshift((torch.rand(height, width) < 0.4).float())
    mask = torch.fft.fftshift(torch.maximum(plain, plain.flip((0, 1)).roll((1, 1), (0, 1))))
    kspace = mask * fft2c(images)
    return torch.cat((kspace.real, kspace.imag, mask.expand_as(images)), dim=1)


def as_published(network: ADMMCSNet, image: Tensor) -> Tensor:
    """The published equations with conv2d, ReLU (the activation at the start) and full FFTs."""
    real, imaginary, mask = torch.fft.ifftshift(image, dim=(-2, -1)).split(1, dim=1)
    y = torch.complex(real, imaginary)
    # the data live in the corner-origin image; the convolutions' zero padding needs the centred one
    centre = image.shape[-2] // 2, image.shape[-1] // 2
    z, b = torch.zeros_like(real), torch.zeros_like(real)

    def reconstruct(difference: Tensor, rho: Tensor) -> Tensor:
        corner = difference.roll((-centre[0], -centre[1]), (-2, -1))
        x = torch.fft.ifft2((y + rho * torch.fft.fft2(corner, norm="ortho")) / (mask + rho), norm="ortho")
        return x.real.roll(centre, (-2, -1))

    for stage in network.stages:
        x = reconstruct(z - b, stage.rho)
        u = x + b
        response = functional.conv2d(u, stage.analysis.unsqueeze(1), stage.analysis_bias, padding="same")
        # beyond the last control point the slope is 1, below the first it is 1 as well
        response = response.relu() + (response + 1).clamp_max(0)
        z = u - functional.conv2d(response, stage.synthesis[None], stage.synthesis_bias, padding="same")
        b = b + stage.eta * (x - z)
    return reconstruct(z - b, network.rho)


def test_parameter_count_is_that_of_the_published_network() -> None:
    assert sum(p.numel() for p in real_images(stages=10).parameters()) == 194_591


@pytest.mark.parametrize("size", [(12, 16), (13, 10)])
def test_the_untrained_network_follows_the_published_equations(size: tuple[int, int]) -> None:
    network = real_images(stages=3, filters=7, kernel_size=5)
    for stage in network.stages:
        torch.nn.init.normal_(stage.analysis_bias, std=0.3)
        torch.nn.init.normal_(stage.synthesis_bias, std=0.1)
    image = symmetric_input(*size)
    torch.testing.assert_close(
        network(adjoint_border(image)), as_published(network, image), atol=1e-5, rtol=1e-4
    )


def test_without_a_shrinkage_the_measured_samples_are_kept() -> None:
    network = real_images(stages=2, filters=3)
    for stage in network.stages:
        torch.nn.init.zeros_(stage.synthesis)
    image = symmetric_input(11, 14)
    kspace = image[:, 2:] * fft2c(network(adjoint_border(image)))
    torch.testing.assert_close(kspace.real, image[:, 0:1], atol=1e-2, rtol=0)


def test_a_few_steps_of_training_lower_the_error() -> None:
    network, images = real_images(stages=2, filters=8, kernel_size=3), smooth_images(16, 18, batch=4)
    image = measured(images, ratio=0.3)
    optimiser = torch.optim.Adam(network.parameters(), 3e-3)
    errors = []
    for _ in range(15):
        loss = (network(adjoint_border(image)) - images).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        errors.append(loss.item())
    assert errors[-1] < 0.9 * errors[0]


@pytest.mark.parametrize("arguments", [{"stages": 0}, {"filters": 0}, {"kernel_size": 4}])
def test_an_impossible_architecture_is_refused(arguments: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(arguments))):
        real_images(**arguments)


def test_real_and_imaginary_part_go_through_the_same_kernels() -> None:
    network = ADMMCSNet(MaskedTransform(Fourier(), complex_image=True), stages=2, filters=5)
    real = smooth_images(12, 15, batch=1)
    sampled = torch.ones(1, 1, 12, 15)
    zero = torch.zeros_like(real)
    both = network(torch.cat([real, 2 * real, sampled], 1))
    torch.testing.assert_close(both[:, :1], network(torch.cat([real, zero, sampled], 1))[:, :1])
    torch.testing.assert_close(both[:, 1:], network(torch.cat([zero, 2 * real, sampled], 1))[:, 1:])
