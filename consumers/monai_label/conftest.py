"""Lets torchvision be imported where its build is one for CUDA and torch's is for the CPU.

The package index has torchvision for CUDA alone, whose compiled operators a CPU torch cannot load; at import it then
misses two of them. MONAI Label's bundle app takes nothing compiled from it, so the operators' names are enough. With
builds that belong together nothing is done.
"""

from __future__ import annotations

from importlib.metadata import version

import torch

if torch.version.cuda is None and not version("torchvision").endswith("+cpu"):
    for name in ("nms", "qnms"):
        torch.library.define(
            f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        )
