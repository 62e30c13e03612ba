"""Basic ADMM-Net: the published unrolled ADMM with DCT filters and piecewise-linear shrinkage."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from mdl_monai.networks.dct_filters import (
    circular_convolution,
    circular_correlation_sum,
    dct_atoms,
    lag_phases,
    power_spectrum,
)
from mdl_monai.networks.float32_region import float32_region
from mdl_monai.networks.piecewise_linear import PiecewiseLinear
from mdl_monai.networks.reconstruction_border import real_image_data


class ReconstructionLayer(nn.Module):
    """Layer X: ``x = F^-1[(F sum_l rho_l H_l^T (z_l - b_l) + y) / (mask + sum_l rho_l |F h_l|^2)]``.

    Each h_l is a combination of the DCT atoms, not tied to the filters of layer C.

    Args:
        filters: number of filters, 1 to 8.
    """

    atoms: Tensor

    def __init__(self, filters: int) -> None:
        super().__init__()
        self.register_buffer("atoms", dct_atoms(), persistent=False)
        self.combination = nn.Parameter(torch.eye(8, filters))
        self.rho = nn.Parameter(torch.full((filters,), 0.2))

    def forward(
        self, difference: Tensor, spectrum: Tensor, mask: Tensor, phases: tuple[Tensor, Tensor]
    ) -> Tensor:
        """Solve for the image.

        Args:
            difference: z - b, [B, L, H, W].
            spectrum: measured data, complex [B, 1, H, W // 2 + 1].
            mask: sampling mask, [B, 1, H, W // 2 + 1].
            phases: of :func:`~mdl_monai.networks.dct_filters.lag_phases` for the image's size.

        Returns:
            Image [B, 1, H, W].
        """
        size = [difference.shape[-2], difference.shape[-1]]
        kernels = torch.einsum("ml,mij->lij", self.combination, self.atoms)
        rho = self.rho.clamp_min(1e-5)  # a penalty below 0 would make the quotient singular
        prior = circular_correlation_sum(difference, kernels * rho[:, None, None])
        denominator = mask + power_spectrum(kernels, rho, phases[0], phases[1])
        inverse = denominator.clamp_min(1e-6).reciprocal()  # as published, where neither mask nor filters see
        numerator = torch.fft.rfft2(prior, norm="ortho") + spectrum
        return torch.fft.irfft2(numerator * inverse, s=size, norm="ortho")


class ADMMStage(nn.Module):
    """Layers X, C, Z, M: image, its filter responses c, their shrinkage z and the multiplier b.

    Args:
        filters: number of filters, 1 to 8.
    """

    atoms: Tensor

    def __init__(self, filters: int) -> None:
        super().__init__()
        self.register_buffer("atoms", dct_atoms(), persistent=False)
        self.reconstruction = ReconstructionLayer(filters)
        self.combination = nn.Parameter(torch.eye(8, filters))
        self.activation = PiecewiseLinear(functional.softshrink(torch.linspace(-1, 1, 101), 0.05), filters)
        self.eta = nn.Parameter(torch.full((filters,), 1.6))

    def forward(
        self, difference: Tensor, b: Tensor, spectrum: Tensor, mask: Tensor, phases: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Iterate once.

        Args:
            difference: z - b, [B, L, H, W].
            b: multiplier, [B, L, H, W]; where no gradient is recorded its memory takes the next b.
            spectrum: measured data, complex [B, 1, H, W // 2 + 1].
            mask: sampling mask, [B, 1, H, W // 2 + 1].
            phases: of :func:`~mdl_monai.networks.dct_filters.lag_phases` for the image's size.

        Returns:
            The next z - b and b.
        """
        x = self.reconstruction(difference, spectrum, mask, phases)
        kernels = torch.einsum("ml,mij->lij", self.combination, self.atoms)
        c_plus_b = circular_convolution(x, kernels, b)
        z = self.activation(c_plus_b)
        # b + eta (c - z), in place where nothing needs the old values: memory traffic is what takes the time
        eta = self.eta[:, None, None]
        if torch.is_grad_enabled():
            b = torch.lerp(b, c_plus_b - z, eta)
            return z - b, b
        b = b.lerp_(c_plus_b.sub_(z), eta)
        return z.sub_(b), b


class ADMMNet(nn.Module):
    """Basic ADMM-Net for real images (Yang, Sun, Li, Xu: Deep ADMM-Net for CS-MRI, NIPS 2016).

    Unrolls the ADMM of ``min_x 1/2 ||mask F x - y||^2 + sum_l g_l(D_l x)`` and learns filters, shrinkage
    functions, penalties and update rates of every iteration; it starts as the classical ADMM with a soft
    threshold of 0.05, penalty 0.2 and update rate 1.6. The thresholds are absolute: scale images to peak 1.

    The image is real, so x is the exact minimiser over real images for any mask; for conjugate-symmetric
    masks, such as pseudo-radial ones, that is the published formula.

    Args:
        stages: number of iterations. The authors' files named stage 7, 14 and 15 hold 9, 16 and 17.
        filters: number of 3 x 3 filters, 1 to 8.
    """

    def __init__(self, stages: int = 17, filters: int = 8) -> None:
        super().__init__()
        if stages < 1:
            raise ValueError(f"stages must be at least 1, found {stages}")
        if not 1 <= filters <= 8:
            raise ValueError(f"filters must lie in 1 to 8, the number of DCT atoms, found {filters}")
        self.filters = filters
        self.stages = nn.ModuleList(ADMMStage(filters) for _ in range(stages))
        self.reconstruction = ReconstructionLayer(filters)

    def forward(self, image: Tensor) -> Tensor:
        """Reconstruct.

        Args:
            image: real part, imaginary part of the masked centred orthonormal k-space and mask, [B, 3, H, W].

        Returns:
            Image [B, 1, H, W], float32.
        """
        if torch.jit.is_scripting():
            return self._reconstruct(image)
        return self._in_float32(image)

    @torch.jit.unused
    def _in_float32(self, image: Tensor) -> Tensor:
        with float32_region(image.device.type):
            return self._reconstruct(image)

    def _reconstruct(self, image: Tensor) -> Tensor:
        spectrum, mask = real_image_data(image.to(self.reconstruction.rho.dtype))
        b = torch.zeros_like(mask[..., :1]).repeat(1, self.filters, 1, image.shape[-1])
        phases = lag_phases(image.shape[-2], image.shape[-1], mask)
        difference = b
        for stage in self.stages:
            difference, b = stage(difference, b, spectrum, mask, phases)
        return self.reconstruction(difference, spectrum, mask, phases)
