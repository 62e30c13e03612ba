"""Pictures of a segmentation: input, prediction, and where it is known, reference and disagreement."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from monai.metrics import compute_dice
from torch import Tensor

from mdl_monai.handlers.case_pictures import CasePictures, case_name
from mdl_monai.handlers.upright_cuts import Cut, upright_cuts

# told apart by colour-blind readers, and from those of the disagreement
LABEL_COLOURS = ("#ffb000", "#22c1dc", "#b07cff", "#7fd13b", "#f582ae", "#d9c8a0")
DISAGREEMENT_COLOURS = {"missed": "#3d7bff", "extra": "#ff3b30", "other label": "#ffe14d"}
WINDOW = (1, 99)  # percentiles of the image that black and white stand for

# inches
PANEL_WIDTH, LEAST_WIDTH = 3.0, 1.4  # of a column: the widest cut; room for its title
ROWS_HEIGHT, LEAST_HEIGHT = 10.0, 0.8  # of all rows; of one, with room for its name beside a thin stack
LEGEND_ENTRY = (2.0, 0.3)


class SegmentationPictures(CasePictures):
    """Label maps on the input: the axial, coronal and sagittal cut with the most foreground, one a row.

    Columns: input, prediction, and where the item has a ``label``, the reference and the voxels where they differ.
    The reference, else the prediction, chooses the cuts; left is the patient's left, whatever the array's axes, and
    all panels share one scale in mm. A single slice is one row.

    Args:
        output_dir, count: see `CasePictures`.
        image_key: of the input in the item, on the prediction's grid.
        names: name of each label, for the legend; labels without one go by their number.
    """

    def __init__(
        self,
        output_dir: str,
        count: int | str | None = None,
        image_key: str = "image",
        names: Mapping[Any, str] | None = None,
    ) -> None:
        super().__init__(output_dir, count)
        self.image_key = image_key
        # a config written as JSON has strings for keys
        self.names = {int(n): str(name) for n, name in (names or {}).items() if int(n) != 0}

    def figure(self, item: Mapping[str, Any]) -> Figure:
        """Draw one case; the items hold the image, ``pred`` and ``label`` as [1, H, W] or [1, H, W, D].

        Raises:
            ValueError: if their shapes differ.
        """
        maps = {"input": item[self.image_key], "prediction": item["pred"], "reference": item.get("label")}
        maps = {key: torch.as_tensor(m).as_subclass(Tensor).cpu() for key, m in maps.items() if m is not None}
        shapes = {key: tuple(m.shape) for key, m in maps.items()}
        if len(set(shapes.values())) > 1:
            raise ValueError(f"the maps to draw differ in shape: {shapes}")
        return segmentation_figure(case_name(item), maps, item["pred"].affine, self.names)


def segmentation_figure(
    case: str, maps: Mapping[str, Tensor], affine: Any, names: Mapping[int, str]
) -> Figure:
    """Rows of panels, one a cut: input, prediction, and with a reference, it and the disagreement.

    Args:
        case: the title.
        maps: ``input``, ``prediction`` and, where known, ``reference``: [1, H, W] or [1, H, W, D], of one grid.
        affine: of that grid, to RAS+ in mm.
        names: of labels, for the legend.
    """
    prediction, reference = maps["prediction"], maps.get("reference")
    guide = "reference" if reference is not None and reference.any() else "prediction"
    cuts = upright_cuts(maps, affine, guide)
    columns = [*maps, *([] if reference is None else ["disagreement"])]

    labels = {
        n for key in ("prediction", "reference") if key in maps for n in maps[key].unique().int().tolist()
    }
    colours = {n: LABEL_COLOURS[(n - 1) % len(LABEL_COLOURS)] for n in sorted({*names, *labels} - {0})}
    handles = _legend(colours, names, prediction, reference)

    sizes = np.array([cut.size for cut in cuts])
    scale = min(PANEL_WIDTH / sizes[:, 0].max(), ROWS_HEIGHT / sizes[:, 1].sum())  # inches / mm
    heights = np.maximum(scale * sizes[:, 1], LEAST_HEIGHT)
    width = 0.3 + len(columns) * max(scale * sizes[:, 0].max(), LEAST_WIDTH)
    entries = max(1, int(width / LEGEND_ENTRY[0]))  # in a line of the legend
    height = 0.6 + heights.sum() + LEGEND_ENTRY[1] * math.ceil(len(handles) / entries)
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(len(cuts), len(columns), squeeze=False, height_ratios=heights)

    sample = maps["input"].flatten()[:: max(1, prediction.numel() // 1_000_000)]
    window = np.percentile(sample.numpy(), WINDOW)
    for cut, row in zip(cuts, axes, strict=True):
        for column, axis in zip(columns, row, strict=True):
            _draw_image(axis, cut, window)
            if column == "disagreement":
                for kind, mask in _disagreement(cut).items():
                    _draw_mask(axis, mask, cut, DISAGREEMENT_COLOURS[kind], opacity=0.7)
            elif column != "input":
                for n, colour in colours.items():
                    _draw_mask(axis, cut.arrays[column] == n, cut, colour, opacity=0.35, outline=True)
        if len(cuts) > 1:  # a lone slice's header has often lost the orientation: name no sides
            row[0].set_ylabel(cut.name)
            _draw_sides(row[0], cut.sides)
    for column, axis in zip(columns, axes[0], strict=True):
        axis.set_title(column)
    if handles:
        figure.legend(
            handles=handles, loc="outside lower center", ncols=min(entries, len(handles)), frameon=False
        )
    figure.suptitle(case)
    return figure


def _legend(
    colours: Mapping[int, str], names: Mapping[int, str], prediction: Tensor, reference: Tensor | None
) -> list[Patch]:
    handles = []
    for n, colour in colours.items():
        text = names.get(n, f"label {n}")
        if reference is not None:
            dice = compute_dice((prediction == n)[None], (reference == n)[None], ignore_empty=False)
            text += f", Dice {dice.item():.3f}"
        handles.append(Patch(color=colour, label=text))
    if reference is not None:
        handles += [
            Patch(color=colour, label=kind)
            for kind, colour in DISAGREEMENT_COLOURS.items()
            if kind != "other label" or len(colours) > 1
        ]
    return handles


def _disagreement(cut: Cut) -> dict[str, np.ndarray]:
    prediction, reference = cut.arrays["prediction"], cut.arrays["reference"]
    return {
        "missed": (reference != 0) & (prediction == 0),
        "extra": (prediction != 0) & (reference == 0),
        "other label": (prediction != 0) & (reference != 0) & (prediction != reference),
    }


def _draw_image(axis: Axes, cut: Cut, window: np.ndarray) -> None:
    axis.imshow(
        cut.arrays["input"].T,
        cmap="gray",
        vmin=window[0],
        vmax=window[1],
        origin="lower",
        extent=(0, cut.size[0], 0, cut.size[1]),
        interpolation="bilinear",
    )
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)


def _draw_mask(
    axis: Axes, mask: np.ndarray, cut: Cut, colour: str, opacity: float, outline: bool = False
) -> None:
    if not mask.any():
        return
    extent = (0.0, cut.size[0], 0.0, cut.size[1])
    paint = mask.T[..., None] * np.array(to_rgba(colour, opacity))
    axis.imshow(paint, origin="lower", extent=extent, interpolation="nearest")
    if outline:
        # centres of the voxels and of a frame around them, which closes the outline at the image's edge
        x, y = ((np.arange(-1, n + 1) + 0.5) * mm / n for n, mm in zip(mask.shape, cut.size, strict=True))
        axis.contour(x, y, np.pad(mask, 1).T, levels=[0.5], colors=[colour], linewidths=1.2)
        axis.set(xlim=extent[:2], ylim=extent[2:])


def _draw_sides(axis: Axes, sides: str) -> None:
    places = ((0.02, 0.5), (0.98, 0.5), (0.5, 0.02), (0.5, 0.98))
    align = (("left", "center"), ("right", "center"), ("center", "bottom"), ("center", "top"))
    for letter, (x, y), (ha, va) in zip(sides, places, align, strict=True):
        text = axis.text(x, y, letter, transform=axis.transAxes, ha=ha, va=va, color="white", fontsize=8)
        text.set_path_effects([withStroke(linewidth=1.5, foreground="black")])
