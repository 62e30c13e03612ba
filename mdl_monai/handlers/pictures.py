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
        border, pred = _plain(item["image"]), _plain(item["pred"])
        label, measured = (None if item.get(k) is None else _plain(item[k]) for k in ("label", "adjoint"))
        mask = _plain(item["mask"]) if "mask" in item else border[2]
        if pred.ndim == 4:
            n = _fullest_slice(pred if label is None else label)
            # of several coils one behind the other, the slice's first
            border, mask = (part[..., n * part.shape[-1] // pred.shape[-1]] for part in (border, mask))
            pred = pred[..., n]
            label, measured = (None if part is None else part[..., n] for part in (label, measured))
        if measured is None:
            measured = ifft2c(torch.complex(border[0], border[1])).abs()[None]
            if label is not None:
                measured = measured * label.max()  # k-space was simulated at peak 1
        return reconstruction_figure(case_name(item), measured, pred, label, mask, self.white)


def _plain(image: Any) -> Tensor:
    return torch.as_tensor(image).as_subclass(Tensor).cpu()


def reconstruction_figure(
    case: str,
    zero_filled: Tensor,
    pred: Tensor,
    label: Tensor | None,
    mask: Tensor,
    white: float | None = None,
) -> Figure:
    """Panels of one slice: zero-filled, reconstruction, reference, error; images [1, H, W], mask [H, W].

    Without a reference, two panels, each windowed to its own peak: the measured k-space has a scale of its own.
    With `white` it is a photograph.
    """
    first, space, origin = (
        ("zero-filled", "k-space", "lower") if white is None else ("adjoint", "the coefficients", "upper")
    )
    if label is None:
        panels = [
            (title, image, float(image.max()))
            for title, image in ((first, zero_filled), ("reconstruction", pred.abs()))
        ]
        figure = Figure(figsize=(6.5, 3.7), layout="constrained")
    else:
        before, after = (reconstruction_metrics(image, label, white) for image in (zero_filled, pred))
        peak = white or float(label.max())
        panels = [
            (f"{first}, {before['psnr']:.2f} dB", zero_filled, peak),
            (f"reconstruction, {after['psnr']:.2f} dB", pred.abs(), peak),
            ("reference", label, peak),
        ]
        figure = Figure(figsize=(13, 3.7), layout="constrained")
    axes = figure.subplots(1, 2 if label is None else 4)
    for axis, (title, image, peak) in zip(axes, panels, strict=False):
        axis.imshow(image[0].T.numpy(), cmap="gray", vmin=0, vmax=peak, origin=origin)
        axis.set_title(title)
    if label is not None:
        error = (pred.abs() - label)[0].T / (peak or 1.0)
        drawn = axes[3].imshow(
            error.numpy(), cmap="RdBu_r", vmin=-ERROR_WINDOW, vmax=ERROR_WINDOW, origin=origin
        )
        axes[3].set_title("error / peak")
        figure.colorbar(drawn, ax=axes[3], shrink=0.9)
    for axis in axes:
        axis.axis("off")
    figure.suptitle(f"{case}: {float(mask.mean()):.1%} of {space}")
    return figure
