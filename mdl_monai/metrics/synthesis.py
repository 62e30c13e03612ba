"""How near a synthetic CT is to the true one, within the body."""

from __future__ import annotations

import math

import torch
from monai.metrics.regression import compute_ssim_and_cs
from torch import Tensor

LOWEST_HU, HIGHEST_HU = (
    -1024.0,
    3000.0,
)  # SynthRAD2023's range, which is PSNR's and SSIM's data range: 4024 HU
SSIM_WINDOW, SSIM_SIGMA = 11, 1.5  # voxels
HIGH_GRADIENT = 100.0
"""HU per voxel above which an edge of the true CT counts for `ssim_high_gradient`: a fifth of a head at 1 mm, mostly
the skull's and the skin's borders. It is a property of the grid: compare figures of one voxel size only."""
BONE_HU = 300.0


def mae(pred: Tensor, label: Tensor, mask: Tensor) -> float:
    """Mean absolute error in HU."""
    return (pred - label).abs()[mask].mean().item()


def psnr(pred: Tensor, label: Tensor, mask: Tensor) -> float:
    """Peak signal-to-noise ratio in dB, 10 log10(4024^2 / mean squared error); infinite for equal images."""
    error = (pred - label).square()[mask].mean().item()
    return 10 * math.log10((HIGHEST_HU - LOWEST_HU) ** 2 / error) if error else math.inf


def ssim_map(pred: Tensor, label: Tensor, mask: Tensor) -> Tensor:
    """Structural similarity by voxel, NaN within 5 voxels of the image's border, where no window fits.

    Outside the mask both images take the lowest value first, so that nothing there counts, and HU are raised to be
    positive, as in SynthRAD2023's evaluation: the luminance term has no meaning for values of both signs. MONAI's
    SSIM with a Gaussian window, in 3D for a volume of more than one slice.
    """
    axes = [n for n in pred.shape[1:] if n > 1]
    out = torch.full_like(pred, math.nan)
    if not axes or min(axes) < SSIM_WINDOW:
        return out
    x, g = (
        (image.where(mask, torch.full_like(image, LOWEST_HU)) - LOWEST_HU).view(1, 1, *axes)
        for image in (pred, label)
    )
    dims, border = len(axes), SSIM_WINDOW // 2
    values, _ = compute_ssim_and_cs(
        x, g, dims, [SSIM_WINDOW] * dims, [SSIM_SIGMA] * dims, HIGHEST_HU - LOWEST_HU
    )
    inner = tuple(slice(border, n - border) for n in axes)
    out.view(axes)[inner] = values[0, 0].to(out)
    return out


def gradient_magnitude(image: Tensor) -> Tensor:
    """Central differences, in HU per voxel, of [1, *spatial]; one-sided at the image's border."""
    axes = [axis for axis in range(1, image.ndim) if image.shape[axis] > 1]
    return torch.stack([d.square() for d in torch.gradient(image, dim=axes)]).sum(0).sqrt()


def bone_dice(pred: Tensor, label: Tensor, mask: Tensor) -> float:
    """Dice of the voxels over 300 HU; NaN where neither image has any."""
    a, b = mask & (pred > BONE_HU), mask & (label > BONE_HU)
    both = int(a.sum()) + int(b.sum())
    return 2 * int((a & b).sum()) / both if both else math.nan


def synthesis_metrics(pred: Tensor, label: Tensor) -> dict[str, float]:
    """All figures of one case by name; NaN where the mask holds none of the voxels that a figure is about.

    `ssim` is the mean of `ssim_map` over the mask, `ssim_high_gradient` that over its voxels where the true CT's
    gradient exceeds `HIGH_GRADIENT`.

    Args:
        pred: synthetic CT in HU, [1, H, W] or [1, H, W, D].
        label: [2, ...]: true CT in HU, and the body, not 0.

    Raises:
        ValueError: if the shapes differ, or a value in the mask is not finite: a figure without those would flatter.
    """
    label, mask = label[:1], label[1:]
    if not pred.shape == label.shape == mask.shape:
        raise ValueError(
            f"pred {tuple(pred.shape)}, label {tuple(label.shape)} and mask {tuple(mask.shape)} differ in shape"
        )
    x, g = (torch.as_tensor(image).as_subclass(Tensor).double() for image in (pred, label))
    body = torch.as_tensor(mask).as_subclass(Tensor) != 0
    for name, image in (("pred", x), ("label", g)):
        if not image[body].isfinite().all():
            raise ValueError(f"{name} holds values in the mask that are not finite")
    structure = ssim_map(x, g, body)
    edges = body & (gradient_magnitude(g) > HIGH_GRADIENT)
    return {
        "mae": mae(x, g, body),
        "psnr": psnr(x, g, body),
        "ssim": structure[body].nanmean().item(),
        "ssim_high_gradient": structure[edges].nanmean().item(),
        "bone_dice": bone_dice(x, g, body),
    }
