"""Claim: one 256 x 256 slice of eight coils takes our network at most 3 times CG-SENSE's time at equal steps."""

from __future__ import annotations

import numpy as np
import torch
from timing import seconds

from mdl_monai.networks.operator_admm_net import OperatorADMMNet
from mdl_monai.networks.operator_baselines import LeastSquares
from mdl_monai.phantoms.head import head_phantom
from mdl_monai.physics.sampling import CoilSampling
from mdl_monai.physics.sense import Sense
from mdl_monai.physics.sensing import to_channels

STEPS, STAGES, AT_MOST = 10, 8, 3.0


@torch.no_grad()
def main() -> None:
    """Print both times and their ratio, for whole columns and for a mask of single points."""
    operator = Sense(STEPS)
    network = OperatorADMMNet(operator, STAGES, levels=4, phase_width=0.04).eval()
    least_squares = LeastSquares(operator, iterations=STAGES + 1)
    image = head_phantom(0, (256, 256, 1), (1.0, 1.0, 1.0)).mr[None, None, ..., 0].to(torch.complex64)
    for mask_type in ("cartesian1d", "poisson"):
        sampling = CoilSampling(mask_type, 0.25, 8).draw(256, 256, np.random.default_rng(0))[None]
        adjoint = operator.A_adjoint(operator.A(image, sampling), sampling)
        border = torch.cat([to_channels(adjoint), sampling], 1)
        functions = {"network": lambda x=border: network(x), "CG-SENSE": lambda x=border: least_squares(x)}
        taken = seconds(functions, repeats=3)  # type: ignore[arg-type]
        ratio = taken["network"] / taken["CG-SENSE"]
        told = ", ".join(f"{name} {time:.2f} s" for name, time in taken.items())
        print(f"{mask_type}: {told}, ratio {ratio:.2f} (claim: at most {AT_MOST:g})", flush=True)


if __name__ == "__main__":
    main()
