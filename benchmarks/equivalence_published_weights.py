"""Claim: with the authors' weights our networks give the authors' figures on brain50, pseudo-radial 20 %."""

from __future__ import annotations

import json
import os
from pathlib import Path

import nibabel
import numpy as np
import torch
from torch import Tensor, nn

from mdl_monai.metrics.reconstruction import reconstruction_metrics
from mdl_monai.networks.admm_csnet import ADMMCSNet
from mdl_monai.networks.admm_net import ADMMNet
from mdl_monai.networks.published_weights import admm_csnet_state_dict, admm_net_state_dict
from mdl_monai.networks.reconstruction_border import adjoint_border
from mdl_monai.networks.tv_admm import TVReconstruction
from mdl_monai.networks.wavelet_admm import WaveletReconstruction
from mdl_monai.networks.zero_filled import ZeroFilled
from mdl_monai.physics.fourier import fft2c
from mdl_monai.physics.masked_transform import MaskedTransform
from mdl_monai.physics.orthonormal import Fourier

# dB, of the papers' code on this set; None where there is no such figure
PUBLISHED = {
    "basic_radial20_stage7": 36.869,
    "basic_radial20_stage15": 37.195,
    "generic_real_radial20_S11": 38.659,
}
STAGES = {"basic_radial20_stage7": 9, "basic_radial20_stage14": 16, "basic_radial20_stage15": 17}
STAGES |= {"generic_real_radial20_S10": 10, "generic_real_radial20_S11": 11}


class RealImageCSNet(ADMMCSNet):
    """Generic ADMM-CSNet of single-coil k-space of real images, with the input of the other networks."""

    def __init__(self, stages: int) -> None:
        super().__init__(MaskedTransform(Fourier()), stages)

    def forward(self, image: Tensor) -> Tensor:
        """Masked k-space and mask [B, 3, H, W] to [B, 1, H, W]."""
        return super().forward(adjoint_border(image))


def load_images(folder: Path, split: str) -> Tensor:
    """Slices of a split scaled to peak 1, [N, 1, H, W]."""
    records = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))[split]
    paths = [folder / record["image"] for record in records]
    slices = [nibabel.Nifti1Image.from_filename(path).get_fdata(dtype=np.float32).squeeze() for path in paths]
    images = torch.from_numpy(np.stack(slices)).unsqueeze(1)
    return images / images.amax((2, 3), keepdim=True)


def with_published_weights(name: str, folder: Path) -> nn.Module:
    """The network of a file of published weights."""
    basic = name.startswith("basic")
    network: nn.Module = ADMMNet(STAGES[name]) if basic else RealImageCSNet(STAGES[name])
    with np.load(folder / "published_weights" / f"{name}.npz") as arrays:
        network.load_state_dict((admm_net_state_dict if basic else admm_csnet_state_dict)(arrays))
    return network


@torch.no_grad()
def mean_figures(network: nn.Module, images: Tensor, mask: Tensor) -> tuple[float, float]:
    """Mean PSNR (dB) and NMSE of images [N, 1, H, W] measured with a mask [H, W]."""
    figures = []
    for image in images.split(1):
        kspace = mask * fft2c(image)
        pred = network(torch.cat((kspace.real, kspace.imag, mask.expand_as(image)), dim=1))
        figures.append(reconstruction_metrics(pred[0], image[0]))
    psnr, nmse = (float(np.mean([figure[key] for figure in figures])) for key in ("psnr", "nmse"))
    return psnr, nmse


def main() -> None:
    """Print a line a method."""
    torch.set_num_threads(1)
    folder = Path(os.environ.get("MDL_DATA_ROOT", "../shared/data")) / "csmri"
    images = load_images(folder, "brain50_test")
    mask = torch.from_numpy(np.load(folder / "masks.npz")["pseudo_radial_20"]).float()
    methods: dict[str, nn.Module] = {"zero-filled": ZeroFilled(), "TV": TVReconstruction()}
    methods |= {"wavelet": WaveletReconstruction(), "Basic, untrained": ADMMNet()}
    methods |= {name: with_published_weights(name, folder) for name in STAGES}
    print(f"{'method':28} {'PSNR':>8} {'NMSE':>7} {'published':>10} {'difference':>11}")
    for name, network in methods.items():
        psnr, nmse = mean_figures(network, images, mask)
        published = PUBLISHED.get(name)
        compared = f"{published:10.3f} {psnr - published:+11.4f}" if published else ""
        print(f"{name:28} {psnr:8.3f} {nmse:7.4f} {compared}", flush=True)


if __name__ == "__main__":
    main()
