"""Normalised error, the training loss of ADMM-Net."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class NMSELoss(nn.Module):
    r"""Mean over the batch of :math:`\|x - g\|_2 / \|g\|_2` (unsquared, as in the ADMM-Net paper).

    Args:
        floor: root mean square below which a reference counts as empty; keeps a crop of pure background from
            outweighing all others. In units of the image (peak 1).
    """

    def __init__(self, floor: float = 0.01) -> None:
        super().__init__()
        if floor <= 0:
            raise ValueError(f"floor must be positive, found {floor}")
        self.floor = floor

    def forward(self, pred: Tensor, label: Tensor) -> Tensor:
        """Images [B, ...] of equal shape to a scalar, in float32.

        Raises:
            ValueError: if the shapes differ.
        """
        return torch.sqrt(self.squared(pred, label) + 1e-12).mean()

    def squared(self, pred: Tensor, label: Tensor) -> Tensor:
        """Squared ratio of each item, [B], float32."""
        if pred.shape != label.shape:
            raise ValueError(f"pred {tuple(pred.shape)} and label {tuple(label.shape)} differ in shape")
        label = label.float().flatten(1)
        error = (pred.float().flatten(1) - label).square().sum(1)
        energy = label.square().sum(1) + self.floor**2 * label.shape[1]
        return error / energy


class LogNMSELoss(NMSELoss):
    r"""Mean over the batch of :math:`\log_{10} (\|x - g\|_2 / \|g\|_2)`, which falls by 1 for 20 dB of PSNR.

    Every image counts alike, however much of it is measured. In the mean of the ratio itself the worst measured
    ones drown the rest.
    """

    def forward(self, pred: Tensor, label: Tensor) -> Tensor:
        """As of `NMSELoss`; a ratio below 0.001 gains nothing more."""
        return (self.squared(pred, label) + 1e-6).log10().mean() / 2
