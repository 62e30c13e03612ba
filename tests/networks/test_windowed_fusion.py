from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from fusion_cases import fused_voxel_by_voxel, voxels_of
from torch import Tensor

from mdl_monai.networks.windowed_fusion import log_weight, windowed_fusion

Terms = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]
CASES = [  # size, tile, radius
    ((7, 12), 4, 3),
    ((9, 5), 8, 1),
    ((3, 11), 2, 0),
    ((5, 8, 3), 4, 2),
    ((4, 6, 7), 3, 1),
]
ANY_CASE = pytest.mark.parametrize(("size", "tile", "radius"), CASES)
NAMES = ("query", "keys", "values", "bias", "null", "spread")


def terms(size: tuple[int, ...], n_atlases: int = 3, batch: int = 2, scale: float = 0.7) -> Terms:
    """Four features, two values, all of them different in scale; float64."""

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, *size, dtype=torch.float64)

    k = n_atlases
    return (
        scale * noise(batch, 4),
        scale * noise(batch, k, 4),
        noise(batch, k, 2),
        noise(batch, k),
        noise(batch),
        torch.tensor(0.4, dtype=torch.float64),
    )


def all_tiles(size: tuple[int, ...], tile: int, batch: int = 2) -> Tensor:
    return torch.ones(batch, *(math.ceil(n / tile) for n in size), dtype=torch.bool)


def gradients(out: Tensor, inputs: Terms) -> tuple[Tensor, ...]:
    weight = torch.linspace(-1, 2, out.numel(), dtype=out.dtype).view_as(out)
    return torch.autograd.grad((out * weight).sum(), inputs)


@ANY_CASE
def test_values_and_gradients_are_those_of_a_loop_over_voxels(
    size: tuple[int, ...], tile: int, radius: int
) -> None:
    x = tuple(one.requires_grad_() for one in terms(size))
    expected = fused_voxel_by_voxel(*x, radius)
    found = windowed_fusion(*x, all_tiles(size, tile), radius, tile)
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)
    pairs = zip(NAMES, gradients(found, x), gradients(expected, x), strict=True)
    for name, one, other in pairs:
        assert other.abs().max() > 1e-3 or (name == "spread" and radius == 0)
        torch.testing.assert_close(one, other, atol=1e-11, rtol=0, msg=lambda text, n=name: f"{n}: {text}")


@pytest.mark.parametrize("size", [(1, 3), (3, 1, 2)])
@pytest.mark.parametrize("chunk", [1, 2**20])
def test_gradients_are_those_of_small_differences(size: tuple[int, ...], chunk: int) -> None:
    x = tuple(one.requires_grad_() for one in terms(size, n_atlases=2, batch=1))
    tiles = all_tiles(size, 2, batch=1)
    assert torch.autograd.gradcheck(lambda *y: windowed_fusion(*y, tiles, 1, 2, chunk), x)


@ANY_CASE
@pytest.mark.parametrize("chunk", [1, 20_000])
def test_chunks_change_neither_values_nor_gradients(
    size: tuple[int, ...], tile: int, radius: int, chunk: int
) -> None:
    x, tiles = tuple(one.requires_grad_() for one in terms(size)), all_tiles(size, tile)
    whole, parts = (windowed_fusion(*x, tiles, radius, tile, n) for n in (2**40, chunk))
    torch.testing.assert_close(parts, whole, atol=1e-13, rtol=0)
    for one, other in zip(gradients(parts, x), gradients(whole, x), strict=True):
        torch.testing.assert_close(one, other, atol=1e-12, rtol=0)


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("size", [(21, 30), (9, 6, 7)])
def test_scores_in_memory_are_bounded_by_the_chunk_whatever_the_volume(
    monkeypatch: pytest.MonkeyPatch, size: tuple[int, ...], grad: bool
) -> None:
    counts: list[int] = []

    def counted(q: Tensor, k: Tensor, v: Tensor, **options: Tensor) -> Tensor:
        counts.append(q.shape[0] * q.shape[2] * (k.shape[2] - 1))
        return plain(q, k, v, **options)

    plain = F.scaled_dot_product_attention
    monkeypatch.setattr(F, "scaled_dot_product_attention", counted)
    chunk, tile, radius = 350_000, 4, 2
    for length in (size[0], 2 * size[0]):
        now = (length, *size[1:])
        counts.clear()
        x = tuple(one.requires_grad_(grad) for one in terms(now, n_atlases=5))
        out = windowed_fusion(*x, all_tiles(now, tile), radius, tile, chunk)
        if grad:
            out.sum().backward()
        assert 0.5 * chunk < max(counts) <= chunk
        scores = all_tiles(now, tile).sum() * (tile * (tile + 2 * radius)) ** len(size) * 5
        assert sum(counts) == scores * (1 + grad)


def test_a_backward_pass_through_chunks_keeps_none_of_their_keys() -> None:
    size = (16, 12, 8)
    x = tuple(one.requires_grad_() for one in terms(size, n_atlases=4))
    total: list[int] = []
    for chunk in (700_000, 2**40):
        kept: dict[int, Tensor] = {}

        def keep(one: Tensor, kept: dict[int, Tensor] = kept) -> Tensor:
            kept[one.data_ptr()] = one
            return one

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda one: one):
            windowed_fusion(*x, all_tiles(size, 4), 2, 4, chunk)
        total.append(sum(one.numel() for one in kept.values()))
    in_the_volume, in_all_tiles = (n * 4 * (4 + 2) for n in (2 * 20 * 16 * 12, 2 * 24 * 8**3))
    assert total[0] < 3 * in_the_volume < in_all_tiles < total[1] / 3


@ANY_CASE
def test_tiles_that_are_not_wanted_are_0_and_change_no_other(
    size: tuple[int, ...], tile: int, radius: int
) -> None:
    x, tiles = terms(size), all_tiles(size, tile)
    whole = windowed_fusion(*x, tiles, radius, tile)
    wanted = torch.rand(tiles.shape) < 0.5
    found = windowed_fusion(*x, wanted, radius, tile)
    inside = voxels_of(wanted, tile, size)[:, None]
    torch.testing.assert_close(found, torch.where(inside, whole, 0.0), atol=1e-13, rtol=0)
    assert 0 < inside.sum() < inside.numel()


@pytest.mark.parametrize("chunk", [1, 2**20])
def test_no_tile_wanted_is_0_with_a_gradient_of_0(chunk: int) -> None:
    x = tuple(one.requires_grad_() for one in terms((6, 5, 4)))
    out = windowed_fusion(*x, ~all_tiles((6, 5, 4), 4), 2, 4, chunk)
    assert torch.equal(out, torch.zeros(2, 3, 6, 5, 4, dtype=torch.float64))
    assert all(not g.any() for g in gradients(out, x))


@ANY_CASE
def test_weights_sum_to_1_with_the_key_without_place(size: tuple[int, ...], tile: int, radius: int) -> None:
    query, keys, values, *rest = terms(size)
    out = windowed_fusion(query, keys, torch.ones_like(values), *rest, all_tiles(size, tile), radius, tile)
    assert (out >= 0).all() and 0.01 < out[:, -1].mean() < 0.99
    for n in range(2):
        torch.testing.assert_close(out[:, n] + out[:, -1], torch.ones(2, *size, dtype=torch.float64))


@ANY_CASE
def test_keys_of_weight_0_do_not_matter_whatever_their_features(
    size: tuple[int, ...], tile: int, radius: int
) -> None:
    query, keys, values, bias, null, spread = (one.float() for one in terms(size, n_atlases=4))
    weight = torch.rand_like(bias)
    weight[:, 2] = 0
    weight[:, 0][torch.rand(2, *size) < 0.5] = 0
    bias, tiles = log_weight(weight), all_tiles(size, tile)
    off = (weight == 0)[:, :, None]
    garbage = torch.where(off, 1e3 * torch.randn_like(keys), keys).requires_grad_()
    garbage_values = torch.where(off, 1e3, values).requires_grad_()
    found = windowed_fusion(query, garbage, garbage_values, bias, null, spread, tiles, radius, tile)
    kept = [0, 1, 3]
    bare = torch.where(off, 0.0, keys)[:, kept]
    expected = windowed_fusion(query, bare, values[:, kept], bias[:, kept], null, spread, tiles, radius, tile)
    torch.testing.assert_close(found, expected, atol=2e-6, rtol=0)
    found.square().sum().backward()
    for one in (garbage, garbage_values):
        assert not one.grad[off.expand_as(one)].any() and one.grad.any()


def test_logarithm_of_a_weight_is_finite() -> None:
    weight = torch.tensor([0.0, 1e-9, 0.25, 1.0])
    found = log_weight(weight)
    torch.testing.assert_close(found, torch.tensor([-1e9, math.log(1e-6), math.log(0.25), 0.0]))


@ANY_CASE
def test_place_in_the_volume_does_not_matter(size: tuple[int, ...], tile: int, radius: int) -> None:
    """Of a larger volume and a part of it, what lies a window away from the part's border is equal."""
    wide = tuple(n + 5 + 2 * radius for n in size)
    *x, spread = terms(wide)
    whole = windowed_fusion(*x, spread, all_tiles(wide, tile), radius, tile)
    for start in (1, 2, 5):
        part = tuple(slice(start, start + n + 2 * radius) for n in size)
        cut = tuple(n + 2 * radius for n in size)
        found = windowed_fusion(*(one[..., *part] for one in x), spread, all_tiles(cut, tile), radius, tile)
        middle = tuple(slice(radius, radius + n) for n in size)
        there = tuple(slice(start + radius, start + radius + n) for n in size)
        torch.testing.assert_close(found[..., *middle], whole[..., *there], atol=1e-12, rtol=0)


@ANY_CASE
@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("offset", [0.0, 60.0])
def test_half_precision_features_lose_their_own_rounding_alone(
    size: tuple[int, ...], tile: int, radius: int, kind: torch.dtype, offset: float
) -> None:
    """An offset common to all features, as a last bias makes it: uncentred, |b|^2 = 4 x 60^2 is off by 1e-3."""
    x = [one.to(kind) for one in terms(size)]
    x[0], x[1] = x[0] + offset, x[1] + offset
    x[5] = torch.tensor(0.4, dtype=kind)
    found = windowed_fusion(*x, all_tiles(size, tile), radius, tile)
    assert found.dtype == torch.float32
    exact = fused_voxel_by_voxel(*(one.double() for one in x), radius)
    torch.testing.assert_close(found.double(), exact, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("chunk", [1, 2**20])
def test_autocast_changes_no_bit(kind: torch.dtype, chunk: int) -> None:
    x = tuple(one.float().requires_grad_() for one in terms((9, 6, 5)))
    x[3].detach()[:, 1] = log_weight(torch.zeros(()))
    tiles = all_tiles((9, 6, 5), 4)
    out = windowed_fusion(*x, tiles, 2, 4, chunk)
    with torch.autocast("cpu", dtype=kind):
        found = windowed_fusion(*x, tiles, 2, 4, chunk)
    assert torch.equal(found, out)
    for one, other in zip(gradients(found, x), gradients(out, x), strict=True):
        assert torch.equal(one, other)


@ANY_CASE
def test_scripted_function_agrees(size: tuple[int, ...], tile: int, radius: int) -> None:
    x, tiles = terms(size), all_tiles(size, tile)
    scripted = torch.jit.script(windowed_fusion)
    for chunk in (1, 2**25):
        expected = windowed_fusion(*x, tiles, radius, tile, chunk)
        assert torch.equal(scripted(*x, tiles, radius, tile, chunk), expected)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@ANY_CASE
def test_cuda_agrees_with_the_cpu(size: tuple[int, ...], tile: int, radius: int) -> None:
    x, tiles = tuple(one.float() for one in terms(size)), all_tiles(size, tile)
    expected = windowed_fusion(*x, tiles, radius, tile)
    for kind in (torch.float16, torch.bfloat16):
        with torch.autocast("cuda", dtype=kind):
            found = windowed_fusion(*(one.cuda() for one in x), tiles.cuda(), radius, tile)
        torch.testing.assert_close(found.cpu(), expected, atol=1e-4, rtol=0)
