"""Apply a 3D network to volumes: in one pass where memory allows, else in windows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from monai.inferers import Inferer, sliding_window_inference
from torch import Tensor

from mdl_monai.errors import InputError


class VolumewiseInferer(Inferer):
    """A fully convolutional network on a whole volume, or on overlapping windows of a large one.

    One pass is faster and sees more than windows do. Mixed precision is bfloat16, as in `SlicewiseInferer`.

    Args:
        window_size: voxels of a window, by axis.
        max_voxels: the largest volume that goes through in one pass; V-Net takes about 0.5 GB a million voxels.
        amp: run the network under autocast.
        progress: show a bar over the windows of a volume.
        mirror: average the outputs for the volume and for its mirror image along the first axis, left to right;
            for networks that were trained on both.
    """

    def __init__(
        self,
        window_size: Sequence[int],
        max_voxels: int = 4_000_000,
        amp: bool = False,
        progress: bool = False,
        mirror: bool = False,
    ) -> None:
        if min(window_size) < 1:
            raise InputError(
                "the window has no voxels", found=window_size, remedy="set --patch_size '[48, 64, 48]'"
            )
        self.window_size, self.max_voxels = tuple(window_size), max_voxels
        self.amp, self.progress, self.mirror = amp, progress, mirror

    def __call__(self, inputs: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        """Inputs [B, C, H, W, D] to the network's outputs in float32, on the same grid.

        Keyword arguments do not go to the network: MONAI Deploy passes all further tensors of a record.
        """
        # MetaTensor's bookkeeping at every operation costs more than some of the operations
        plain = torch.as_tensor(inputs).as_subclass(Tensor)

        def predict(window: Tensor) -> Tensor:
            out = network(window, *args).float()
            if self.mirror:
                out = (out + network(window.flip(2), *args).float().flip(2)) / 2
            return out

        with torch.autocast(plain.device.type, dtype=torch.bfloat16, enabled=self.amp):
            if plain[0, 0].numel() <= self.max_voxels:
                return predict(plain)
            outputs: Any = sliding_window_inference(
                plain, self.window_size, 1, predict, overlap=0.5, mode="gaussian", progress=self.progress
            )
        return outputs
