from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from mdl_monai.networks.fusion_border import FusionInput, join_fusion_input, split_fusion_input
from mdl_monai.transforms.training_atlases import RandAtlasesd

SIZES = [(7, 12), (5, 8, 6)]
ANY_SIZE = pytest.mark.parametrize("size", SIZES)
N, K = 9, 5


def pool(size: tuple[int, ...], n_atlases: int = N, valid: Tensor | None = None) -> dict[str, Tensor]:
    """Atlas k holds grey values in its own tenth, its label is 1 where they lie in the upper half of it."""
    images = (torch.arange(n_atlases).view(-1, *[1] * len(size)) + torch.rand(n_atlases, *size)) / 10
    labels = functional.one_hot((images * 10 % 1 > 0.5).long(), 2).movedim(-1, 1).float()
    seen = torch.ones(n_atlases, *size) if valid is None else valid
    parts = FusionInput(torch.rand(1, 1, *size), images[None], labels[None], seen[None])
    return {"image": join_fusion_input(parts)[0], "label": torch.zeros(1)}


def some(record: dict[str, Tensor], seed: int = 0, count: int = K, **options: float) -> FusionInput:
    transform = RandAtlasesd("image", n_labels=2, count=count, **options).set_random_state(seed)
    return split_fusion_input(transform(record)["image"][None], count, 2)


PLAIN = {"absent": 0, "wrong": 0.0, "gamma": 0.0}


def numbers(parts: FusionInput) -> list[int]:
    """Which atlas of the pool each is."""
    return (parts.images[0].flatten(1).mean(dim=1) * 10).int().tolist()


@ANY_SIZE
def test_different_atlases_of_the_pool_are_drawn_whole(size: tuple[int, ...]) -> None:
    record = pool(size)
    before, whole = record["image"].clone(), split_fusion_input(record["image"][None], N, 2)
    drawn = set()
    for seed in range(12):
        parts = some(record, seed, **PLAIN)
        chosen = numbers(parts)
        assert len(set(chosen)) == K
        drawn.add(tuple(chosen))
        torch.testing.assert_close(parts.target, whole.target)
        for name in ("images", "labels", "valid"):
            torch.testing.assert_close(getattr(parts, name), getattr(whole, name)[:, chosen])
    assert len(drawn) == 12 and len({k for chosen in drawn for k in chosen}) == N
    assert torch.equal(record["image"], before)


@ANY_SIZE
def test_a_seed_repeats_the_draw_and_the_rest_of_the_record_stays(size: tuple[int, ...]) -> None:
    record = pool(size)
    transform = RandAtlasesd("image", n_labels=2, count=K)
    found = [transform.set_random_state(seed)(record) for seed in (3, 3, 4)]
    assert found[0]["image"].shape == (1 + K * 4, *size) and type(found[0]["image"]) is Tensor
    assert torch.equal(found[0]["image"], found[1]["image"])
    assert not torch.equal(found[0]["image"], found[2]["image"])
    assert found[0]["label"] is record["label"]
    assert not torch.equal(transform(record)["image"], transform(record)["image"])


@ANY_SIZE
def test_atlases_that_are_valid_nowhere_are_never_drawn(size: tuple[int, ...]) -> None:
    valid = torch.ones(N, *size)
    valid[[0, 2, 3, 5, 8]] = 0
    valid[1, :4] = 0
    for seed in range(8):
        parts = some(pool(size, valid=valid), seed, **PLAIN)
        there = parts.valid[0].flatten(1).any(dim=1)
        assert there.tolist() == [True] * 4 + [False]
        assert sorted(numbers(parts)[:4]) == [1, 4, 6, 7]
        assert not parts.images[0, 4].any() and not parts.labels[0, 4].any()


def test_a_pool_without_any_valid_atlas_gives_none() -> None:
    parts = some(pool((5, 8), valid=torch.zeros(N, 5, 8)))
    assert not parts.valid.any() and not parts.labels.any() and parts.target.any()


def test_up_to_so_many_atlases_are_absent_and_one_is_left() -> None:
    for absent, count, most in ((2, K, 2), (7, K, 4), (7, 1, 0)):
        found = [
            int((~some(pool((5, 6)), s, count, absent=absent).valid[0].flatten(1).any(1)).sum())
            for s in range(60)
        ]
        assert set(found) == set(range(most + 1))


@ANY_SIZE
def test_a_wrong_atlas_moves_with_its_labels_and_validity(size: tuple[int, ...]) -> None:
    valid = (torch.rand(N, *size) < 0.8).float()
    record = pool(size, valid=valid)
    images = split_fusion_input(record["image"][None], N, 2).images
    parts = some(record, absent=0, wrong=1.0, gamma=0.0)
    for k, number in enumerate(numbers(parts)):
        image, own = parts.images[0, k].flatten(), images[0, number].flatten()
        assert not torch.equal(image, own)
        torch.testing.assert_close(image.sort().values, own.sort().values)
        torch.testing.assert_close(parts.labels[0, k, 1].flatten(), (image * 10 % 1 > 0.5).float())
        place = (image[:, None] - own).abs().argmin(dim=1)
        torch.testing.assert_close(parts.valid[0, k].flatten(), valid[number].flatten()[place])


def test_so_many_atlases_are_wrong() -> None:
    record = pool((5, 6))
    images = split_fusion_input(record["image"][None], N, 2).images
    wrong = 0
    for seed in range(60):
        parts = some(record, seed, absent=0, wrong=0.3, gamma=0.0)
        wrong += sum(not torch.equal(parts.images[0, k], images[0, n]) for k, n in enumerate(numbers(parts)))
    assert 0.2 < wrong / (60 * K) < 0.4


@ANY_SIZE
def test_gamma_changes_the_contrast_of_each_image_and_nothing_else(size: tuple[int, ...]) -> None:
    record = pool(size)
    whole = split_fusion_input(record["image"][None], N, 2)
    gammas = []
    for seed in range(15):
        plain, parts = some(record, seed, **PLAIN), some(record, seed, absent=0, wrong=0.0, gamma=0.4)
        assert parts.target.min() >= 0 and parts.target.max() <= 1
        gamma = parts.target.log() / whole.target.log()
        torch.testing.assert_close(gamma, gamma.mean().expand_as(gamma), atol=1e-3, rtol=0)
        gammas.append(gamma.mean().log().item())
        assert torch.equal(parts.valid, plain.valid)
        for image, label in zip(parts.images[0], parts.labels[0], strict=True):
            fits = [image.log() / one.log() for one in whole.images[0]]
            gamma, own = min((one.std().item(), k) for k, one in enumerate(fits))
            assert gamma < 1e-3 and torch.equal(label, whole.labels[0, own])
            gammas.append(fits[own].mean().log().item())
    assert -0.4 <= min(gammas) < -0.25 and 0.25 < max(gammas) <= 0.4 + 1e-3
    assert len({round(g, 4) for g in gammas}) > 0.9 * len(gammas)
