"""Claim: inference of one 256 x 256 image takes less than 300 MB above what the imports hold.

Each network runs in a process of its own; the peak is the resident set's high-water mark.
"""

from __future__ import annotations

import resource
import subprocess
import sys

import torch
from equivalence_published_weights import RealImageCSNet
from timing import masked_input
from torch import nn

from mdl_monai.networks.admm_net import ADMMNet
from mdl_monai.networks.mask_adaptive_admm_net import MaskAdaptiveADMMNet
from mdl_monai.networks.tv_admm import TVReconstruction
from mdl_monai.networks.wavelet_admm import WaveletReconstruction

LIMIT_MB = 300
NETWORKS: dict[str, type[nn.Module]] = {
    cls.__name__: cls
    for cls in (ADMMNet, RealImageCSNet, MaskAdaptiveADMMNet, TVReconstruction, WaveletReconstruction)
}


def resident_mb() -> float:
    """Highest resident set of this process so far, MB (Linux counts in KiB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


@torch.no_grad()
def measure(name: str) -> None:
    """Print the peak of one reconstruction above the imports, for this process's parent."""
    torch.set_num_threads(1)
    above = resident_mb()
    network: nn.Module = RealImageCSNet(11) if name == "RealImageCSNet" else NETWORKS[name]()
    network(masked_input())
    print(resident_mb() - above)


def main() -> None:
    """Print the peak of each network."""
    for name in NETWORKS:
        run = subprocess.run(
            [sys.executable, __file__, name], capture_output=True, encoding="utf-8", check=True
        )
        print(f"{name}: {float(run.stdout):.0f} MB above the imports (claim: less than {LIMIT_MB})")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        measure(sys.argv[1])
    else:
        main()
