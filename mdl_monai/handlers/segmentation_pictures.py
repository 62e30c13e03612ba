"""Pictures of a segmentation: input, prediction, and where it is known, reference and disagreement."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from monai.metrics import compute_dice
from torch import Tensor

from mdl_monai.handlers.case_pictures import CasePictures, case_name
from mdl_monai.handlers.upright_cuts import Cut, cut_panels, draw_mask, upright_cuts

# told apart by colour-blind readers, and from those of the disagreement
LABEL_COLOURS = ("#ffb000", "#22c1dc", "#b07cff", "#7fd13b", "#f582ae", "#d9c8a0")
DISAGREEMENT_COLOURS = {"missed": "#3d7bff", "extra": "#ff3b30", "other label": "#ffe14d"}
LEGEND_ENTRY = (2.0, 0.3)  # inches


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
    colours = label_colours({*names, *labels})
    figure, axes = cut_panels(cuts, columns, maps["input"])
    for cut, row in zip(cuts, axes, strict=True):
        for column, axis in zip(columns, row, strict=True):
            if column == "disagreement":
                for kind, mask in _disagreement(cut).items():
                    draw_mask(axis, mask, cut, DISAGREEMENT_COLOURS[kind], opacity=0.7)
            elif column != "input":
                for n, colour in colours.items():
                    draw_mask(axis, cut.arrays[column] == n, cut, colour, opacity=0.35, outline=True)
    if handles := _legend(colours, names, prediction, reference):
        entries = max(1, int(figure.get_figwidth() / LEGEND_ENTRY[0]))  # in a line
        figure.set_figheight(figure.get_figheight() + LEGEND_ENTRY[1] * math.ceil(len(handles) / entries))
        figure.legend(
            handles=handles, loc="outside lower center", ncols=min(entries, len(handles)), frameon=False
        )
    figure.suptitle(case)
    return figure


def label_colours(labels: Iterable[int]) -> dict[int, str]:
    """The colour of each label of a map, background left out, the lowest first."""
    return {n: LABEL_COLOURS[(n - 1) % len(LABEL_COLOURS)] for n in sorted({*labels} - {0})}


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
