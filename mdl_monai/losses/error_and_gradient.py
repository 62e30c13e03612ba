"""Squared error and gradient difference where they count: Nie's losses on pairs."""

from __future__ import annotations

from torch import Tensor, nn

from mdl_monai.losses.gradient_difference import GradientDifferenceLoss


class ErrorAndGradientLoss(nn.Module):
    r"""Mean of :math:`(x - y)^2` within the mask, and w times the `GradientDifferenceLoss` there.

    Nie et al.: Medical image synthesis with context-aware generative adversarial networks, MICCAI 2017,
    doi:10.1007/978-3-319-66179-7_48. In float32 under autocast too.

    Args:
        gradient_weight: w.
    """

    def __init__(self, gradient_weight: float = 1.0) -> None:
        super().__init__()
        self.gradient_weight, self.gradient = gradient_weight, GradientDifferenceLoss()

    def forward(self, pred: Tensor, label: Tensor) -> Tensor:
        """Loss of [B, 1, *spatial] for `label` [B, 2, *spatial]: reference and mask; 0 where that is empty."""
        reference, mask = label[:, :1], label[:, 1:]
        error = ((pred.float() - reference).square() * mask).sum() / mask.sum().clamp_min(1)
        return error + self.gradient_weight * self.gradient(pred, reference, mask)
