"""The error that was expected beside the error that came, of all cases with a reference."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from ignite.engine import Engine, Events
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from mdl_monai.handlers.case_pictures import DPI
from mdl_monai.handlers.pictures import plain
from mdl_monai.handlers.processes import gathered, rank
from mdl_monai.io.atomic import atomic_path, atomic_write_text
from mdl_monai.metrics.reliability import Reliability


class ReliabilityPlot:
    """Evaluator handler that writes ``reliability.json`` and ``reliability.png``, where a case has a ``label``.

    The items hold ``pred``, ``uncertainty`` and ``label``, [1, H, W(, D)]. All are divided by the reference's peak.

    Args:
        output_dir: receives the files.
        scale: that the sigmas were multiplied by, for the record: ``scale`` in the file.
    """

    def __init__(self, output_dir: str, scale: float = 1.0) -> None:
        self.output_dir, self.scale, self.reliability = Path(output_dir), scale, Reliability()

    def attach(self, engine: Engine) -> None:
        """Register with an evaluator whose output is decollated and postprocessed."""
        engine.add_event_handler(Events.STARTED, self._reset)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._add)
        engine.add_event_handler(Events.COMPLETED, self._write)

    def _reset(self, engine: Engine) -> None:
        self.reliability = Reliability()

    def _add(self, engine: Engine) -> None:
        output: Any = engine.state.output
        for item in output if isinstance(output, list) else [output]:
            if item.get("label") is None or not plain(item["label"]).any():  # an empty one has no peak
                continue
            pred, sigma, label = (plain(item[key]) for key in ("pred", "uncertainty", "label"))
            seen = sigma > 0  # not what fills up a field of view
            self.reliability.add(sigma[seen] / label.max(), (pred - label)[seen] / label.max())

    def _write(self, engine: Engine) -> None:
        whole = Reliability()
        for part in gathered(self.reliability):
            whole.join(part)
        if rank() != 0 or not whole.ranks:
            return
        result = {**whole.result(), "scale": self.scale}
        atomic_write_text(self.output_dir / "reliability.json", json.dumps(result, indent=1) + "\n")
        with atomic_path(self.output_dir / "reliability.png") as path:
            reliability_figure(result).savefig(path, dpi=DPI, format="png")


def reliability_figure(result: dict[str, Any]) -> Figure:
    """Expected against true error of each bin, and how many pixels are in it."""
    pixels, sigma, error = (
        np.array([b[key] for b in result["bins"]]) for key in ("pixels", "sigma", "error")
    )
    figure = Figure(figsize=(5, 5), layout="constrained")
    axis, histogram = figure.subplots(2, 1, height_ratios=[4, 1], sharex=True)
    span = (min(sigma.min(), error[error > 0].min(initial=1.0)), max(sigma.max(), error.max()))
    axis.loglog(span, span, color="gray", linewidth=1, label="calibrated")
    axis.loglog(sigma, error, marker="o", markersize=4, label="measured")
    axis.set_ylabel("error / peak, root mean square")
    axis.set_title(
        f"cases: {result['cases']}, error / expected error {result['error_to_sigma']:.2f}, "
        f"rank correlation {result['rank_correlation']:.2f}", fontsize=9,
    )  # fmt: skip
    axis.legend()
    histogram.bar(sigma, pixels / pixels.sum(), width=0.4 * sigma)
    histogram.set_ylabel("pixels")
    histogram.xaxis.set_minor_formatter(NullFormatter())  # its labels would lie on one another
    histogram.set_xlabel("expected error / peak")
    return figure
