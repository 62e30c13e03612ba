"""Claim: with one coil, the noise in the references of `siat_visible` bounds the PSNR of a reconstruction of them.

What is not sampled holds noise that nothing can tell. Its standard deviation is taken from k-space's corners, where
the head has next to nothing left; in the magnitude of a signal above it, one of its two parts counts. A
reconstruction that knows the head without error, and keeps the samples as they are, is off by the noise of the other
samples. Several coils, simulated on the noisy image, tell of its noise too, and have no such bound.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch

from mdl_monai.io.kspace_file import load_kspace
from mdl_monai.physics.fourier import ifft2c

CORNER = 12  # samples along each side


def main() -> None:
    """Print the noise, as a share of each slice's peak, and the bound for each share of k-space."""
    folder = Path(os.environ.get("MDL_DATA_ROOT", "../shared/data")) / "csmri"
    kspace = load_kspace(folder / "siat" / "siat_visible.h5").data[:, 0]
    kspace = kspace / ifft2c(kspace).abs().amax((1, 2), keepdim=True)
    ends = [*range(CORNER), *range(-CORNER, 0)]
    corners = torch.view_as_real(kspace[:, ends][:, :, ends].flatten(1))
    noise = corners.std((1, 2))  # of each slice, in real and in imaginary part
    print(f"noise: {noise.mean():.4f} of the peak, {noise.min():.4f} to {noise.max():.4f}")
    for ratio in (0.2, 0.3, 0.4):
        bound = (-10 * ((1 - ratio) * noise.square()).log10()).mean()
        print(f"{ratio:.1%} of k-space: about {bound:.1f} dB")


if __name__ == "__main__":
    main()
