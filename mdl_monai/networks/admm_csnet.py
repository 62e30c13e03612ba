"""Generic ADMM-CSNet: the published unrolled ADMM whose prior is a learned two-layer shrinkage."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from mdl_monai.networks.piecewise_linear import PiecewiseLinear
from mdl_monai.physics.sensing import SensingOperator, from_channels, split_border, to_channels


class CSNetStage(nn.Module):
    """One iteration behind the reconstruction: ``z = u - conv(PWL(conv(u)))`` with ``u = x + b``, multiplier.

    Args:
        filters: number of filters of the shrinkage, C.
        kernel_size: their odd width, k.
    """

    def __init__(self, filters: int, kernel_size: int) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        std = (2 / (kernel_size**2 * filters)) ** 0.5
        self.rho = nn.Parameter(torch.tensor(0.1))
        self.analysis = nn.Parameter(std * torch.randn(filters, kernel_size, kernel_size))
        self.analysis_bias = nn.Parameter(torch.zeros(filters))
        self.activation = PiecewiseLinear(torch.linspace(-1, 1, 101).relu(), filters)
        self.synthesis = nn.Parameter(std * torch.randn(filters, kernel_size, kernel_size))
        self.synthesis_bias = nn.Parameter(torch.zeros(1))
        self.eta = nn.Parameter(torch.tensor(1.0))

    def forward(self, x: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """Behind the reconstruction: x and b [B, 1, H, W] to the next z and b, of the same kind."""
        u = x + b
        parts = to_channels(u)
        # real and imaginary part go through the same kernels, as published, so they are a batch
        # under autocast the convolutions are half precision; all that enters an FFT is float32
        gradient = self._shrinkage_gradient(parts.flatten(0, 1)[:, None]).to(parts.dtype)
        z = u - from_channels(gradient.reshape(parts.shape))
        return z, b + self.eta * (x - z)

    def _shrinkage_gradient(self, u: Tensor) -> Tensor:
        """Second convolution of the activation of the first: [B, 1, H, W] to [B, 1, H, W].

        Both are matrix products over the k^2 neighbours of each pixel: with one channel on one side, that is
        several times faster on a CPU than conv2d.
        """
        batch, width = u.shape[0], self.kernel_size
        neighbours = functional.unfold(u, width, padding=width // 2)
        kernels = self.analysis.flatten(1).expand(batch, -1, -1)
        response = torch.baddbmm(self.analysis_bias[:, None], kernels, neighbours)
        response = self.activation(response.reshape(batch, -1, u.shape[-2], u.shape[-1]))
        # folding scatters where a convolution gathers, so the kernels are mirrored
        mirrored = self.synthesis.flip([1, 2]).flatten(1).T.expand(batch, -1, -1)
        spread = torch.bmm(mirrored, response.flatten(2))
        folded = functional.fold(spread, (u.shape[-2], u.shape[-1]), width, padding=width // 2)
        return folded + self.synthesis_bias


class ADMMCSNet(nn.Module):
    """Generic ADMM-CSNet (Yang, Sun, Li, Xu: ADMM-CSNet, IEEE PAMI 2018, doi:10.1109/TPAMI.2018.2883941).

    Like Basic ADMM-Net an unrolled ADMM with the operator's own reconstruction, but the splitting is in the image
    and the proximal step one iteration of a learned gradient descent. It starts from random convolutions,
    ReLU, penalty 0.1 and update rate 1. The thresholds are absolute: scale images to peak 1.

    Args:
        operator: A; of complex images real and imaginary part go through the same kernels.
        stages: number of iterations.
        filters: number of filters of the shrinkage.
        kernel_size: their odd width.
    """

    def __init__(
        self, operator: SensingOperator, stages: int = 11, filters: int = 128, kernel_size: int = 5
    ) -> None:
        super().__init__()
        if stages < 1 or filters < 1 or kernel_size % 2 == 0:
            raise ValueError(
                f"stages and filters must be at least 1 and kernel_size odd, "
                f"found {stages}, {filters} and {kernel_size}"
            )
        self.operator = operator
        self.stages = nn.ModuleList(CSNetStage(filters, kernel_size) for _ in range(stages))
        self.rho = nn.Parameter(torch.tensor(0.1))

    def forward(self, image: Tensor) -> Tensor:
        """Reconstruct.

        Args:
            image: the adjoint image A^H y (one channel, or real and imaginary part) and the operator's sampling,
                [B, c + P, H, W].

        Returns:
            Image [B, c, H, W], float32.
        """
        data, sampling = split_border(image.to(self.rho.dtype), self.operator)
        prepared = self.operator.prepare(data, sampling)
        z = b = torch.zeros_like(data)
        x = data
        for stage in self.stages:
            x = self.operator.solve(z - b, stage.rho, prepared, x)  # type: ignore[arg-type]
            z, b = stage(x, b)
        return to_channels(self.operator.solve(z - b, self.rho, prepared, x))
