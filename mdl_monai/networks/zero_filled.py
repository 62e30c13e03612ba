"""Zero-filled reconstruction, the baseline below all others."""

from __future__ import annotations

from torch import Tensor, nn

from mdl_monai.networks.float32_region import float32_region
from mdl_monai.networks.reconstruction_border import zero_filled


class ZeroFilled(nn.Module):
    """Inverse Fourier transform of the masked k-space, real part."""

    def forward(self, image: Tensor) -> Tensor:
        """Real and imaginary part of the masked k-space and mask [B, 3, H, W], to [B, 1, H, W]."""
        with float32_region(image.device.type):
            return zero_filled(image.float())
