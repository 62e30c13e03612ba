from __future__ import annotations

import torch
from monai.data import MetaTensor

from mdl_monai.transforms.hounsfield import FromHounsfieldd, ToHounsfieldd

RANGE = (-1024.0, 3000.0)


def test_there_and_back_gives_whole_hu() -> None:
    hu = torch.randint(-1024, 3001, (1, 5, 7), generator=torch.Generator().manual_seed(0)).float()
    unit = FromHounsfieldd("ct", RANGE)({"ct": MetaTensor(hu)})
    assert unit["ct"].min() >= -1 and unit["ct"].max() <= 1
    assert torch.equal(ToHounsfieldd("ct", RANGE)(unit)["ct"].as_tensor(), hu)


def test_ends_and_middle_of_the_range() -> None:
    unit = MetaTensor(torch.tensor([[-1.0, 0.0, 1.0]]))
    assert ToHounsfieldd("x", RANGE)({"x": unit})["x"].tolist() == [[-1024, 988, 3000]]


def test_what_lies_beyond_is_clipped() -> None:
    image = ToHounsfieldd("x", RANGE)({"x": MetaTensor(torch.tensor([[-1.5, 0.0, 0.5, 1.01]]))})["x"]
    assert image.min() == -1024 and image.max() == 3000


def test_further_channels_stay_and_the_input_is_not_changed() -> None:
    both = torch.stack((torch.full((3, 4), -5000.0), torch.ones(3, 4)))
    found = FromHounsfieldd("label", RANGE)({"label": both})["label"]
    assert (found[0] == -1).all() and (found[1] == 1).all() and (both[0] == -5000).all()
