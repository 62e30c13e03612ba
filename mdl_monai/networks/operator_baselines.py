"""Classical reconstruction by any sensing operator: what the learned network is measured against."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from mdl_monai.networks.float32_region import float32_region
from mdl_monai.networks.shrinkage import shrink, shrink_parts
from mdl_monai.networks.tv_admm import differences, differences_adjoint
from mdl_monai.networks.wavelet_admm import WaveletReconstruction
from mdl_monai.physics.phase import low_frequency_phase
from mdl_monai.physics.sensing import SensingOperator, split_border, to_channels

DUAL_STEPS = 4  # of the TV proximal map, which starts where it ended the last time
_LIPSCHITZ = 8.0  # squared norm of `differences`


class AdjointImage(nn.Module):
    """A^H y, the zero-filled reconstruction.

    Args:
        operator: A.
    """

    def __init__(self, operator: SensingOperator) -> None:
        super().__init__()
        self.operator = operator

    def forward(self, image: Tensor) -> Tensor:
        """Adjoint image and sampling [B, c + P, H, W] to [B, c, H, W]."""
        return to_channels(split_border(image.float(), self.operator)[0])


class OperatorADMM(nn.Module, ABC):
    """ADMM of ``min_x 1/2 ||A x - y||^2 + weight R(x)``; the image is scaled by the peak of A^H y and back.

    Args:
        operator: A.
        weight: of R, for images of peak 1.
        penalty: of the splitting.
        iterations: number of iterations.
    """

    def __init__(self, operator: SensingOperator, weight: float, penalty: float, iterations: int) -> None:
        super().__init__()
        self.operator, self.weight, self.penalty, self.iterations = operator, weight, penalty, iterations

    @abstractmethod
    def proximal(self, image: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Image that replaces x + b, from x and what it keeps from iteration to iteration."""

    @torch.no_grad()
    def forward(self, image: Tensor) -> Tensor:
        """Adjoint image and sampling [B, c + P, H, W] to [B, c, H, W]."""
        with float32_region(image.device.type):
            adjoint, sampling = split_border(image.float(), self.operator)
            peak = adjoint.abs().amax((2, 3), keepdim=True).clamp_min(1e-30)
            x, state = adjoint / peak, None
            prepared, rho = (
                self.operator.prepare(x, sampling),
                torch.tensor(self.penalty, device=image.device),
            )
            for _ in range(self.iterations):
                prior, state = self.proximal(x, state)
                x = self.operator.solve(prior, rho, prepared, x)
            return to_channels(x * peak)


class LeastSquares(OperatorADMM):
    """CG-SENSE (Pruessmann et al. 2001): conjugate gradients from A^H y with a small penalty on the image's energy.

    Args:
        operator: A; its number of steps in each iteration.
        penalty: on the squared image.
        iterations: times the operator's steps.
    """

    def __init__(self, operator: SensingOperator, penalty: float = 1e-3, iterations: int = 3) -> None:
        super().__init__(operator, 0.0, penalty, iterations)

    def proximal(self, image: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Zero."""
        return torch.zeros_like(image), None


class OperatorTV(OperatorADMM):
    """Isotropic total variation over four directions, by Chambolle's dual steps (2004)."""

    def __init__(
        self, operator: SensingOperator, weight: float = 1e-4, penalty: float = 0.05, iterations: int = 60
    ) -> None:
        super().__init__(operator, weight, penalty, iterations)

    def proximal(self, image: Tensor, state: Any) -> tuple[Tensor, Any]:
        """TV denoising z of x + b, and z - b."""
        b, dual = (torch.zeros_like(image), differences(image) * 0) if state is None else state
        u, threshold = image + b, self.weight / self.penalty
        for _ in range(DUAL_STEPS):
            dual = dual + differences(u - threshold * differences_adjoint(dual)) / (_LIPSCHITZ * threshold)
            dual = dual / dual.abs().square().sum(1, keepdim=True).sqrt().clamp_min(1)
        z = u - threshold * differences_adjoint(dual)
        b = u - z
        return z - b, (b, dual)


class OperatorWavelet(OperatorADMM):
    """Sparsity in the undecimated Haar wavelets, a tight frame.

    Args:
        operator: A.
        weight: of the details, for images of peak 1.
        penalty: of the splitting.
        iterations: number of iterations.
        phase_width: of the low frequencies that tell a smooth phase, as in `low_frequency_phase`, anew in each
            iteration: the details are those of the image without it, the imaginary ones with a larger weight. 0: any
            phase, and the only choice for real images.
        levels: scales of the wavelets. The average beyond the last has no weight: where an operator does not measure
            the low frequencies, one level is best.
    """

    def __init__(
        self,
        operator: SensingOperator,
        weight: float = 1e-4,
        penalty: float = 0.05,
        iterations: int = 60,
        phase_width: float = 0.0,
        levels: int = 4,
    ) -> None:
        super().__init__(operator, weight, penalty, iterations)
        if phase_width and not operator.complex_image:
            raise ValueError("phase_width needs an operator of complex images")
        self.frame, self.phase_width = WaveletReconstruction(levels=levels), phase_width

    def proximal(self, image: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Shrunken coefficients less the multiplier, back in the image."""
        phase = low_frequency_phase(image, self.phase_width) if self.phase_width else torch.ones(())
        coefficients = self.frame.analysis(image * phase.conj())
        u = coefficients if state is None else coefficients + state
        z = (shrink_parts if self.phase_width else shrink)(u, self.weight / self.penalty)
        z[:, -1] = u[:, -1]
        b = u - z
        return self.frame.synthesis(z - b) * phase, b
