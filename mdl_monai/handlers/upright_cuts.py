"""Axial, coronal and sagittal cuts, upright whatever the order and direction of an array's axes, and their panels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from monai.data.utils import to_affine_nd
from torch import Tensor

# RAS+: name, axis across the cut, horizontal axis, vertical axis
PLANES = (("axial", 2, 0, 1), ("coronal", 1, 0, 2), ("sagittal", 0, 1, 2))
SIDES = ("LR", "PA", "IS")  # where each axis begins and ends

WINDOW = (1, 99)  # percentiles of the image that black and white stand for

# inches
PANEL_WIDTH, LEAST_WIDTH = 3.0, 1.4  # of a column: the widest cut; room for its title
ROWS_HEIGHT, LEAST_HEIGHT = 10.0, 0.8  # of all rows; of one, with room for its name beside a thin stack


@dataclass(frozen=True)
class Cut:
    """One plane through several maps of a case."""

    name: str
    """axial, coronal or sagittal"""
    arrays: dict[str, np.ndarray]
    """each map's [horizontal, vertical]: to the patient's right or front, and to the front or top"""
    size: tuple[float, float]
    """horizontal and vertical, mm"""
    sides: str
    """letters of the left, right, lower and upper edge"""

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """Left, right, lower and upper edge, mm."""
        return (0.0, self.size[0], 0.0, self.size[1])


def upright_cuts(maps: Mapping[str, Any], affine: Any, guide: str) -> list[Cut]:
    """The axial, coronal and sagittal cut where the map `guide` has the most foreground, else the middle ones.

    Args:
        maps: tensors [1, H, W] or [1, H, W, D] of one grid.
        affine: of that grid, to RAS+ in mm; for an oblique one the nearest axes count.
        guide: the key of a label map (or any map with a background of 0).

    Returns:
        Three cuts; of a single slice, the one that it is.
    """
    affine = to_affine_nd(3, torch.as_tensor(affine).cpu().numpy())
    orientation = nib.orientations.io_orientation(affine)
    spacing = nib.affines.voxel_sizes(affine)[np.argsort(orientation[:, 0])]
    volumes = {}
    for key, image in maps.items():
        array = torch.as_tensor(image[0]).cpu().numpy()
        array = array[..., None] if array.ndim == 2 else array
        volumes[key] = nib.orientations.apply_orientation(array, orientation)
    foreground = volumes[guide] != 0
    cuts = []
    for name, across, *inside in PLANES:
        shape = [foreground.shape[axis] for axis in inside]
        if 1 in shape:
            continue
        counts = foreground.sum(axis=tuple(inside))
        at = int(counts.argmax()) if counts.any() else len(counts) // 2
        width, height = (float(n * spacing[axis]) for n, axis in zip(shape, inside, strict=True))
        arrays = {key: volume.take(at, axis=across) for key, volume in volumes.items()}
        cuts.append(Cut(name, arrays, (width, height), SIDES[inside[0]] + SIDES[inside[1]]))
    return cuts


def cut_panels(cuts: Sequence[Cut], columns: Sequence[str], image: Tensor) -> tuple[Figure, np.ndarray]:
    """A figure with a row a cut and a column a title, all in one scale in mm, each panel with the cut's ``input``.

    Args:
        cuts: see `upright_cuts`.
        columns: titles.
        image: the whole input, which sets black and white.

    Returns:
        The figure, and its axes [cuts, columns].
    """
    sizes = np.array([cut.size for cut in cuts])
    scale = min(PANEL_WIDTH / sizes[:, 0].max(), ROWS_HEIGHT / sizes[:, 1].sum())  # inches / mm
    heights = np.maximum(scale * sizes[:, 1], LEAST_HEIGHT)
    width = 0.3 + len(columns) * max(scale * sizes[:, 0].max(), LEAST_WIDTH)
    figure = Figure(figsize=(width, 0.6 + heights.sum()), layout="constrained")
    axes = figure.subplots(len(cuts), len(columns), squeeze=False, height_ratios=heights)

    sample = image.flatten()[:: max(1, image.numel() // 1_000_000)]
    black, white = np.percentile(sample.numpy(), WINDOW)
    for cut, row in zip(cuts, axes, strict=True):
        for axis in row:
            style = {"cmap": "gray", "vmin": black, "vmax": white, "interpolation": "bilinear"}
            draw_values(axis, cut.arrays["input"], cut, **style)
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
        if len(cuts) > 1:  # a lone slice's header has often lost the orientation: name no sides
            row[0].set_ylabel(cut.name)
            _draw_sides(row[0], cut.sides)
    for column, axis in zip(columns, axes[0], strict=True):
        axis.set_title(column)
    return figure, axes


def draw_values(
    axis: Axes, values: np.ndarray, cut: Cut, interpolation: str = "nearest", **style: Any
) -> None:
    """Lay values [horizontal, vertical], or colours with a third axis, over a panel; `style` as in ``imshow``."""
    values = values.swapaxes(0, 1)
    axis.imshow(values, origin="lower", extent=cut.extent, interpolation=interpolation, **style)


def draw_mask(
    axis: Axes, mask: np.ndarray, cut: Cut, colour: str, opacity: float, outline: bool = False
) -> None:
    """Lay a colour over the voxels of a mask [horizontal, vertical], with an outline if wanted."""
    if not mask.any():
        return
    draw_values(axis, mask[..., None] * np.array(to_rgba(colour, opacity)), cut)
    if outline:
        # centres of the voxels and of a frame around them, which closes the outline at the image's edge
        x, y = ((np.arange(-1, n + 1) + 0.5) * mm / n for n, mm in zip(mask.shape, cut.size, strict=True))
        axis.contour(x, y, np.pad(mask, 1).T, levels=[0.5], colors=[colour], linewidths=1.2)
        axis.set(xlim=cut.extent[:2], ylim=cut.extent[2:])


def _draw_sides(axis: Axes, sides: str) -> None:
    places = ((0.02, 0.5), (0.98, 0.5), (0.5, 0.02), (0.5, 0.98))
    align = (("left", "center"), ("right", "center"), ("center", "bottom"), ("center", "top"))
    for letter, (x, y), (ha, va) in zip(sides, places, align, strict=True):
        text = axis.text(x, y, letter, transform=axis.transAxes, ha=ha, va=va, color="white", fontsize=8)
        text.set_path_effects([withStroke(linewidth=1.5, foreground="black")])
