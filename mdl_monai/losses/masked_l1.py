"""Mean absolute error where it counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn


def masked_l1(pred: Tensor, reference: Tensor, mask: Tensor) -> Tensor:
    """Mean of |pred - reference| within the mask, all [B, 1, *spatial]; 0 where the mask is empty."""
    return ((pred.float() - reference).abs() * mask).sum() / mask.sum().clamp_min(1)


class MaskedL1(nn.Module):
    """`masked_l1` of a reference and a mask in one tensor."""

    def forward(self, pred: Tensor, label: Tensor) -> Tensor:
        """Loss of [B, 1, *spatial] for `label` [B, 2, *spatial]: reference and mask."""
        return masked_l1(pred, label[:, :1], label[:, 1:])


def masked_l1_score(output: Sequence[Mapping[str, Tensor]]) -> float:
    """Minus the loss, mean over an evaluator's decollated cases, for ignite's `Average`: the higher the better."""
    loss = MaskedL1()
    return -sum(float(loss(case["pred"][None], case["label"][None])) for case in output) / len(output)
