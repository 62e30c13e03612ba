"""Multi-coil MRI on any trajectory, by torchkbnufft (an extra)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mdl_monai.errors import InputError
from mdl_monai.physics.coils import simulated_coil_maps
from mdl_monai.physics.sampling import Sampling
from mdl_monai.physics.sense import Sense, split_sampling

GOLDEN_ANGLE = math.pi * (math.sqrt(5) - 1) / 2
OVERSAMPLING = 2  # of torchkbnufft's grid along each axis


def radial_trajectory(spokes: int, samples: int) -> Tensor:
    """Spokes through the centre, each turned by the golden angle: [2, spokes * samples] in radians per pixel."""
    angle = (GOLDEN_ANGLE * torch.arange(spokes, dtype=torch.float64))[:, None]
    radius = 2 * math.pi * (torch.arange(samples, dtype=torch.float64) / samples - 0.5)
    return torch.stack([angle.sin() * radius, angle.cos() * radius]).flatten(1)


class NonCartesianSense(Sense):
    r"""``(A x)_ck = w_k (N s_c x)(k)``: non-uniform Fourier transform N of each coil's image, orthonormal in scale.

    The weights w are the roots of the trajectory's density compensation (Pipe and Menon 1999), so that A^H A is near
    the identity and few conjugate-gradient steps do. A^H A is a convolution, done by one padded FFT (Toeplitz).

    The sampling is that of `Sense`; its first channel, the cells of the grid that the trajectory visits, only tells
    the network how dense it is.

    Args:
        trajectory: [2, K] in radians per pixel, along rows and columns, from -pi to pi.
        steps: conjugate-gradient steps of the X layer.
    """

    def __init__(self, trajectory: Tensor, steps: int = 5) -> None:
        super().__init__(steps)
        largest = float(trajectory.abs().max()) if trajectory.numel() else math.nan
        if trajectory.ndim != 2 or trajectory.shape[0] != 2 or not largest <= math.pi:
            raise InputError(
                "the trajectory is none in two dimensions", expected="[2, K] with values from -pi to pi",
                found=f"{list(trajectory.shape)}, up to {largest:g}",
            )  # fmt: skip
        self.trajectory = trajectory.double()
        self._made: dict[tuple[object, ...], tuple[Any, Any, Tensor, Tensor, Tensor]] = {}

    def _parts(self, image: Tensor) -> tuple[Any, Any, Tensor, Tensor, Tensor]:
        """Transform, adjoint, trajectory, weights and kernel of A^H A for images of this kind; made once."""
        try:
            import torchkbnufft
        except ImportError as error:
            raise InputError(
                "non-Cartesian sampling needs torchkbnufft", remedy="pip install 'mdl_monai[noncartesian]'"
            ) from error
        size, dtype = (image.shape[-2], image.shape[-1]), torch.promote_types(image.dtype, torch.complex64)
        key = (size, dtype, image.device)
        if key not in self._made:
            place: dict[str, Any] = {"dtype": dtype, "device": image.device}
            points = self.trajectory.to(image.device)
            # the compensation is for a grid of twice the size; times 4 it counts the grid's own cells
            weights = OVERSAMPLING**2 * torchkbnufft.calc_density_compensation_function(points, size)[0].real
            kernel = torchkbnufft.calc_toeplitz_kernel(points, size, weights=weights + 0j, norm="ortho")
            self._made[key] = (
                torchkbnufft.KbNufft(size, **place),
                torchkbnufft.KbNufftAdjoint(size, **place),
                points.to(kernel.real.dtype if dtype == torch.complex128 else torch.float32),
                OVERSAMPLING * weights.sqrt().to(dtype),
                (OVERSAMPLING**2 * kernel).to(dtype),
            )
        return self._made[key]

    def A(self, image: Tensor, sampling: Tensor) -> Tensor:
        """Complex image [B, 1, H, W] to weighted samples [B, C, K]."""
        forward, _, points, weights, _ = self._parts(image)
        return weights * forward(split_sampling(sampling)[1] * image, points, norm="ortho")

    def A_adjoint(self, measurement: Tensor, sampling: Tensor) -> Tensor:
        """Weighted samples [B, C, K] to a complex image [B, 1, H, W]."""
        maps = split_sampling(sampling)[1]
        _, adjoint, points, weights, _ = self._parts(maps)
        return (maps.conj() * adjoint(weights * measurement, points, norm="ortho")).sum(1, keepdim=True)

    def prepare(self, adjoint: Tensor, sampling: Tensor) -> tuple[Tensor, ...]:
        """A^H y, kernel of the convolution, and the maps.

        Raises:
            InputError: the sampling is not of this trajectory.
        """
        cells = self.cells(sampling.shape[-2], sampling.shape[-1]).to(sampling)
        if not bool((sampling[:, :1] == cells).all()):
            raise InputError(
                "what was measured does not lie on the operator's trajectory", expected="samples on it",
                found="another sampling, as of Cartesian data", remedy="leave OVERLAY=radial out",
            )  # fmt: skip
        maps = split_sampling(sampling)[1]
        return adjoint, self._parts(maps)[-1], maps

    def normal(self, image: Tensor, prepared: tuple[Tensor, ...]) -> Tensor:
        """A^H A by one convolution on a grid of twice the size."""
        _, kernel, maps = prepared
        coils = torch.fft.fft2(maps * image, s=kernel.shape[-2:])
        coils = torch.fft.ifft2(coils * kernel)[..., : image.shape[-2], : image.shape[-1]]
        return (maps.conj() * coils).sum(1, keepdim=True)

    def cells(self, height: int, width: int) -> Tensor:
        """Which cells of the grid the trajectory visits, float [1, H, W], DC at H // 2, W // 2."""
        size = torch.tensor([[height], [width]])
        place = ((self.trajectory / (2 * math.pi) * size).round().long() + size // 2) % size
        mask = torch.zeros(1, height, width)
        mask[0, place[0], place[1]] = 1
        return mask


class TrajectorySampling(Sampling):
    """Simulated coils for `NonCartesianSense`.

    Args:
        operator: its trajectory.
        coils: number of coils.
    """

    def __init__(self, operator: NonCartesianSense, coils: int) -> None:
        self.operator, self.coils = operator, coils
        self.told = f"{coils} simulated coils, {operator.trajectory.shape[1]} samples off the grid"

    def draw(self, height: int, width: int, rng: np.random.Generator) -> Tensor:
        """Cells, real and imaginary parts of the maps: [1 + 2 C, H, W]."""
        maps = simulated_coil_maps(self.coils, (height, width))
        return torch.cat([self.operator.cells(height, width), maps.real, maps.imag])
