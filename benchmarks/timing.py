"""What the benchmarks share: an input, and the time of one call."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from mdl_monai.phantoms.head import head_phantom
from mdl_monai.physics.fourier import fft2c
from mdl_monai.physics.masks import sampling_mask


def masked_input() -> Tensor:
    """Network input [1, 3, 256, 256]: a slice of the head phantom under a pseudo-radial 20 % mask."""
    image = head_phantom(0, (256, 256, 1), (1.0, 1.0, 1.0)).mr[..., 0]
    mask = torch.from_numpy(sampling_mask("pseudo_radial", 0.2, 256, 256, np.random.default_rng(0))).float()
    kspace = mask * fft2c(image / image.max())
    return torch.stack((kspace.real, kspace.imag, mask)).unsqueeze(0)


def seconds(functions: dict[str, Callable[[], object]], repeats: int = 10) -> dict[str, float]:
    """Least CPU seconds of one call of each, on one thread.

    CPU time, the least of calls that take turns: other work on the machine disturbs the ratios little.
    """
    torch.set_num_threads(1)
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(repeats + 1):
        for name, function in functions.items():
            begin = time.process_time()
            function()
            times[name].append(time.process_time() - begin)
    return {name: min(values[1:]) for name, values in times.items()}  # the first warms up
