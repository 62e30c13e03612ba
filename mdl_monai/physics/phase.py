"""The smooth phase of an MR image."""

from __future__ import annotations

import torch
from torch import Tensor

from mdl_monai.physics.fourier import fft2c, ifft2c


@torch.no_grad()
def low_frequency_phase(image: Tensor, width: float) -> Tensor:
    """Phase factor of the image's low frequencies, of magnitude 1 (1 where they vanish); no gradient goes through it.

    Divided by it, an image of smooth phase is nearly real and positive (homodyne detection, Noll et al. 1991,
    doi:10.1109/42.79473).

    Args:
        image: complex [..., H, W].
        width: standard deviation of a Gaussian window on k-space, as a share of H and of W.
    """
    h, w = image.shape[-2:]
    row, column = (
        torch.exp(-0.5 * ((torch.arange(n, device=image.device) - n // 2) / (width * n)).square())
        for n in (h, w)
    )
    low = ifft2c(fft2c(image) * (row[:, None] * column))
    return torch.where(low == 0, 1, low / low.abs().clamp_min(1e-30))
