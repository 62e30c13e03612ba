"""Inputs for the tests of label fusion networks."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

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


def overlapping_blobs(n_atlases: int, n_labels: int, size: tuple[int, ...], batch: int = 2) -> Tensor:
    """One-hot shells about a middle that each atlas puts elsewhere: they agree far from the shells' edges alone."""
    middle = torch.tensor(size) / 2 + torch.rand(batch, n_atlases, len(size))
    place = torch.stack(torch.meshgrid(*(torch.arange(float(n)) for n in size), indexing="ij"), dim=-1)
    away = (place - middle.view(batch, n_atlases, *[1] * len(size), -1)).norm(dim=-1)
    outermost = min(size) / 3
    return one_hot((n_labels - 1 - away / outermost * (n_labels - 1)).ceil().clamp_min(0).long(), n_labels)


def fused_voxel_by_voxel(
    query: Tensor, keys: Tensor, values: Tensor, bias: Tensor, null: Tensor, spread: Tensor, radius: int
) -> Tensor:
    """The sum that `windowed_fusion` documents, as written there: for each voxel over its window in all atlases."""
    size, out = query.shape[2:], []
    for sample, *p in product(range(len(query)), *map(range, size)):
        window = [slice(max(0, i - radius), i + radius + 1) for i in p]
        here = query[sample, :, *p].view(1, -1, *[1] * len(size))
        away = sum(
            (torch.arange(n)[part] - i).square().view([-1 if a == axis else 1 for a in range(len(size))])
            for axis, (n, part, i) in enumerate(zip(size, window, p, strict=True))
        )
        distance = (keys[sample, :, :, *window] - here).square().sum(dim=1)
        score = bias[sample, :, *window] - distance - spread.square() * away
        w = torch.cat((score.flatten(), null[sample, *p][None])).softmax(dim=0)
        answer = (values[sample, :, :, *window].transpose(0, 1).flatten(1) * w[:-1]).sum(dim=1)
        out.append(torch.cat((answer, w[-1:])))
    return torch.stack(out).view(len(query), *size, -1).movedim(-1, 1)


def voxels_of(tiles: Tensor, tile: int, size: Sequence[int]) -> Tensor:
    """Tiles [B, *tiles an axis] as a mask of voxels [B, *spatial]."""
    for axis, n in enumerate(size, start=1):
        tiles = tiles.repeat_interleave(tile, dim=axis).narrow(axis, 0, n)
    return tiles
