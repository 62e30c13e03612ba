"""Apply a 2D network to slices and volumes alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from monai.inferers import Inferer
from torch import Tensor
from tqdm import tqdm

from mdl_monai.errors import InputError


class SlicewiseInferer(Inferer):
    """A 2D network on [B, C, H, W], or on a volume [B, C, H, W, D] slice by slice.

    Mixed precision is bfloat16 on CPU and CUDA alike: it needs no loss scaling and, having float32's range, no
    guard against overflow. Networks keep their FFTs and data consistency in float32 themselves.

    Args:
        amp: run the network under autocast.
        slices_per_batch: slices of a volume that go through the network at once.
        progress: show a bar over the slices of a volume.
    """

    def __init__(self, amp: bool = False, slices_per_batch: int = 4, progress: bool = False) -> None:
        if slices_per_batch < 1:
            raise InputError(
                "slices_per_batch must be positive", found=slices_per_batch, remedy="set --slices_per_batch 4"
            )
        self.amp, self.slices_per_batch, self.progress = amp, slices_per_batch, progress

    def __call__(self, inputs: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        """Inputs [B, C, H, W] or [B, C, H, W, D] to the network's outputs in float32, same layout.

        Keyword arguments do not go to the network: MONAI Deploy passes all further tensors of a record.
        """
        # MetaTensor's bookkeeping at every operation costs more than some of the operations
        plain = torch.as_tensor(inputs).as_subclass(Tensor)
        with torch.autocast(plain.device.type, dtype=torch.bfloat16, enabled=self.amp):
            if plain.ndim == 4:
                return network(plain, *args).float()
            batch, depth = plain.shape[0], plain.shape[4]
            slices = plain.permute(0, 4, 1, 2, 3).flatten(0, 1)  # [B D, C, H, W]
            parts = slices.split(self.slices_per_batch)
            bar = tqdm(parts, desc="slices", disable=not self.progress or len(parts) < 2, leave=False)
            outputs = torch.cat([network(part, *args).float() for part in bar])
        return outputs.unflatten(0, (batch, depth)).permute(0, 2, 3, 4, 1)
