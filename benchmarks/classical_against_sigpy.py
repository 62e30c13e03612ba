"""Claim: our TV and wavelet baselines are no weaker than SigPy's, whose weight is chosen for each image by its error.

Two slices of the validation list `open_ms_val` with simulated phase and four coils; ours have the weights that the
bundle's evaluation gives them. Needs the extra multicoil and the data.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import sigpy.mri.app as sigpy
import torch
from torch import Tensor

from mdl_monai.io.nifti_reader import read_nifti
from mdl_monai.metrics.reconstruction import reconstruction_metrics
from mdl_monai.networks.operator_baselines import OperatorTV, OperatorWavelet
from mdl_monai.physics.sampling import CoilSampling
from mdl_monai.physics.sense import Sense, split_sampling
from mdl_monai.physics.sensing import to_channels
from mdl_monai.transforms.complex_image import SimulatePhased

WEIGHTS = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
ITERATIONS = 100
APPS = {"wavelet": sigpy.L1WaveletRecon, "TV": sigpy.TotalVariationRecon}


def images(folder: Path) -> Tensor:
    """Complex images [2, 1, H, W] of peak 1."""
    records = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))["open_ms_val"]
    phased = []
    for record in (records[12], records[36]):
        stored = read_nifti(folder / record["image"]).dataobj
        magnitude = torch.from_numpy(np.asarray(stored, dtype=np.float32)).squeeze()
        parts = SimulatePhased("image")({"image": magnitude[None] / magnitude.max()})["image"]
        phased.append(torch.complex(*parts))
    return torch.stack(phased)[:, None]


@torch.no_grad()
def main() -> None:
    """Print the PSNR of each slice by ours and by SigPy's at its best weight."""
    torch.set_num_threads(1)
    folder = Path(os.environ.get("MDL_DATA_ROOT", "../shared/data")) / "csmri"
    operator = Sense(5)
    ours = {"TV": OperatorTV(operator, 1e-4, 0.01), "wavelet": OperatorWavelet(operator, 3e-5, 0.01)}
    for ratio in (0.25, 0.125):
        for number, image in enumerate(images(folder)):
            drawn = CoilSampling("cartesian1d", ratio, 4).draw(256, 256, np.random.default_rng(0))
            sampling = drawn[None]
            kspace = operator.A(image[None], sampling)
            adjoint = to_channels(operator.A_adjoint(kspace, sampling))
            _, maps = split_sampling(sampling)
            for method, network in ours.items():
                figure = psnr(torch.complex(*network(torch.cat([adjoint, sampling], 1))[0]), image)
                theirs = {}
                for weight in WEIGHTS:
                    app = APPS[method](
                        kspace[0].numpy(), maps[0].numpy(), weight, show_pbar=False, max_iter=ITERATIONS
                    )
                    theirs[weight] = psnr(torch.from_numpy(app.run()), image)
                best = max(theirs, key=theirs.__getitem__)
                print(
                    f"{ratio:.1%} slice {number} {method}: ours {figure:.2f} dB, SigPy {theirs[best]:.2f} dB ",
                    end="",
                )
                print(
                    f"at {best:g}, difference {figure - theirs[best]:+.2f} dB (claim: at least 0)", flush=True
                )


def psnr(image: Tensor, reference: Tensor) -> float:
    """PSNR of magnitudes in dB."""
    return reconstruction_metrics(image.abs()[None], reference.abs())["psnr"]


if __name__ == "__main__":
    main()
