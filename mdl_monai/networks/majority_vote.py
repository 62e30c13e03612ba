"""Majority vote of warped atlases, the baseline below all other label fusion."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mdl_monai.networks.fusion_border import check_counts, split_fusion_input


def weighted(labels: Tensor, valid: Tensor) -> Tensor:
    """One atlas's labels [B, L, *spatial] times its validity [B, *spatial], in float32; 0 where that is 0."""
    weight = valid.unsqueeze(1).float()
    return torch.where(weight > 0, labels.float() * weight, 0.0)


def majority_vote(labels: Tensor, valid: Tensor) -> Tensor:
    """Share of each label in the votes of the valid atlases, in float32.

    A label warped linearly is a vote in parts. Where there is no vote at all the answer is background. What an
    atlas holds where its validity is 0, even NaN, is never read.

    Args:
        labels: [B, K, L, *spatial], background first.
        valid: weight of each vote, [B, K, *spatial].

    Returns:
        [B, L, *spatial]; sums to 1 over the labels.
    """
    # Atlas by atlas: adding zeros in turn changes no bit, and no weighted copy of all labels is made.
    votes = weighted(labels[:, 0], valid[:, 0])
    for k in range(1, labels.shape[1]):
        votes = votes + weighted(labels[:, k], valid[:, k])
    total = votes.sum(dim=1, keepdim=True)
    silent = total == 0
    shares = votes / torch.where(silent, 1.0, total)
    return torch.cat((shares[:, :1] + silent.float(), shares[:, 1:]), dim=1)


class MajorityVote(nn.Module):
    """Every atlas has one vote at every voxel it is valid at.

    Args:
        n_atlases: K, atlases of a target.
        n_labels: L, labels, background included.
    """

    def __init__(self, n_atlases: int, n_labels: int) -> None:
        super().__init__()
        check_counts(n_atlases, n_labels)
        self.n_atlases, self.n_labels = n_atlases, n_labels

    def forward(self, image: Tensor) -> Tensor:
        """Target and atlases [B, 1 + K (L + 2), *spatial] to label probabilities [B, L, *spatial]."""
        parts = split_fusion_input(image, self.n_atlases, self.n_labels)
        return majority_vote(parts.labels, parts.valid)
