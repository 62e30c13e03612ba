"""Claim: one hippocampus crop by the shipped V-Net takes less CPU time than by MONAI's VNet and by a DynUNet."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from monai.bundle import ConfigParser
from timing import seconds

CONFIGS = Path(__file__).resolve().parents[1] / "bundles" / "hippocampus_mri_segmentation" / "configs"
SIZE = (35, 51, 36)


@torch.no_grad()
def main() -> None:
    """Print parameters, CPU times on one thread and their ratios."""
    networks = {}
    for name, overlay in (("VNet", ""), ("MONAI's VNet", "monai_vnet"), ("DynUNet", "dynunet")):
        parser = ConfigParser()
        parser.read_config([CONFIGS / "inference.json", *([CONFIGS / f"{overlay}.yaml"] if overlay else [])])
        networks[name] = parser.get_parsed_content("network_def").eval()
    image = torch.randn(1, 1, *SIZE, generator=torch.Generator().manual_seed(0))
    taken = seconds({name: partial(network, image) for name, network in networks.items()})
    for name, value in taken.items():
        size = sum(p.numel() for p in networks[name].parameters()) / 1e6
        print(
            f"{name}: {size:.1f} M parameters, {value:.3f} s of CPU time on one thread, "
            f"{value / taken['VNet']:.2f} times VNet"
        )


if __name__ == "__main__":
    main()
