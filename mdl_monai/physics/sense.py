"""Multi-coil Cartesian MRI."""

from __future__ import annotations

import torch
from torch import Tensor

from mdl_monai.physics.fourier import fft2c, ifft2c
from mdl_monai.physics.sensing import SensingOperator


class Sense(SensingOperator):
    """``(A x)_c = M F (s_c x)`` with sensitivity maps s_c (Pruessmann et al. 1999, doi:10.1002/mrm.1910180211 ff.).

    The sampling is a tensor of real channels [B, 1 + 2 C, H, W]: mask, real parts of the maps, imaginary parts.
    A coil whose map is 0 adds nothing, so that a batch may mix numbers of coils.

    Args:
        steps: conjugate-gradient steps of the X layer.
    """

    def __init__(self, steps: int = 5) -> None:
        super().__init__(complex_image=True, steps=steps)

    def A(self, image: Tensor, sampling: Tensor) -> Tensor:
        """Complex image [B, 1, H, W] to masked k-space [B, C, H, W]."""
        mask, maps = split_sampling(sampling)
        return mask * fft2c(maps * image)

    def A_adjoint(self, measurement: Tensor, sampling: Tensor) -> Tensor:
        """Masked k-space [B, C, H, W] to a complex image [B, 1, H, W]."""
        mask, maps = split_sampling(sampling)
        return (maps.conj() * ifft2c(mask * measurement)).sum(1, keepdim=True)

    def prepare(self, adjoint: Tensor, sampling: Tensor) -> tuple[Tensor, ...]:
        """A^H y, weights of k-space with DC at [0, 0], and maps; one row of weights if whole columns are sampled."""
        mask, maps = split_sampling(sampling)
        # what is left out here would be left out of an exported program for any input
        if not (torch.jit.is_tracing() or torch.compiler.is_exporting()):
            rows = mask[..., :1, :]
            mask = rows if bool((mask == rows).all()) else mask
            maps = maps[:, maps.flatten(2).abs().amax((0, 2)) > 0]
        return adjoint, torch.fft.ifftshift(mask.square(), (-2, -1)), maps

    def normal(self, image: Tensor, prepared: tuple[Tensor, ...]) -> Tensor:
        """A^H A. Its middle, F^H M^2 F, is a convolution: no shifts, and nothing to do along full columns."""
        _, weight, maps = prepared
        axes = (-1,) if weight.shape[-2] == 1 else (-2, -1)
        kspace = torch.fft.fftn(maps * image, dim=axes).mul(weight)
        return (maps.conj() * torch.fft.ifftn(kspace, dim=axes)).sum(1, keepdim=True)

    def descriptor(self, sampling: Tensor) -> Tensor:
        """As of every operator, last a third of the binary logarithm of the number of coils."""
        coils = split_sampling(sampling)[1].flatten(2).abs().amax(2).gt(0).sum(1, keepdim=True)
        return torch.cat([super().descriptor(sampling)[:, :-1], coils.clamp_min(1).log2() / 3], 1)


def split_sampling(sampling: Tensor) -> tuple[Tensor, Tensor]:
    """Sampling [B, 1 + 2 C, H, W] to mask [B, 1, H, W] and complex maps [B, C, H, W]."""
    real, imaginary = sampling[:, 1:].chunk(2, 1)
    return sampling[:, :1], torch.complex(real, imaginary)
