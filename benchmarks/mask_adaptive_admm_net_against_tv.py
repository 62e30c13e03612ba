"""Claim: one 256 x 256 image by the shipped network takes at most 0.5 s on two cores. Its ratio to TV."""

from __future__ import annotations

import time

import torch
from timing import masked_input, seconds

from mdl_monai.networks.mask_adaptive_admm_net import MaskAdaptiveADMMNet
from mdl_monai.networks.tv_admm import TVReconstruction

LIMIT_S = 0.5


@torch.no_grad()
def main() -> None:
    """Print the time on two threads and the ratio of the CPU times on one."""
    image, network, tv = masked_input(), MaskAdaptiveADMMNet().eval(), TVReconstruction(iterations=100)
    torch.set_num_threads(2)
    walls = []
    for _ in range(8):
        begin = time.perf_counter()
        network(image)
        walls.append(time.perf_counter() - begin)
    print(f"wall time on two threads: {min(walls[1:]):.3f} s (claim: at most {LIMIT_S} s)")
    taken = seconds({"MaskAdaptiveADMMNet": lambda: network(image), "TV": lambda: tv(image)})
    for name, value in taken.items():
        print(f"{name}: {value * 1e3:.1f} ms of CPU time on one thread")
    print(f"ratio {taken['MaskAdaptiveADMMNet'] / taken['TV']:.2f}")


if __name__ == "__main__":
    main()
