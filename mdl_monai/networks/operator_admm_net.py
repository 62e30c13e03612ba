"""Our unrolled ADMM for any sensing operator: real or complex images, one coil or many."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mdl_monai.networks.float32_region import float32_region
from mdl_monai.networks.learned_prior import LearnedPrior, circular_pad
from mdl_monai.physics.density import RINGS
from mdl_monai.physics.sensing import SensingOperator, from_channels, split_border, to_channels


class OperatorADMMNet(nn.Module):
    r"""ADMM-CSNet with the operator as a part to choose, a memory between stages and an eye on the sampling.

    Stage n of the ADMM of :math:`\min_x \frac12\|Ax-y\|^2 + g(x)`, split in the image, with scaled multiplier b:

    .. math::
        x &= (A^H A + \rho)^{-1} (A^H y + \rho (z - b)) \\
        z, h &= x + b + d(x + b, x, h; M) \\
        b &\leftarrow b + \eta (x - z)

    and a last x. The x step is the operator's own `solve`. d is a residual CNN on two scales, real and imaginary part
    of a complex image together, which hands `features` memory channels h to the next stage. Penalty and the CNN's
    modulation depend on the density of the sampling in 16 bins and on the number of coils. The network divides by
    the peak of :math:`A^H y` and multiplies it back. It starts as ADMM without a prior.

    After ADMM-CSNet (Yang, Sun, Li, Xu, PAMI 2018, doi:10.1109/TPAMI.2018.2883941), its eq. 16 to 18.

    Args:
        operator: A. It has no weights: they serve any operator for the same kind of images.
        stages: number of iterations.
        features: channels of the CNN at half resolution and of the memory.
        deep_features: channels at quarter resolution.
    """

    def __init__(
        self, operator: SensingOperator, stages: int = 8, features: int = 32, deep_features: int = 64
    ) -> None:
        super().__init__()
        if min(stages, features, deep_features) < 1:
            raise ValueError("stages, features and deep_features must be positive")
        self.operator = operator
        channels = 2 if operator.complex_image else 1
        self.features = features
        self.priors = nn.ModuleList(
            LearnedPrior(features, deep_features, has_memory=n > 0, channels=(2 * channels, channels))
            for n in range(stages)
        )
        self.log_rho = nn.Parameter(torch.full((stages + 1,), -2.0))
        self.eta = nn.Parameter(torch.full((stages,), 0.5))
        self.condition = nn.Sequential(
            nn.Linear(2 * RINGS + 1, 64), nn.ReLU(), nn.Linear(64, (stages + 1) * (1 + 2 * features))
        )
        last = self.condition[2]
        assert isinstance(last, nn.Linear)
        nn.init.normal_(last.weight, std=0.01)
        nn.init.zeros_(last.bias)

    def forward(self, image: Tensor) -> Tensor:
        """Reconstruct.

        Args:
            image: [B, c + P, H, W], float: the adjoint image A^H y (c = 1, or 2 for real and imaginary part), and the
                operator's sampling, whose first channel is the mask.

        Returns:
            Image [B, c, H, W], float32.
        """
        with float32_region(image.device.type):
            adjoint, sampling = split_border(image.float(), self.operator)
            peak = adjoint.abs().amax((2, 3), keepdim=True).clamp_min(1e-30)
            condition = self.condition(self.operator.descriptor(sampling))
            condition = condition.unflatten(1, (-1, 1 + 2 * self.features))
            rho = (self.log_rho + condition[..., 0]).exp()[..., None, None, None]  # [B, stages + 1, 1, 1, 1]
            x = adjoint / peak
            prepared = self.operator.prepare(x, sampling)
        z = b = torch.zeros_like(x)
        memory = torch.zeros(0, device=image.device)
        for n, prior in enumerate(self.priors):
            x = self._x(z - b, rho[:, n], prepared, x)
            u = x + b
            seen = circular_pad(torch.cat([to_channels(u), to_channels(x)], 1), 4)
            d, memory = prior(seen, memory, condition[:, n, 1:])
            z = u + from_channels(d[..., : x.shape[-2], : x.shape[-1]])
            b = b + self.eta[n] * (x - z)
        x = self._x(z - b, rho[:, -1], prepared, x)
        return to_channels(x) * peak

    def _x(self, prior: Tensor, rho: Tensor, prepared: tuple[Tensor, ...], start: Tensor) -> Tensor:
        with float32_region(prior.device.type):
            return self.operator.solve(prior, rho, prepared, start)
