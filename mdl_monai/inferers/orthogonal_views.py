"""Apply a 2D network to a volume along several axes, and average: 2.5D."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from mdl_monai.errors import InputError
from mdl_monai.inferers.slicewise import SlicewiseInferer

AXES = {"sagittal": 0, "coronal": 1, "axial": 2}
"""View: the axis across its slices, in RAS."""


def axes_of(views: Sequence[str]) -> list[int]:
    """The axis across the slices of each view, in the views' order.

    Raises:
        InputError: none, or one that is no view.
    """
    if not views or set(views) - AXES.keys():
        raise InputError(
            "a view is unknown", expected=", ".join(AXES), found=views, remedy="set --views \"['axial']\""
        )
    return [AXES[view] for view in dict.fromkeys(views)]


class OrthogonalViews(SlicewiseInferer):
    """The mean of a 2D network's results for the slices of each view.

    Slices of one view alone know nothing of their neighbours, and the result steps from slice to slice; averaged
    with the other views it is smooth across them. A volume of one slice goes through in its own view.

    Args:
        views: of axial, coronal, sagittal.
        amp: run the network in bfloat16.
        slices_per_batch: slices that go through the network at once.
        progress: show a bar over the slices of a volume.
        mirror: average with the results for the mirror images, right-left and front-back: four times the time.

    Raises:
        InputError: a view that is none.
    """

    def __init__(
        self,
        views: Sequence[str] = tuple(AXES),
        amp: bool = False,
        slices_per_batch: int = 8,
        progress: bool = False,
        mirror: bool = False,
    ) -> None:
        super().__init__(amp, slices_per_batch, progress)
        self.axes = axes_of(views)
        self.mirrored = [(), (2,), (3,), (2, 3)] if mirror else [()]

    def __call__(self, inputs: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        """[B, C, X, Y, Z], right-anterior-superior, to the network's outputs in float32, same layout.

        Keyword arguments do not go to the network: MONAI Deploy passes all further tensors of a record.
        """
        plain = torch.as_tensor(inputs).as_subclass(Tensor)
        flat = [axis for axis in range(3) if plain.shape[2 + axis] == 1]
        flips = [dims for dims in self.mirrored if all(plain.shape[d] > 1 for d in dims)]
        results = []
        for dims in flips:
            for axis in flat[-1:] or self.axes:
                slices_last = plain.flip(dims).movedim(2 + axis, 4)
                results.append(super().__call__(slices_last, network, *args).movedim(4, 2 + axis).flip(dims))
        return torch.stack(results).mean(0) if len(results) > 1 else results[0]
