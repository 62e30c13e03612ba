"""Image quality of a reconstruction, slice by slice, with the conventions of the compressive-sensing papers."""

from __future__ import annotations

import math
from typing import Any

import torch
from monai.metrics import SSIMMetric
from torch import Tensor

from mdl_monai.errors import InputError

SSIM_WINDOW = 11  # pixels; smaller images have no SSIM


def slices_of(image: Tensor) -> Tensor:
    """[1, H, W] or [1, H, W, D] to [D, 1, H, W]."""
    return image[None] if image.ndim == 3 else image.permute(3, 0, 1, 2)


def reconstruction_metrics(pred: Tensor, label: Tensor | None, peak: float | None = None) -> dict[str, float]:
    """PSNR (dB), NMSE and SSIM of one case, each the mean over its slices.

    Each slice is divided by the reference slice's own maximum, or by `peak`. PSNR = -10 log10 mean((|x| - |g|)^2)
    without clipping, NMSE = ||x - g|| / ||g|| with the signs, SSIM of the magnitudes with an 11 x 11 Gaussian
    window (sigma 1.5). Slices whose reference is empty have no figure and are left out.

    Args:
        pred: reconstruction, [1, H, W] or [1, H, W, D].
        label: reference of the same shape.
        peak: the same for all slices, such as 255 for photographs.

    Returns:
        ``{"psnr", "nmse", "ssim"}``; NaN where no slice has one.

    Raises:
        ValueError: if the shapes differ.
        InputError: there is no reference: k-space that was undersampled in the scanner has none.
    """
    if label is None:
        raise InputError(
            "there is no reference to evaluate against",
            remedy="use inference; or, of k-space that is fully sampled, set --retrospective true",
        )
    if pred.shape != label.shape:
        raise ValueError(f"pred {tuple(pred.shape)} and label {tuple(label.shape)} differ in shape")
    x, g = slices_of(torch.as_tensor(pred).double()), slices_of(torch.as_tensor(label).double())
    largest = g.abs().amax(dim=(1, 2, 3))
    keep = largest > 0
    if not keep.any():
        return {"psnr": math.nan, "nmse": math.nan, "ssim": math.nan}
    scale = largest[keep, None, None, None] if peak is None else peak
    x, g = x[keep] / scale, g[keep] / scale
    nmse = ((x - g).square().sum(dim=(1, 2, 3)) / g.square().sum(dim=(1, 2, 3))).sqrt()
    x, g = x.abs(), g.abs()
    psnr = -10 * torch.log10((x - g).square().mean(dim=(1, 2, 3)))
    ssim = math.nan
    if min(g.shape[-2:]) >= SSIM_WINDOW:
        by_slice: Any = SSIMMetric(spatial_dims=2, data_range=1.0, win_size=SSIM_WINDOW)(x.float(), g.float())
        ssim = by_slice.mean().item()
    return {"psnr": psnr.mean().item(), "nmse": nmse.mean().item(), "ssim": ssim}
