"""Inputs for the tests of label fusion networks."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from mdl_monai.networks.fusion_border import FusionInput, join_fusion_input

SIZES = [(7, 12), (9, 5), (5, 8, 3), (4, 6, 7)]


def soft_labels(n_atlases: int, n_labels: int, size: tuple[int, ...], batch: int = 2) -> Tensor:
    """Random probabilities, [B, K, L, *spatial]."""
    return torch.randn(batch, n_atlases, n_labels, *size).mul(2).softmax(dim=2)


def hard_labels(n_atlases: int, n_labels: int, size: tuple[int, ...], batch: int = 2) -> Tensor:
    """Random one-hot labels, [B, K, L, *spatial]."""
    return one_hot(torch.randint(n_labels, (batch, n_atlases, *size)), n_labels)


def one_hot(labels: Tensor, n_labels: int) -> Tensor:
    """Label numbers [B, K, *spatial] to one-hot labels [B, K, L, *spatial]."""
    return functional.one_hot(labels, n_labels).movedim(-1, 2).float()


def fusion_input(labels: Tensor, valid: Tensor | None = None) -> Tensor:
    """A fusion network's input of labels [B, K, L, *spatial] and validity [B, K, *spatial], with random images."""
    seen = torch.ones_like(labels[:, :, 0]) if valid is None else valid
    target, images = torch.randn_like(labels[:, :1, 0]), torch.randn_like(labels[:, :, 0])
    return join_fusion_input(FusionInput(target, images, labels, seen))
