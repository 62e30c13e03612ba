"""Claim: one 256 x 256 image by Basic ADMM-Net of 17 iterations takes at most 0.67 of 100 iterations of TV."""

from __future__ import annotations

import torch
from timing import masked_input, seconds

from mdl_monai.networks.admm_net import ADMMNet
from mdl_monai.networks.tv_admm import TVReconstruction

LARGEST_RATIO = 0.67


@torch.no_grad()
def main() -> None:
    """Print the times and their ratio."""
    image, network, tv = masked_input(), ADMMNet(stages=17), TVReconstruction(iterations=100)
    taken = seconds({"Basic ADMM-Net": lambda: network(image), "TV": lambda: tv(image)}, repeats=40)
    for name, value in taken.items():
        print(f"{name}: {value * 1e3:.1f} ms")
    print(f"ratio {taken['Basic ADMM-Net'] / taken['TV']:.2f} (claim: at most {LARGEST_RATIO})")


if __name__ == "__main__":
    main()
