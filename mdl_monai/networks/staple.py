"""STAPLE: atlases weighted by how well they agree with the truth they jointly suggest."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
import torch
from torch import Tensor, nn
from torch.nn import functional

from mdl_monai.networks.fusion_border import check_counts, split_fusion_input
from mdl_monai.networks.majority_vote import majority_vote

MAX_ITERATIONS = 100  # atlases that hold any truth take some twenty; votes at random may take thousands


def label_probability(votes: np.ndarray, label: int) -> Tensor:
    """Probability [N], float64, that a label is the true one, from votes [K, N] by binary STAPLE."""
    if not (votes == label).any():
        return torch.zeros(votes.shape[1], dtype=torch.float64)  # SimpleITK divides by its prior of 0
    voters = [sitk.GetImageFromArray(row) for row in votes[:, None]]
    return torch.from_numpy(sitk.GetArrayFromImage(sitk.STAPLE(voters, 1.0, label, MAX_ITERATIONS))[0])


def settle(votes: Tensor, shares: Tensor) -> Tensor:
    """Label probabilities of voxels whose atlases disagree.

    Args:
        votes: label of each atlas, or L where it has none, [K, N] int16.
        shares: answer where STAPLE prefers no label, [L, N].

    Returns:
        [L, N] float64.
    """
    n_labels = len(shares)
    votes = votes[(votes < n_labels).any(dim=1)]
    # STAPLE knows no missing vote: an absent atlas follows the others' favourite, or says none of the labels.
    counts = torch.stack([(votes == label).sum(dim=0) for label in range(n_labels)])
    most, favourite = counts.max(dim=0)
    favourite[(counts == most).sum(dim=0) > 1] = n_labels
    votes = torch.where(votes < n_labels, votes, favourite.to(votes.dtype))
    probability = torch.stack([label_probability(votes.numpy(), label) for label in range(n_labels)])
    probability = probability / probability.sum(dim=0)
    first, second = probability.topk(2, dim=0).values
    return torch.where(first - second > 1e-6, probability, shares.double())  # a NaN is undecided as well


def staple(labels: Tensor, valid: Tensor) -> Tensor:
    """Label scores [L, *spatial], float32, of one target on the CPU.

    Args:
        labels: [K, L, *spatial], background first; an atlas votes for the largest, or the first of two as large.
        valid: an atlas votes where this is above 0, [K, *spatial].
    """
    n_labels = labels.shape[1]
    votes = torch.stack(
        [
            torch.where(seen > 0, atlas.argmax(dim=0), n_labels).short()
            for atlas, seen in zip(labels, valid, strict=True)
        ]
    )
    lowest = votes.amin(dim=0)
    disputed = torch.where(votes < n_labels, votes, -1).amax(dim=0) > lowest
    agreed = torch.where(lowest < n_labels, lowest, 0).long()
    scores = functional.one_hot(agreed, n_labels).movedim(-1, 0).float()
    if disputed.any():
        shares = majority_vote(labels[None, ..., disputed], valid[None, ..., disputed])[0]
        scores[:, disputed] = settle(votes[:, disputed], shares).float()
    return scores


class Staple(nn.Module):
    """Simultaneous truth and performance level estimation (Warfield et al., IEEE TMI 2004), by SimpleITK.

    Each label, background included, is one binary problem, solved on the voxels at which atlases disagree: on whole
    images a background that all share dominates the prior and every atlas's specificity (mean Dice of 11 hippocampus
    targets after affine registration 0.763 instead of 0.786; the majority of the same hard votes has 0.787).
    ``MultiLabelSTAPLE`` is about as good and twice as fast, but gives no probabilities, and books a voxel of tied
    votes under another label at its start, so that exchanging two labels may change its answer.

    Where all valid atlases agree their label has probability 1; where none is valid, the background. Where STAPLE
    prefers no label, as between two atlases, the majority's shares are the answer. An atlas not valid anywhere is
    left out.

    Neither scripted nor exported, and without gradients: SimpleITK runs on the CPU.

    Args:
        n_atlases: K, atlases of a target.
        n_labels: L, labels, background included.
    """

    def __init__(self, n_atlases: int, n_labels: int) -> None:
        super().__init__()
        check_counts(n_atlases, n_labels)
        self.n_atlases, self.n_labels = n_atlases, n_labels

    @torch.no_grad()
    def forward(self, image: Tensor) -> Tensor:
        """Target and atlases [B, 1 + K (L + 2), *spatial] to label probabilities [B, L, *spatial]."""
        parts = split_fusion_input(image, self.n_atlases, self.n_labels)
        scores = [staple(*one) for one in zip(parts.labels.cpu(), parts.valid.cpu(), strict=True)]
        return torch.stack(scores).to(image.device)
