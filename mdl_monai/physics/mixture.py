"""Several sensing operators in one batch, so that one set of weights is trained for all."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from mdl_monai.errors import InputError
from mdl_monai.physics.sampling import Sampling
from mdl_monai.physics.sensing import SensingOperator


class OperatorMixture(SensingOperator):
    """Each item of the batch by the operator that its sampling names.

    Args:
        operators: all for real or all for complex images, with samplings and measurements of one shape.
    """

    def __init__(self, operators: Sequence[SensingOperator]) -> None:
        if not operators:
            raise InputError("there is no operator", remedy="name one, as in --train_sensings fourier")
        super().__init__(operators[0].complex_image)
        self.operators = nn.ModuleList(operators)
        self.multiple = math.lcm(*(operator.multiple for operator in operators))

    def A(self, image: Tensor, sampling: Tensor) -> Tensor:
        """Image [B, 1, H, W] and sampling [B, P + 1, H, W], the operator's number last, to measurements."""
        return self._each(
            lambda op, x, s: op.A(x, s).to(torch.promote_types(x.dtype, torch.complex64)), sampling, image
        )

    def A_adjoint(self, measurement: Tensor, sampling: Tensor) -> Tensor:
        """Measurements, complex also where the operator's are real, to an image."""

        def adjoint(operator: SensingOperator, y: Tensor, own: Tensor) -> Tensor:
            x = operator.A_adjoint(y, own)
            return x.real if x.is_complex() and not self.complex_image else x

        return self._each(adjoint, sampling, measurement)

    def solve(self, prior: Tensor, rho: Tensor, prepared: tuple[Tensor, ...], start: Tensor) -> Tensor:
        """Each operator's own."""
        penalty = rho.expand(prior.shape[0], 1, 1, 1)

        def solve(op: SensingOperator, y: Tensor, v: Tensor, p: Tensor, x: Tensor, own: Tensor) -> Tensor:
            return op.solve(v, p, op.prepare(y, own), x)

        return self._each(solve, prepared[1], prepared[0], prior, penalty, start)

    def _each(self, compute: Callable[..., Tensor], sampling: Tensor, *items: Tensor) -> Tensor:
        """`compute(operator, *items, sampling)` on each operator's items, put together in the batch's order."""
        number = sampling[:, -1, 0, 0].long()
        parts, places = [], []
        for n, operator in enumerate(self.operators):
            place = (number == n).nonzero().flatten()
            if len(place):
                parts.append(compute(operator, *(item[place] for item in items), sampling[place, :-1]))
                places.append(place)
        return torch.cat(parts)[torch.cat(places).argsort()]


class SamplingMixture(Sampling):
    """A draw of one of several samplings, with its number as the last channel: for `OperatorMixture`."""

    def __init__(self, samplings: Sequence[Sampling]) -> None:
        self.samplings = samplings
        self.told = "; ".join(sampling.told for sampling in samplings)

    def draw(self, height: int, width: int, rng: np.random.Generator) -> Tensor:
        """Sampling [P + 1, H, W]."""
        number = int(rng.integers(len(self.samplings)))
        drawn = self.samplings[number].draw(height, width, rng)
        return torch.cat([drawn, torch.full_like(drawn[:1], number)])
