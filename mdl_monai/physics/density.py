"""What a network is told of a sampling mask: how dense it is where."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

RINGS = 8  # frequency rings of the mask descriptor, each split into a mostly-row and a mostly-column half


def mask_descriptor(mask: Tensor, rings: int = RINGS) -> Tensor:
    """Sampling density of a centred mask [B, 1, H, W] in 8 frequency rings x 2 sectors, as [B, 16].

    The rings tell ratio and decay, the sectors tell Cartesian lines from isotropic patterns.
    """
    h, w = mask.shape[-2], mask.shape[-1]
    row = (torch.arange(h, device=mask.device) - h // 2).abs().float()[:, None] / h
    column = (torch.arange(w, device=mask.device) - w // 2).abs().float()[None, :] / w
    ring = ((row**2 + column**2).sqrt() * (2 * rings)).long().clamp(max=rings - 1)
    bins = 2 * ring + (row > column).long()  # [H, W]
    member = F.one_hot(bins.flatten(), 2 * rings).to(mask.dtype)  # [HW, 16]
    return (mask.flatten(1) @ member) / member.sum(0).clamp_min(1)
