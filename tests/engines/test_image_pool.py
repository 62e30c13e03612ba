from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mdl_monai.engines.image_pool import ImagePool
from mdl_monai.errors import InputError


def numbered(first: int, count: int) -> torch.Tensor:
    """Images [count, 1, 2, 3] that hold their own number."""
    return torch.arange(first, first + count).float().view(-1, 1, 1, 1).expand(-1, 1, 2, 3).clone()


def numbers(images: torch.Tensor) -> list[int]:
    assert (images == images[:, :1, :1, :1]).all()
    return images[:, 0, 0, 0].int().tolist()


def test_images_pass_until_the_pool_is_full() -> None:
    pool = ImagePool(5)
    assert numbers(pool(numbered(0, 3))) == [0, 1, 2]
    assert numbers(pool(numbered(3, 2))) == [3, 4]
    assert len(pool.images) == 5


def test_then_half_of_them_are_older_ones_and_none_comes_twice() -> None:
    pool = ImagePool(20)
    seen = [n for first in range(0, 2000, 4) for n in numbers(pool(numbered(first, 4)))]
    older = [n for place, n in enumerate(seen) if n != place]
    assert 0.42 < len(older) / len(seen) < 0.58
    assert all(n < place for place, n in enumerate(seen) if n != place)
    again = older + [n for place, n in enumerate(seen) if n == place and place >= 20]
    assert len(set(again)) == len(again)
    assert len(pool.images) == 20


def test_a_pool_of_none_passes_all() -> None:
    pool = ImagePool(0)
    assert numbers(pool(numbered(0, 50))) == list(range(50))


def test_what_it_keeps_has_no_gradient_and_is_its_own() -> None:
    images = numbered(1, 1).requires_grad_()
    pool = ImagePool(1)
    out = pool(images)
    assert not out.requires_grad
    out.zero_()
    images.detach().zero_()
    assert numbers(torch.stack(pool.images)) == [1]


def test_a_loaded_pool_goes_on_as_the_saved_one(tmp_path: Path) -> None:
    first, other = ImagePool(6, seed=1), ImagePool(6, seed=2)
    for n in range(9):
        first(numbered(3 * n, 3))
    torch.save(first.state_dict(), tmp_path / "pool.pt")
    expected = [numbers(first(numbered(3 * n, 3))) for n in range(9, 30)]
    other.load_state_dict(torch.load(tmp_path / "pool.pt", weights_only=True))
    assert [numbers(other(numbered(3 * n, 3))) for n in range(9, 30)] == expected


def test_pools_of_other_seeds_draw_otherwise() -> None:
    def drawn(seed: int) -> list[int]:
        pool = ImagePool(4, seed)
        return [n for k in range(20) for n in numbers(pool(numbered(2 * k, 2)))]

    assert drawn(1) == drawn(1) != drawn(2)


def test_a_larger_pools_state_and_a_negative_size_are_refused() -> None:
    large = ImagePool(4)
    large(numbered(0, 4))
    with pytest.raises(ValueError, match="holds 4 images, and the pool 3"):
        ImagePool(3).load_state_dict(large.state_dict())
    with pytest.raises(InputError, match="negative size"):
        ImagePool(-1)
