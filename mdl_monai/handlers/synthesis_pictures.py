"""Pictures of a synthetic CT: MR image, result, and where they are known, the true CT, the error and quality maps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from mdl_monai.handlers.case_pictures import CasePictures, case_name
from mdl_monai.handlers.pictures import plain
from mdl_monai.handlers.upright_cuts import cut_panels, draw_values, upright_cuts

HU_WINDOW, ERROR_WINDOW = (-1000.0, 1500.0), (-500.0, 500.0)
MAPS: dict[str, tuple[str, dict[str, Any]]] = {  # key in the item: title and style
    "pred": ("synthetic CT", {"cmap": "gray", "vmin": HU_WINDOW[0], "vmax": HU_WINDOW[1]}),
    "label": ("CT", {"cmap": "gray", "vmin": HU_WINDOW[0], "vmax": HU_WINDOW[1]}),
    "error": ("error", {"cmap": "RdBu_r", "vmin": ERROR_WINDOW[0], "vmax": ERROR_WINDOW[1]}),
    "mind_residual": ("MIND residual", {"cmap": "magma", "vmin": 0.0, "vmax": 0.5}),
    "cycle_error": ("cycle error", {"cmap": "magma", "vmin": 0.0, "vmax": 1.0}),
}


class SynthesisPictures(CasePictures):
    """Axial, coronal and sagittal cut, one a row; a single slice is one row.

    The items hold the MR ``native`` and ``pred`` in HU, and perhaps ``label`` (CT in HU, mask) and the maps of
    `SynthesisQuality`, all on the image's grid. Arguments as in `CasePictures`.
    """

    def figure(self, item: Mapping[str, Any]) -> Figure:
        """Draw one case."""
        maps = {key: plain(item[key])[:1] for key in MAPS if item.get(key) is not None}
        native = plain(item["native"])
        if item.get("label") is not None:
            mask = plain(item["label"])[1:] > 0.5
            maps["error"] = (maps["pred"] - maps["label"]) * mask
        cuts = upright_cuts(
            {"input": native, "middle": _middle(native), **maps}, item["pred"].affine, "middle"
        )
        shown = [key for key in MAPS if key in maps]
        figure, axes = cut_panels(cuts, ["MR", *(MAPS[key][0] for key in shown)], native)
        for cut, row in zip(cuts, axes, strict=True):
            for key, axis in zip(shown, row[1:], strict=True):
                draw_values(axis, cut.arrays[key], cut, **MAPS[key][1])
        figure.suptitle(case_name(item))
        return figure


def _middle(image: Tensor) -> Tensor:
    """1 in the middle voxel alone, so that the cuts go through it."""
    guide = torch.zeros_like(image)
    guide[tuple(n // 2 for n in image.shape)] = 1
    return guide
