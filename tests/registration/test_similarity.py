from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from warp_cases import drawn, grid

from mdl_monai.registration.similarity import (
    BINS,
    DeepFeatureSimilarity,
    normalised_mutual_information,
)

SIZES = [(31, 24), (9, 14, 11)]


def score(target: Tensor, atlas: Tensor, valid: Tensor | None = None) -> float:
    seen = torch.ones_like(atlas) if valid is None else valid
    return float(normalised_mutual_information(target, atlas[None], seen[None])[0])


def by_histogram(target: Tensor, atlas: Tensor, valid: Tensor) -> float:
    """The same by NumPy, in its definition's words."""

    def edges(image: Tensor) -> np.ndarray:
        ordered = np.sort(image.numpy().ravel())
        last = len(ordered) - 1
        inner = np.linspace(ordered[int(0.005 * last)], ordered[int(0.995 * last)], BINS + 1)[1:-1]
        return np.array([-np.inf, *inner, np.inf])

    seen = valid.numpy() > 0.5
    pair = (target.numpy()[seen], atlas.numpy()[seen])
    joint = np.zeros((BINS, BINS))
    rows, columns = (
        np.searchsorted(edges(whole), v, "right") - 1 for whole, v in zip((target, atlas), pair, strict=True)
    )
    np.add.at(joint, (rows, columns), 1)

    def entropy(counts: np.ndarray) -> float:
        p = counts[counts > 0] / counts.sum()
        return -float((p * np.log(p)).sum())

    return (entropy(joint.sum(0)) + entropy(joint.sum(1))) / entropy(joint.ravel())


@pytest.mark.parametrize("size", SIZES)
def test_a_bijection_of_the_grey_values_scores_2(size: tuple[int, ...]) -> None:
    target = torch.randint(8, size).float()
    table = torch.tensor([3.0, -1.0, 7.0, 0.5, 20.0, 11.0, 15.0, -6.0])
    assert score(target, target) == pytest.approx(2, abs=1e-6)
    assert score(target, table[target.long()]) == pytest.approx(2, abs=1e-6)


def test_what_tells_nothing_of_the_target_scores_1() -> None:
    rows, columns = torch.meshgrid(torch.arange(16.0), torch.arange(20.0), indexing="ij")
    assert score(rows, columns) == pytest.approx(1, abs=1e-6)
    assert score(rows, torch.full_like(rows, 3.0)) == 1
    assert score(torch.zeros_like(rows), torch.full_like(rows, 3.0)) == 1
    assert score(rows, rows, torch.zeros_like(rows)) == 1


@pytest.mark.parametrize("size", SIZES)
def test_it_is_symmetric_and_blind_to_linear_and_inverted_contrast(size: tuple[int, ...]) -> None:
    target = torch.randn(size)
    atlas = target + 0.5 * torch.randn(size)
    one = score(target, atlas)
    assert 1.1 < one < 1.5
    assert score(atlas, target) == pytest.approx(one, abs=1e-6)
    assert score(target, 4 * atlas + 1024) == pytest.approx(one, abs=1e-3)
    assert score(3 - target, atlas) == pytest.approx(one, abs=0.01)  # the bins' ends are not symmetric
    assert score(target, torch.exp(-atlas / 2)) == pytest.approx(one, abs=0.05)


def test_more_noise_scores_less() -> None:
    target = torch.randn(17, 13, 11)
    noise = torch.randn_like(target)
    scores = [score(target, target + s * noise) for s in (0.1, 0.3, 1.0, 3.0)]
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize("size", SIZES)
def test_it_agrees_with_a_histogram_by_numpy(size: tuple[int, ...]) -> None:
    target = torch.rand(size)
    atlas = 0.5 * target + torch.rand(size)
    valid = (torch.rand(size) > 0.3).float()
    assert score(target, atlas, valid) == pytest.approx(by_histogram(target, atlas, valid), abs=1e-5)


def test_voxels_that_are_not_valid_do_not_count() -> None:
    target = torch.randint(6, (20, 12)).float()
    atlas, valid = target.clone(), torch.ones_like(target)
    atlas[:7] = torch.randint(6, (7, 12)).float()
    assert score(target, atlas) < 1.9
    valid[:7] = 0
    assert score(target, atlas, valid) == pytest.approx(2, abs=1e-6)


def test_many_at_once_score_as_one_by_one() -> None:
    target, atlases = torch.rand(13, 18, 7), torch.rand(5, 13, 18, 7) * torch.arange(5).view(5, 1, 1, 1)
    valid = (torch.rand_like(atlases) > 0.2).float()
    together = normalised_mutual_information(target, atlases, valid)
    assert together.tolist() == [score(target, a, v) for a, v in zip(atlases, valid, strict=True)]


def network(dims: int) -> nn.Sequential:
    conv = nn.Conv2d if dims == 2 else nn.Conv3d
    return nn.Sequential(conv(1, 4, 3, padding=1), nn.ReLU(), conv(4, 6, 2, stride=2), nn.Dropout(0.5))


@pytest.mark.parametrize("dims", [2, 3])
def test_deep_features_rank_the_image_itself_first(dims: int) -> None:
    place = grid("RAS", (20, 23, 18)[:dims], (2.0, 2.0, 2.5)[:dims])
    target = drawn(place).values
    atlases = torch.stack([drawn(place, lambda x, s=s: x + s).values for s in (6.0, 0.0, 2.0)])
    scores = DeepFeatureSimilarity(network(dims))(target, atlases, torch.ones_like(atlases))
    assert scores[1] == 0 and scores[1] > scores[2] > scores[0] > -4


def test_deep_features_are_the_networks_and_blind_to_scale_and_offset() -> None:
    module, image = network(2), torch.rand(12, 10)
    deep = DeepFeatureSimilarity(module)
    found = deep.features(5 * image + 300)
    standard = ((image - image.mean()) / image.std())[None, None]
    expected = module[:3](standard)[0]
    assert found.shape == (6, 6, 5)
    torch.testing.assert_close(found, expected / expected.norm(dim=0), atol=1e-3, rtol=1e-3)


def test_deep_features_do_not_count_where_an_atlas_is_not_valid() -> None:
    module = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1))
    target = torch.rand(16, 12)
    other = torch.cat([target[:8], target[8:].flip(1)])
    other = (other - other.mean()) / other.std()  # the same values: the halves stay comparable
    half, nowhere = torch.ones(2, 16, 12)
    half[7:], nowhere[:] = 0, 0
    deep = DeepFeatureSimilarity(module)
    scores = deep(target, torch.stack([other] * 3), torch.stack([torch.ones_like(half), half, nowhere]))
    assert scores[0] < -0.01 and scores[1] == pytest.approx(0, abs=1e-5) and scores[2] == -4


def test_an_atlas_goes_through_the_network_once_however_many_targets() -> None:
    module, passes = network(2), []
    module.register_forward_hook(lambda *_: passes.append(1))
    deep, atlases = DeepFeatureSimilarity(module), torch.rand(3, 9, 12)
    first = [deep(t, atlases, torch.ones_like(atlases)) for t in (torch.rand(9, 12), torch.rand(9, 12))]
    assert len(passes) == 2 + 3
    assert not torch.equal(*first)
    deep(torch.rand(9, 12), atlases + torch.eye(9, 12), torch.ones_like(atlases))
    assert len(passes) == 2 + 3 + 1 + 3


def test_a_constant_image_has_finite_features() -> None:
    found = DeepFeatureSimilarity(network(2))(torch.rand(8, 8), torch.zeros(1, 8, 8), torch.ones(1, 8, 8))
    assert math.isfinite(found)
