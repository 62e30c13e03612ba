from __future__ import annotations

import itertools
from itertools import product

import pytest
import torch
from fusion_cases import SIZES, hard_labels, one_hot, overlapping_blobs
from torch import Tensor

from mdl_monai.networks.fusion_evidence import atlas_distance, same_meaning, standardised, undecided_tiles

ANY_SIZE = pytest.mark.parametrize("size", SIZES)


@ANY_SIZE
def test_standardised_images_have_mean_0_and_deviation_1_where_seen(size: tuple[int, ...]) -> None:
    images = 300 + 50 * torch.randn(2, 3, *size)
    seen = torch.rand(2, 3, *size) * (torch.rand(2, 3, *size) < 0.6)
    found = standardised(images, seen)
    for b, k in product(range(2), range(3)):
        inside = found[b, k][seen[b, k] > 0]
        assert abs(inside.mean()) < 1e-4 and abs(inside.std(correction=0) - 1) < 1e-4
        order = images[b, k][seen[b, k] > 0].argsort()
        assert torch.equal(inside.argsort(), order)
    assert not found[seen == 0].any()


@ANY_SIZE
def test_gain_offset_and_what_is_not_seen_change_no_standardised_image(size: tuple[int, ...]) -> None:
    images, seen = torch.rand(2, 3, *size), (torch.rand(2, 3, *size) < 0.6).float()
    other = torch.where(seen > 0, 7 * images - 3, 1e4)
    torch.testing.assert_close(standardised(other, seen), standardised(images, seen), atol=1e-4, rtol=0)


def test_constant_and_unseen_images_are_0_with_finite_gradients() -> None:
    images = torch.full((1, 2, 5, 7), 0.37, requires_grad=True)
    seen = torch.ones(1, 2, 5, 7)
    seen[0, 1] = 0
    found = standardised(images, seen)
    assert found.abs().max() < 1e-2 and not found[0, 1].any()
    found.sum().backward()
    assert torch.isfinite(images.grad).all()


@ANY_SIZE
def test_distance_of_an_atlas_is_the_mean_over_what_is_seen(size: tuple[int, ...]) -> None:
    target, atlases = torch.randn(2, 4, *size), torch.randn(2, 3, 4, *size)
    seen = torch.rand(2, 3, *size) < 0.5
    seen[1, 2] = False
    found = atlas_distance(target, atlases, seen)
    for b, k in product(range(2), range(3)):
        squares = ((target[b] - atlases[b, k]) ** 2).sum(0)[seen[b, k]]
        torch.testing.assert_close(found[b, k], squares.mean() if len(squares) else torch.tensor(1e4))
    assert found[1, 2] == 1e4
    offset = torch.randn(4, *[1] * len(size))
    torch.testing.assert_close(atlas_distance(target + offset, atlases + offset, seen), found)


def labels(*rows: list[int]) -> Tensor:
    """Segmentations [B, 3, 1, n] of label numbers."""
    return one_hot(torch.tensor(rows)[:, None, None], 3)[:, 0]


def test_labels_have_the_same_meaning_unless_one_meets_another_more_than_its_own() -> None:
    labels = torch.zeros(3, 4, 5)
    labels[0], labels[1, :, :2], labels[2, :, 2:] = 1.0, 1.0, 1.0
    labels[0] -= labels[1:].sum(0)
    exchanged, background = labels[[0, 2, 1]], torch.zeros_like(labels)
    background[0] = 1.0
    away = labels.roll(2, dims=1)
    first = torch.stack([labels] * 4)
    second = torch.stack([labels, exchanged, background, 0.8 * labels + 0.2 * exchanged])
    assert same_meaning(first, second).tolist() == [True, False, True, True]
    assert same_meaning(second, first).tolist() == [True, False, True, True]
    assert same_meaning(labels[None, :2], away[None, :2]).all(), "a single label has no other meaning"


def undecided_by_loops(labels: Tensor, seen: Tensor, radius: int, tile: int) -> Tensor:
    """A tile is decided if all atlases see all of it and its margin, one at least, and hold one label there."""
    size = labels.shape[3:]
    out = torch.ones(len(labels), *(-(-n // tile) for n in size), dtype=torch.bool)
    for place in itertools.product(*(range(n) for n in out.shape)):
        box = [slice(max(0, i * tile - radius), (i + 1) * tile + radius) for i in place[1:]]
        here, there = labels[place[0]][(..., *box)], seen[place[0]][(..., *box)]
        same = [bool((here[:, n][there] == 1).all()) for n in range(labels.shape[2])]
        out[place] = not (there.any(dim=0).all() and any(same))
    return out


@ANY_SIZE
@pytest.mark.parametrize(("tile", "radius"), [(4, 1), (3, 1)])
@pytest.mark.parametrize("seen_share", [1.0, 0.9])
def test_undecided_tiles_are_those_of_a_loop(
    size: tuple[int, ...], tile: int, radius: int, seen_share: float
) -> None:
    labels = overlapping_blobs(4, 3, size)
    seen = torch.rand(2, 4, *size) < seen_share
    seen[:, 0] = True
    seen[:, :, : size[0] // 4] &= seen_share == 1
    seen[:, 3] = False
    found = undecided_tiles(torch.where(seen[:, :, None], labels, 0.0), seen, radius, tile)
    assert torch.equal(found, undecided_by_loops(labels, seen, radius, tile))
    assert found.any()


def test_rounding_of_a_warp_decides_no_tile_and_a_share_of_one_hundredth_does() -> None:
    labels = hard_labels(1, 3, (1, 1)).expand(2, 3, 3, 8, 8).clone()
    seen = torch.ones(2, 3, 8, 8, dtype=torch.bool)
    assert not undecided_tiles(labels - 5e-5, seen, 2, 4).any()
    labels[1, 2, :, 7, 0] -= 0.01
    found = undecided_tiles(labels, seen, 2, 4)
    assert found.nonzero().tolist() == [[1, 1, 0]]
