"""Pictures of a reconstruction: input, result, and where it is known, reference and error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from mdl_monai.handlers.case_pictures import CasePictures, case_name
from mdl_monai.metrics.reconstruction import reconstruction_metrics
from mdl_monai.physics.fourier import ifft2c

ERROR_WINDOW = 0.1  # share of the reference's peak that the error map's colours span


def _fullest_slice(volume: Tensor) -> int:
    """Index of the slice of [C, H, W, D] with the most signal."""
    return int(volume.abs().sum(dim=(0, 1, 2)).argmax())


class ReconstructionPictures(CasePictures):
    """Zero-filled image and reconstruction, beside reference and error map where the item has a ``label``.

    Of a volume, the slice with the most signal is drawn. The items hold k-space and
    mask ``image`` [3, H, W] or [3, H, W, D], ``pred`` and ``label`` [1, H, W] or [1, H, W, D]; or instead of the
    k-space ``adjoint`` [1, H, W(, D)] and ``mask`` [H, W(, D)] of `ShowReconstructiond`.

    Args:
        output_dir, count: as in `CasePictures`.
        white: of photographs, which have their first row on top: the grey value of white, their PSNR's peak.
    """

    def __init__(self, output_dir: str, count: int | str | None = None, white: float | None = None) -> None:
        super().__init__(output_dir, count)
        self.white = white

    def figure(self, item: Mapping[str, Any]) -> Figure:
        """Draw one case."""
        border, pred = plain(item["image"]), plain(item["pred"])
        label, measured, sigma = (
            None if item.get(k) is None else plain(item[k]) for k in ("label", "adjoint", "uncertainty")
        )
        mask = plain(item["mask"]) if "mask" in item else border[2]
        if pred.ndim == 4:
            n = _fullest_slice(pred if label is None else label)
            # of several coils one behind the other, the slice's first
            border, mask = (part[..., n * part.shape[-1] // pred.shape[-1]] for part in (border, mask))
            pred = pred[..., n]
            label, measured, sigma = (
                None if part is None else part[..., n] for part in (label, measured, sigma)
            )
        if measured is None:
            measured = ifft2c(torch.complex(border[0], border[1])).abs()[None]
            if label is not None:
                measured = measured * label.max()  # k-space was simulated at peak 1
        return reconstruction_figure(case_name(item), measured, pred, label, mask, self.white, sigma)


def plain(image: Any) -> Tensor:
    """Without metadata, on the CPU."""
    return torch.as_tensor(image).as_subclass(Tensor).cpu()


def reconstruction_figure(
    case: str,
    zero_filled: Tensor,
    pred: Tensor,
    label: Tensor | None,
    mask: Tensor,
    white: float | None = None,
    sigma: Tensor | None = None,
) -> Figure:
    """Panels of one slice: zero-filled, result, reference, error, expected error; images [1, H, W], mask [H, W].

    Without a reference, the first two are windowed to their own peaks: measured k-space has a scale of its own. With
    `white` it is a photograph.
    """
    first, space, origin = (
        ("zero-filled", "k-space", "lower") if white is None else ("adjoint", "the coefficients", "upper")
    )
    peak = white or float((pred.abs() if label is None else label).max()) or 1.0
    gray: dict[str, Any] = {"cmap": "gray", "vmin": 0, "vmax": peak}
    if label is None:
        panels = [
            (first, zero_filled, {**gray, "vmax": float(zero_filled.max())}),
            ("reconstruction", pred.abs(), gray),
        ]
    else:
        before, after = (reconstruction_metrics(image, label, white) for image in (zero_filled, pred))
        error = {"cmap": "RdBu_r", "vmin": -ERROR_WINDOW, "vmax": ERROR_WINDOW}
        panels = [
            (f"{first}, {before['psnr']:.2f} dB", zero_filled, gray),
            (f"reconstruction, {after['psnr']:.2f} dB", pred.abs(), gray),
            ("reference", label, gray),
            ("error / peak", (pred.abs() - label) / peak, error),
        ]
    if sigma is not None:
        window = {"cmap": "magma", "vmin": 0, "vmax": ERROR_WINDOW}
        panels.append(("expected error / peak", sigma / peak, window))
    figure = Figure(figsize=(3.25 * len(panels), 3.7), layout="constrained")
    for axis, (title, image, window) in zip(figure.subplots(1, len(panels)), panels, strict=True):
        drawn = axis.imshow(image[0].T.numpy(), origin=origin, **window)
        axis.set_title(title)
        axis.axis("off")
        if window["cmap"] != "gray":
            figure.colorbar(drawn, ax=axis, shrink=0.9)
    figure.suptitle(f"{case}: {float(mask.mean()):.1%} of {space}")
    return figure
