"""Sensitivity maps from the calibration region, the fully sampled middle of k-space."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mdl_monai.errors import InputError
from mdl_monai.physics.fourier import ifft2c

METHODS = ("espirit", "low_frequencies")
LEAST_WIDTH = 8  # samples of a calibration region that tells anything


def calibration_width(mask: Tensor) -> int:
    """Side of the largest square around DC without a gap in a mask [H, W], or the full width of sampled columns."""
    h, w = mask.shape
    row = (torch.arange(h) - h // 2)[:, None].abs() / h
    column = (torch.arange(w) - w // 2).abs() / w
    ring = torch.maximum(row.expand(h, w), column.expand(h, w))
    gaps = ring[mask == 0]
    return int(2 * (gaps.min() if len(gaps) else torch.tensor(0.5)) * min(h, w))


def coil_maps(kspace: Tensor, mask: Tensor, method: str = "low_frequencies", where: object = "") -> Tensor:
    """Estimate the maps of one slice.

    ``low_frequencies``: the coils' images at low resolution, divided by the root of their sum of squares (McKenzie
    2002). ``espirit`` (Uecker 2014) by sigpy, an extra: slower, and exact where there is signal.

    Args:
        kspace: complex [C, H, W], DC at H // 2, W // 2.
        mask: [H, W], not 0 where sampled.
        method: one of `METHODS`.
        where: the file, for the message.

    Returns:
        Complex64 [C, H, W] with ``sum_c |map_c|^2 = 1`` (0 in the air, with ESPIRiT).

    Raises:
        InputError: an unknown method, a calibration region too small, or sigpy is not installed.
    """
    width = calibration_width(mask)
    if width < LEAST_WIDTH:
        raise InputError(
            "the middle of k-space is not sampled without a gap", where=where,
            expected=f"{LEAST_WIDTH} samples or more around DC",
            found=f"{width}", remedy="give the sensitivity maps in the file, as the array maps",
        )  # fmt: skip
    if method == "espirit":
        return _espirit(kspace, width)
    if method != "low_frequencies":
        raise InputError("unknown way to estimate coil maps", expected=" or ".join(METHODS), found=method)
    window = torch.ones(())
    for n, axis in zip(kspace.shape[-2:], (-2, -1), strict=True):
        reach = width / min(kspace.shape[-2:]) * n / 2
        distance = ((torch.arange(n) - n // 2).abs() / reach).clamp_max(1)
        taper = (0.5 * math.pi * distance).cos().square()
        window = window * (taper[:, None] if axis == -2 else taper)
    low = ifft2c(kspace * window)
    maps = low / low.abs().square().sum(0, keepdim=True).sqrt().clamp_min(1e-12 * float(low.abs().max() or 1))
    return maps.to(torch.complex64)


def _espirit(kspace: Tensor, width: int) -> Tensor:
    try:
        from sigpy.mri.app import EspiritCalib
    except ImportError as error:
        raise InputError(
            "ESPIRiT needs sigpy",
            remedy="pip install 'mdl_monai[multicoil]', or set --coil_maps low_frequencies",
        ) from error
    maps = EspiritCalib(kspace.numpy(), calib_width=min(width, 24), crop=0.8, show_pbar=False).run()
    maps = torch.from_numpy(maps).to(torch.complex64)
    norm = maps.abs().square().sum(0, keepdim=True).sqrt()
    return torch.where(norm > 0, maps / norm.clamp_min(1e-12), 0)
