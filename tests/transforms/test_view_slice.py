from __future__ import annotations

import pytest
import torch

from mdl_monai.transforms.view_slice import RandViewSliced

VIEWS = {"sagittal": 0, "coronal": 1, "axial": 2}


def volumes() -> dict[str, torch.Tensor]:
    """Each voxel knows its place."""
    places = torch.stack(torch.meshgrid(torch.arange(5), torch.arange(6), torch.arange(7), indexing="ij"))
    mask = torch.zeros(1, 5, 6, 7)
    mask[:, 1:3, 2:4, 3:6] = 1
    return {"image": places[:1].float(), "label": torch.cat((places.float(), mask))}


@pytest.mark.parametrize("view", VIEWS)
def test_image_and_label_are_one_slice_of_the_view_that_the_mask_reaches(view: str) -> None:
    draw = RandViewSliced(["image", "label"], [view])
    draw.set_random_state(seed=0)
    axis, found = VIEWS[view], set()
    for _ in range(40):
        out = draw(volumes())
        place = out["label"][axis].unique()
        assert len(place) == 1
        found.add(int(place))
        assert torch.equal(out["image"][0], out["label"][0])
        assert out["label"].shape[1:] == tuple(n for k, n in enumerate((5, 6, 7)) if k != axis)
    assert found == set([range(1, 3), range(2, 4), range(3, 6)][axis])


def test_all_views_are_drawn_and_the_seed_decides() -> None:
    def shapes(seed: int) -> list[tuple[int, ...]]:
        draw = RandViewSliced(["image", "label"])
        draw.set_random_state(seed=seed)
        return [tuple(draw(volumes())["image"].shape) for _ in range(30)]

    assert set(shapes(0)) == {(1, 6, 7), (1, 5, 7), (1, 5, 6)}
    assert shapes(0) == shapes(0) != shapes(1)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_single_slice_is_its_own_view(axis: int) -> None:
    flat = {key: volume.narrow(1 + axis, 3, 1) for key, volume in volumes().items()}
    out = RandViewSliced(["image", "label"], ["axial"])(flat)
    assert torch.equal(out["label"], flat["label"].squeeze(1 + axis))
