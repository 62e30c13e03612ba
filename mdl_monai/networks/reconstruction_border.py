"""What all single-coil reconstruction networks share: their input's channels."""

from __future__ import annotations

import torch
from torch import Tensor

from mdl_monai.physics.fourier import hermitian_mean, ifft2c


def split_input(image: Tensor) -> tuple[Tensor, Tensor]:
    """Separate a network's input [B, 3, H, W] into complex k-space and mask, each [B, 1, H, W]."""
    if image.dim() != 4 or image.shape[1] != 3:
        raise ValueError(
            f"a reconstruction network takes [B, 3, H, W] (real and imaginary part of the masked k-space, "
            f"mask), found {list(image.shape)}"
        )
    return torch.complex(image[:, 0:1], image[:, 1:2]), image[:, 2:3]


def zero_filled(image: Tensor) -> Tensor:
    """Real zero-filled reconstruction [B, 1, H, W] of a network's input [B, 3, H, W]."""
    return torch.real(ifft2c(split_input(image)[0]))


def adjoint_border(image: Tensor) -> Tensor:
    """The same for a network with an operator: [B, 3, H, W] to zero-filled image and mask, [B, 2, H, W]."""
    return torch.cat([zero_filled(image), image[:, 2:]], 1)


def real_image_data(image: Tensor) -> tuple[Tensor, Tensor]:
    """Data of a real-valued image on the grid of an orthonormal ``rfft2``.

    A real image feels only the Hermitian part of its k-space and the mean of the mask at k and -k; both equal
    the given ones if the mask is conjugate-symmetric.

    Args:
        image: real part, imaginary part of the masked centred k-space and mask, [B, 3, H, W].

    Returns:
        Spectrum (complex) and mask, each [B, 1, H, W // 2 + 1], DC at [0, 0].
    """
    mask = torch.fft.ifftshift(hermitian_mean(split_input(image)[1]), dim=[-2, -1])
    return torch.fft.rfft2(zero_filled(image), norm="ortho"), mask[..., : mask.shape[-1] // 2 + 1]
