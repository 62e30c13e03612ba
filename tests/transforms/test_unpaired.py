from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Any

import pytest
import torch
from monai.data import DataLoader
from monai.transforms import Compose, Lambda, RandLambdad

from mdl_monai.errors import InputError
from mdl_monai.transforms.unpaired import UnpairedDataset

VIEWS = ("axial", "coronal", "sagittal")
Record = dict[str, Any]


def records(subjects: int = 4, views: tuple[str, ...] = VIEWS) -> list[Record]:
    return [
        {"mr": 10 * s + v, "ct": 1000 + 10 * s + v, "mask": 1, "subject": f"p{s}", "view": view}
        for s, (v, view) in product(range(subjects), enumerate(views))
    ]


class Loaded:
    """Stands for the loading of a file, which a record names by a number."""

    def __init__(self, key: str, name: str) -> None:
        self.key, self.name, self.calls = key, name, 0

    def __call__(self, record: Mapping[str, Any]) -> Record:
        self.calls += 1
        image = torch.full((1, 2, 3), float(record[self.key]))
        return {self.name: image, f"mask_{self.name}": image > 0, "mr": "a path", "other": 0}


def dataset(
    of: list[Record] | None = None, same_view: bool = True, noise: bool = False, **options: Any
) -> UnpairedDataset:
    of = records() if of is None else of
    chance = {
        key: [RandLambdad(key, lambda x: x + 0.25, prob=0.5)] if noise else [] for key in ("image", "label")
    }
    return UnpairedDataset(
        of,
        of,
        Compose([Lambda(Loaded("mr", "image")), *chance["image"]]),
        Compose([Lambda(Loaded("ct", "label")), *chance["label"]]),
        same_view,
        progress=False,
        **options,
    )


def drawn(data: UnpairedDataset, times: int = 1) -> list[tuple[float, float]]:
    """Numbers of the MR and of the CT of all items, in order."""
    return [
        (float(item["image"].mean()), float(item["label"].mean()))
        for _ in range(times)
        for item in (data[i] for i in range(len(data)))
    ]


@pytest.mark.parametrize("same_view", [True, False])
def test_all_partners_come_from_other_patients_and_the_view_if_wanted(same_view: bool) -> None:
    data = dataset(same_view=same_view)
    data.transform.set_random_state(seed=3)
    seen: dict[int, set[tuple[int, int]]] = {}
    for n, (mr, ct) in enumerate(drawn(data, times=120)):
        (subject, view), (other, other_view) = divmod(int(mr), 10), divmod(int(ct) - 1000, 10)
        assert int(mr) == records()[n % 12]["mr"] and other != subject
        assert view == other_view or not same_view
        seen.setdefault(int(mr), set()).add((other, other_view))
    assert {len(partners) for partners in seen.values()} == {3 if same_view else 9}


def test_items_hold_images_and_masks_alone() -> None:
    item = dataset()[5]
    assert set(item) == {"image", "mask_image", "label", "mask_label"}
    assert item["image"].shape == item["label"].shape == (1, 2, 3)


def test_equal_seeds_give_equal_items() -> None:
    """The partners and what the transforms draw."""
    one, two = dataset(noise=True), dataset(noise=True)
    found = []
    for data, seed in ((one, 1), (two, 1), (one, 1), (two, 2)):
        data.transform.set_random_state(seed=seed)
        found.append(drawn(data, times=2))
    assert found[0] == found[1] == found[2] != found[3]
    assert {mr % 1 for mr, _ in found[0]} == {ct % 1 for _, ct in found[0]} == {0, 0.25}
    assert [mr % 1 for mr, _ in found[0]] != [ct % 1 for _, ct in found[0]]


@pytest.mark.parametrize("workers", [0, 2])
def test_loaders_repeat_themselves_after_equal_seeds(workers: int) -> None:
    data = dataset(noise=True)
    found = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        data.transform.set_random_state(seed=seed)
        loader = DataLoader(data, batch_size=4, shuffle=True, num_workers=workers)
        found.append(
            torch.cat([torch.cat((x["image"], x["label"]), 1).as_subclass(torch.Tensor) for x in loader])
        )
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])


@pytest.mark.parametrize(("rate", "calls"), [(1.0, 12), (0.0, 24)])
def test_images_are_loaded_once_if_cached(rate: float, calls: int) -> None:
    load_a, load_b = Loaded("mr", "image"), Loaded("ct", "label")
    data = UnpairedDataset(records(), records(), Lambda(load_a), Lambda(load_b), cache_rate=rate)
    drawn(data, times=2)
    assert load_a.calls == load_b.calls == calls


def test_records_without_views_are_taken_together_and_both_lists_may_differ() -> None:
    mr = [{"mr": 1, "subject": "p1"}, {"mr": 2, "subject": "p2"}]
    ct = [{"ct": 1003, "subject": "p3"}, {"ct": 1001, "subject": "p1"}]
    data = UnpairedDataset(mr, ct, Loaded("mr", "image"), Loaded("ct", "label"), cache_rate=0.0)
    pairs = set(drawn(data, times=40))
    assert pairs == {(1, 1003), (2, 1003), (2, 1001)}


def test_a_single_subject_is_refused() -> None:
    with pytest.raises(
        InputError, match="(?s)no axial CT of another patient.*two subjects.*3 CT images of 1 subj"
    ):
        dataset(records(subjects=1))
    one_view = [*records(subjects=2, views=("axial",)), records()[-1]]
    with pytest.raises(InputError, match="no sagittal CT of another patient"):
        dataset(one_view)
    assert len(dataset(one_view, same_view=False)) == 3
