"""What every sensing operator can do; choosing one is a line of a config."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from mdl_monai.physics.conjugate_gradient import conjugate_gradient
from mdl_monai.physics.density import mask_descriptor


class SensingOperator(nn.Module, ABC):
    """A linear map A from an image [B, 1, H, W] to measurements.

    What differs from case to case (sampling mask, coil maps) comes as a tensor `sampling` [B, P, H, W] with each
    call, so one operator serves any batch; what does not (a random matrix, a trajectory) is in the operator.

    Args:
        complex_image: the images are complex; else real, and the adjoint takes the real part.
        steps: conjugate-gradient steps of :meth:`solve` where it has no closed form.
    """

    multiple = 1
    """Height and width must be multiples of it."""

    def __init__(self, complex_image: bool, steps: int = 5) -> None:
        super().__init__()
        if steps < 1:
            raise ValueError(f"steps must be at least 1, found {steps}")
        self.complex_image, self.steps = complex_image, steps

    @abstractmethod
    def A(self, image: Tensor, sampling: Tensor) -> Tensor:
        """Measure: image [B, 1, H, W] to measurements [B, ...]."""

    @abstractmethod
    def A_adjoint(self, measurement: Tensor, sampling: Tensor) -> Tensor:
        """Adjoint: measurements [B, ...] to an image [B, 1, H, W]."""

    def prepare(self, adjoint: Tensor, sampling: Tensor) -> tuple[Tensor, ...]:
        """What :meth:`normal` and :meth:`solve` need of A^H y and the sampling, made once for all stages."""
        return adjoint, sampling

    def normal(self, image: Tensor, prepared: tuple[Tensor, ...]) -> Tensor:
        """A^H A on images [B, 1, H, W]."""
        return self.A_adjoint(self.A(image, prepared[1]), prepared[1])

    def solve(self, prior: Tensor, rho: Tensor, prepared: tuple[Tensor, ...], start: Tensor) -> Tensor:
        """The X layer of ADMM, ``argmin_x 1/2 ||A x - y||^2 + rho/2 ||x - prior||^2``; here by conjugate gradients.

        Args:
            prior: [B, 1, H, W].
            rho: positive penalty, [B, 1, 1, 1] or a scalar.
            prepared: of :meth:`prepare`.
            start: first image of an iterative solver, [B, 1, H, W].
        """

        def regularised(x: Tensor) -> Tensor:
            return self.normal(x, prepared) + rho * x

        return conjugate_gradient(regularised, prepared[0] + rho * prior, start, self.steps)

    def descriptor(self, sampling: Tensor) -> Tensor:
        """What a network is told of the sampling: density of the mask in 16 bins, and 0 for one coil, [B, 17]."""
        density = mask_descriptor((sampling[:, :1] != 0).to(sampling.dtype))
        return torch.cat([density, torch.zeros_like(density[:, :1])], 1)


def with_steps(operator: SensingOperator, steps: int) -> SensingOperator:
    """The same operator with another number of conjugate-gradient steps."""
    other = copy.copy(operator)
    other.steps = steps
    return other


def to_channels(image: Tensor) -> Tensor:
    """Image [B, 1, H, W] to real channels: [B, 2, H, W] if it is complex."""
    return torch.cat([image.real, image.imag], 1) if image.is_complex() else image


def from_channels(channels: Tensor) -> Tensor:
    """Inverse of :func:`to_channels`: [B, 2, H, W] to complex [B, 1, H, W], [B, 1, H, W] as it is."""
    return torch.complex(channels[:, :1], channels[:, 1:]) if channels.shape[1] == 2 else channels


def split_border(image: Tensor, operator: SensingOperator) -> tuple[Tensor, Tensor]:
    """A network's input [B, c + P, H, W] to the adjoint image A^H y [B, 1, H, W] and the sampling [B, P, H, W]."""
    channels = 2 if operator.complex_image else 1
    return from_channels(image[:, :channels]), image[:, channels:]
