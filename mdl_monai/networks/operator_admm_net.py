"""Our unrolled ADMM for any sensing operator: real or complex images, one coil or many."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from mdl_monai.networks.float32_region import float32_region
from mdl_monai.networks.learned_prior import LearnedPrior, circular_pad
from mdl_monai.networks.shrinkage import IMAGINARY, shrink, shrink_parts
from mdl_monai.networks.wavelet_admm import WaveletReconstruction
from mdl_monai.physics.density import RINGS
from mdl_monai.physics.phase import low_frequency_phase
from mdl_monai.physics.sensing import SensingOperator, from_channels, split_border, to_channels

PENALTY, THRESHOLD = (
    0.01,
    0.01,
)  # of classical wavelet ADMM, which converges in as few iterations as there are stages
PENALTY_WITHOUT = 0.13  # where the CNN alone is the prior


class OperatorADMMNet(nn.Module):
    r"""ADMM-CSNet with the operator as a part to choose, a memory between stages and an eye on the sampling.

    Stage n of the ADMM of :math:`\min_x \frac12\|Ax-y\|^2 + g(Wx)`, with a tight frame W of undecimated Haar wavelets
    and scaled multipliers b:

    .. math::
        x &= (A^H A + \rho)^{-1} (A^H y + \rho v) \\
        z &= S_t(W x + b), \quad b \leftarrow W x + b - z \\
        u &= W^H (z - b), \quad v, h = u + d(u, x, h; M)

    and a last x. The x step is the operator's own `solve`. S shrinks the magnitude of each coefficient by its band's
    threshold. d is a residual CNN on two scales, real and imaginary part of a complex image together, which hands
    `features` memory channels h to the next stage. Penalty, thresholds and the CNN's modulation depend on the density
    of the sampling in 16 bins and on the number of coils. The network divides by the peak of :math:`A^H y` and
    multiplies it back. It starts as classical wavelet ADMM.

    With a `phase_width`, the prior acts on the image divided by its smooth phase, which the low frequencies of the
    first x tell: nearly real, so that S shrinks real and imaginary part apart, the latter by more. This is a soft
    form of the phase constraint of partial Fourier imaging; the x step still weighs what was measured.

    With ``levels=0`` there is no W: ``u = x + b``, ``v = u + d``, ``b <- b + eta (x - v)``, and x is drawn to v - b.

    After ADMM-CSNet (Yang, Sun, Li, Xu, PAMI 2018, doi:10.1109/TPAMI.2018.2883941), its eq. 16 to 18.

    Args:
        operator: A. It has no weights: they serve any operator for the same kind of images.
        stages: number of iterations.
        features: channels of the CNN at half resolution and of the memory.
        deep_features: channels at quarter resolution.
        levels: scales of the wavelets.
        phase_width: of the low frequencies, as in `low_frequency_phase`; 0 leaves the phase. Complex images and
            `levels` only.
    """

    def __init__(
        self,
        operator: SensingOperator,
        stages: int = 8,
        features: int = 32,
        deep_features: int = 64,
        levels: int = 0,
        phase_width: float = 0.0,
    ) -> None:
        super().__init__()
        if min(stages, features, deep_features) < 1 or levels < 0:
            raise ValueError("stages, features and deep_features must be positive, and levels not negative")
        if phase_width and not (operator.complex_image and levels):
            raise ValueError("phase_width needs an operator of complex images and levels above 0")
        self.operator, self.features, self.phase_width = operator, features, phase_width
        channels = 2 if operator.complex_image else 1
        self.priors = nn.ModuleList(
            LearnedPrior(features, deep_features, has_memory=n > 0, channels=(2 * channels, channels))
            for n in range(stages)
        )
        penalty = math.log(PENALTY if levels else PENALTY_WITHOUT)
        self.log_rho = nn.Parameter(torch.full((stages + 1,), penalty))
        self.frame = WaveletReconstruction(levels=levels) if levels else None
        if levels:
            self.log_threshold = nn.Parameter(torch.full((stages, 3 * levels), math.log(THRESHOLD)))
        else:
            self.eta = nn.Parameter(torch.full((stages,), 0.5))
        if phase_width:
            self.log_imaginary = nn.Parameter(torch.full((stages, 3 * levels), math.log(IMAGINARY)))
        self.scales = 2 if levels else 1  # of the penalty, and of the thresholds
        self.condition = nn.Sequential(
            nn.Linear(2 * RINGS + 1, 64),
            nn.ReLU(),
            nn.Linear(64, (stages + 1) * (self.scales + 2 * features)),
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
        images, _, peak = self.iterate(image)
        return to_channels(images[-1]) * peak

    def iterate(self, image: Tensor) -> tuple[list[Tensor], Tensor, Tensor]:
        """As `forward`, and all that came before the last image.

        Returns:
            The image of each x step [B, 1, H, W], real or complex, by a common divisor; the CNN's last memory
            [B, features, h, w], h and w half of H and W rounded up to multiples of 4; the divisor [B, 1, 1, 1].
        """
        with float32_region(image.device.type):
            adjoint, sampling = split_border(image.float(), self.operator)
            peak = adjoint.abs().amax((2, 3), keepdim=True).clamp_min(1e-30)
            condition = self.condition(self.operator.descriptor(sampling))
            condition = condition.unflatten(1, (-1, self.scales + 2 * self.features))
            rho = (self.log_rho + condition[..., 0]).exp()[..., None, None, None]  # [B, stages + 1, 1, 1, 1]
            x = adjoint / peak
            prepared = self.operator.prepare(x, sampling)
        prior, b = torch.zeros_like(x), torch.zeros_like(x)
        memory, images = torch.zeros(0, device=image.device), []
        phase: Tensor | None = None
        for n, cnn in enumerate(self.priors):
            x = self._x(prior, rho[:, n], prepared, x)
            images.append(x)
            if self.phase_width and phase is None:
                phase = self._phase(x)
            flat = x if phase is None else x * phase.conj()
            u, b = self._shrunken(flat, b, n, condition[:, n, 1])
            seen = circular_pad(torch.cat([to_channels(u), to_channels(flat)], 1), 4)
            d, memory = cnn(seen, memory, condition[:, n, self.scales :])
            prior = u + from_channels(d[..., : x.shape[-2], : x.shape[-1]])
            prior = prior if phase is None else prior * phase
            if self.frame is None:
                b = b + self.eta[n] * (x - prior)
                prior = prior - b
        return [*images, self._x(prior, rho[:, -1], prepared, x)], memory, peak

    def _x(self, prior: Tensor, rho: Tensor, prepared: tuple[Tensor, ...], start: Tensor) -> Tensor:
        with float32_region(prior.device.type):
            return self.operator.solve(prior, rho, prepared, start)

    def _phase(self, x: Tensor) -> Tensor:
        with float32_region(x.device.type):
            return low_frequency_phase(x, self.phase_width)

    def _shrunken(self, x: Tensor, b: Tensor, stage: int, scale: Tensor) -> tuple[Tensor, Tensor]:
        """What the CNN refines, and the multiplier: of the coefficients, or of the image where there are none."""
        if self.frame is None:
            return x + b, b
        bands = self.frame.analysis(x) + b
        threshold = (self.log_threshold[stage] + scale[:, None]).exp()[..., None, None]  # [B, 3 levels, 1, 1]
        details = bands[:, :-1]
        if self.phase_width:
            shrunken = shrink_parts(details, threshold, self.log_imaginary[stage].exp()[:, None, None])
        else:
            shrunken = shrink(details, threshold)
        z = torch.cat([shrunken, bands[:, -1:]], 1)
        b = bands - z
        return self.frame.synthesis(z - b), b
