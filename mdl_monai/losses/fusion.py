"""Loss of label fusion networks, whose outputs are probabilities."""

from __future__ import annotations

import torch
from monai.losses import DiceCELoss
from torch import Tensor, nn


class FusionLoss(nn.Module):
    """Dice loss and cross-entropy of fused probabilities, and of a prior's beside them.

    Where no atlas offers the true label its probability is 0 and cannot grow: probabilities are mixed with 0.1 % of
    the uniform distribution, which bounds what such a voxel costs.

    Args:
        prior_weight: of the prior's loss against that of the fusion.
    """

    def __init__(self, prior_weight: float = 0.5) -> None:
        super().__init__()
        self.prior_weight = prior_weight
        self.loss = DiceCELoss(softmax=True, squared_pred=True)

    def forward(self, pred: Tensor, label: Tensor) -> Tensor:
        """Loss of probabilities [B, L or 2 L, *spatial], the prior's last, for one-hot labels [B, L, *spatial]."""
        n = label.shape[1]
        value: Tensor = self.loss(_logits(pred[:, :n]), label)
        if pred.shape[1] > n:
            value = value + self.prior_weight * self.loss(_logits(pred[:, n:]), label)
        return value


def _logits(probability: Tensor) -> Tensor:
    return torch.log(0.999 * probability.float() + 0.001 / probability.shape[1])
