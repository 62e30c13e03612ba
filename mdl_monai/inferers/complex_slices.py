"""Use a network for real images on the complex k-space that a scanner measures."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from mdl_monai.inferers.slicewise import SlicewiseInferer
from mdl_monai.networks.reconstruction_border import split_input
from mdl_monai.physics.fourier import fft2c, ifft2c


def smooth_phase(kspace: Tensor, mask: Tensor) -> Tensor:
    """Phase of the image that the fully sampled middle of k-space makes, as ``exp(i phase)``.

    Args:
        kspace: complex [B, 1, H, W], DC in the centre.
        mask: [B, 1, H, W], not 0 where sampled.

    Returns:
        Complex [B, 1, H, W] of magnitude 1.
    """
    h, w = kspace.shape[-2:]
    row = (torch.arange(h, device=mask.device) - h // 2)[:, None].abs()
    column = (torch.arange(w, device=mask.device) - w // 2).abs()
    ring = torch.maximum(row, column).expand(mask.shape)
    # half width of the largest square around DC without a gap
    reach = torch.where(mask == 0, ring, min(h, w) // 2).amin((-2, -1), keepdim=True).clamp_min(2)
    taper = [(0.5 * math.pi * (axis / reach).clamp_max(1)).cos().square() for axis in (row, column)]
    return torch.polar(torch.ones_like(mask), ifft2c(kspace * taper[0] * taper[1]).angle())


class ComplexSlicewise(SlicewiseInferer):
    r"""A network for real images on complex k-space, by the image's smooth phase :math:`\varphi`.

    The image is taken for :math:`x = m e^{i\varphi}` with m nearly real and :math:`\varphi` from the middle of
    k-space (as in homodyne reconstruction), and from :math:`x = F^{-1} y` on

    .. math::
        m \leftarrow \mathrm{network}(M F\, \mathrm{Re}(e^{-i\varphi} x)), \quad
        x \leftarrow F^{-1}(M y + (1 - M) F(e^{i\varphi} m))

    so that what was measured stays as it was, with its phase. The network sees its own kind of data; it answers
    with the magnitude of the last x.

    Args:
        iterations: of the two lines above.
        amp, slices_per_batch, progress: as for `SlicewiseInferer`.
    """

    def __init__(self, iterations: int = 2, **options: Any) -> None:
        super().__init__(**options)
        self.iterations = iterations

    def __call__(self, inputs: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        """Inputs [B, 3, H, W(, D)] (real, imaginary, mask) to magnitudes [B, 1, H, W(, D)]."""
        return super().__call__(inputs, partial(self._magnitude, network), *args, **kwargs)

    def _magnitude(self, network: Callable[..., Tensor], border: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        measured, mask = split_input(border.float())
        image, phase = ifft2c(measured), smooth_phase(measured, mask)
        for _ in range(self.iterations):
            kspace = fft2c((image * phase.conj()).real) * mask
            real = network(torch.cat([kspace.real, kspace.imag, mask], 1), *args, **kwargs).float()
            image = ifft2c(torch.where(mask != 0, measured, fft2c(real * phase)))
        return image.abs()
