import pytest
import torch

from mdl_monai.networks.reconstruction_border import real_image_data, split_input, zero_filled
from mdl_monai.physics.fourier import fft2c, ifft2c

SIZES = [(6, 9), (7, 8), (5, 3), (4, 6)]


def data(height: int, width: int) -> torch.Tensor:
    """Network input of two random images, each with a mask of its own that has no symmetry."""
    mask = (torch.rand(2, 1, height, width, dtype=torch.float64) < 0.5).double()
    kspace = mask * fft2c(torch.randn(2, 1, height, width, dtype=torch.float64))
    return torch.cat((kspace.real, kspace.imag, mask), dim=1)


def test_split_input_gives_back_kspace_and_mask() -> None:
    image = data(5, 8)
    kspace, mask = split_input(image)
    torch.testing.assert_close(torch.cat((kspace.real, kspace.imag, mask), dim=1), image)


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 4, 8, 8), (1, 3, 8, 8, 8)])
def test_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"\[B, 3, H, W\]"):
        split_input(torch.zeros(shape))


@pytest.mark.parametrize("size", SIZES)
def test_zero_filled_image_is_the_real_part_of_the_inverse_transform(size: tuple[int, int]) -> None:
    image = data(*size)
    expected = ifft2c(torch.complex(image[:, :1], image[:, 1:2])).real
    torch.testing.assert_close(zero_filled(image), expected)


@pytest.mark.parametrize("size", SIZES)
def test_spectrum_and_mask_are_what_a_real_image_feels(size: tuple[int, int]) -> None:
    """F(Re(A^H A x)) for real x is the mean mask times F(x), at every frequency of an rfft2."""
    mask = (torch.rand(1, 1, *size, dtype=torch.float64) < 0.5).double()
    x = torch.randn(1, 1, *size, dtype=torch.float64)
    kspace = mask * fft2c(x)
    spectrum, felt = real_image_data(torch.cat((kspace.real, kspace.imag, mask), dim=1))
    torch.testing.assert_close(spectrum, felt * torch.fft.rfft2(x, norm="ortho"))
