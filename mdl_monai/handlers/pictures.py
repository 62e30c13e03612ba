"""Pictures of an evaluation: input, result, reference and error, one file a case."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from matplotlib.figure import Figure
from torch import Tensor

from mdl_monai.io.atomic import atomic_path
from mdl_monai.metrics.reconstruction import reconstruction_metrics
from mdl_monai.physics.fourier import ifft2c

ERROR_WINDOW = 0.1  # share of the reference's peak that the error map's colours span


def _fullest_slice(volume: Tensor) -> int:
    """Index of the slice of [C, H, W, D] with the most signal."""
    return int(volume.abs().sum(dim=(0, 1, 2)).argmax())


class ReconstructionPictures:
    """Evaluator handler: zero-filled image, reconstruction, reference and error map as PNG.

    Args:
        output_dir: receives ``<case>.png``.
        count: cases to draw, the first ones; 0 for none.
    """

    def __init__(self, output_dir: str, count: int = 4) -> None:
        self.output_dir, self.count = Path(output_dir), count
        self._drawn = 0

    def attach(self, engine: Engine) -> None:
        """Register with an evaluator whose output is decollated and postprocessed."""
        engine.add_event_handler(Events.STARTED, self._reset)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._draw)

    def _reset(self, engine: Engine) -> None:
        self._drawn = 0

    def _draw(self, engine: Engine) -> None:
        items: Any = engine.state.output
        for item in items if isinstance(items, list) else [items]:
            if self._drawn >= self.count:
                return
            self._drawn += 1
            border, pred, label = (
                torch.as_tensor(item[key]).as_subclass(Tensor).cpu() for key in ("image", "pred", "label")
            )
            if label.ndim == 4:
                n = _fullest_slice(label)
                border, pred, label = border[..., n], pred[..., n], label[..., n]
            zero_filled = ifft2c(torch.complex(border[0], border[1])).abs()[None]
            scale = label.max() / zero_filled.new_tensor(1.0)  # k-space was simulated at peak 1
            case = item["pred"].meta["case"]
            with atomic_path(self.output_dir / f"{case}.png") as path:
                reconstruction_figure(case, zero_filled * scale, pred, label, border[2]).savefig(
                    path, dpi=100, format="png"
                )


def reconstruction_figure(
    case: str, zero_filled: Tensor, pred: Tensor, label: Tensor, mask: Tensor
) -> Figure:
    """Four panels of one slice: zero-filled, reconstruction, reference, error; images [1, H, W], mask [H, W]."""
    figure = Figure(figsize=(13, 3.7), layout="constrained")
    axes = figure.subplots(1, 4)
    peak = float(label.max())
    before, after = reconstruction_metrics(zero_filled, label), reconstruction_metrics(pred, label)
    panels = (
        (f"zero-filled, {before['psnr']:.2f} dB", zero_filled),
        (f"reconstruction, {after['psnr']:.2f} dB", pred.abs()),
        ("reference", label),
    )
    for axis, (title, image) in zip(axes, panels, strict=False):
        axis.imshow(image[0].T.numpy(), cmap="gray", vmin=0, vmax=peak, origin="lower")
        axis.set_title(title)
    error = (pred.abs() - label)[0].T / (peak or 1.0)
    drawn = axes[3].imshow(
        error.numpy(), cmap="RdBu_r", vmin=-ERROR_WINDOW, vmax=ERROR_WINDOW, origin="lower"
    )
    axes[3].set_title("error / peak")
    figure.colorbar(drawn, ax=axes[3], shrink=0.9)
    for axis in axes:
        axis.axis("off")
    figure.suptitle(f"{case}: {float(mask.mean()):.1%} of k-space")
    return figure
