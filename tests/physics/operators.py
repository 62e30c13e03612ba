"""Every sensing operator with an instance to test; a new operator joins this list and inherits the suite."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mdl_monai.physics.masked_transform import MaskedTransform
from mdl_monai.physics.mixture import OperatorMixture, SamplingMixture
from mdl_monai.physics.orthonormal import BlockGaussian, CodedDiffraction, Fourier, PermutedHadamard
from mdl_monai.physics.sampling import CoefficientSampling, CoilSampling, Sampling
from mdl_monai.physics.sense import Sense
from mdl_monai.physics.sensing import SensingOperator


@dataclass
class Case:
    """An operator and how to sample; whether its X layer has a closed form, and whether A A^H is a projection."""

    operator: SensingOperator
    sampling: Sampling
    closed_form: bool = False

    def draw(self, seed: int, batch: int = 2, larger: int = 1) -> tuple[Tensor, Tensor]:
        """Float64 image [B, 1, H, W] and sampling [B, P, H, W] of a random size that the operator takes."""
        rng = np.random.default_rng(seed)
        unit = self.operator.multiple
        height, width = (
            unit * int(n) for n in rng.integers(1, larger * (3 if unit > 1 else 20), 2) + (unit == 1) * 3
        )
        sampling = torch.stack([self.sampling.draw(height, width, rng) for _ in range(batch)]).double()
        return self.image((batch, 1, height, width), rng), sampling

    def image(self, shape: tuple[int, ...], rng: np.random.Generator) -> Tensor:
        """Gaussian numbers of the operator's kind."""
        real = torch.from_numpy(rng.standard_normal(shape))
        if not self.operator.complex_image:
            return real
        return torch.complex(real, torch.from_numpy(rng.standard_normal(shape)))


def _masked(transform: Callable[[], torch.nn.Module], complex_image: bool = False) -> Case:
    made = transform()
    operator = MaskedTransform(made, complex_image)  # type: ignore[arg-type]
    return Case(operator, CoefficientSampling(made, (0.01, 1.0)), closed_form=True)  # type: ignore[arg-type]


REAL = [_masked(t) for t in (BlockGaussian, PermutedHadamard, CodedDiffraction, Fourier)]
MASKS = {"cartesian1d": 1.0, "random2d": 1.0}
CASES = {
    "single-coil MRI": _masked(lambda: Fourier("cartesian1d"), complex_image=True),
    "partial Fourier of a real image": REAL[3],
    "block Gaussian": REAL[0],
    "permuted Walsh-Hadamard": REAL[1],
    "coded diffraction of a real image": REAL[2],
    "coded diffraction of a complex image": _masked(CodedDiffraction, complex_image=True),
    "SENSE": Case(Sense(30), CoilSampling(MASKS, (0.1, 1.0), [1, 2, 5], vary=True)),
    "mixture": Case(
        OperatorMixture([c.operator for c in REAL]),
        SamplingMixture([c.sampling for c in REAL]),
        closed_form=True,
    ),
}
