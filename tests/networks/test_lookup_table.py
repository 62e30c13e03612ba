from __future__ import annotations

import numpy as np
import torch

from mdl_monai.networks.lookup_table import LookupTable


def cases(n: int = 3) -> list[dict[str, torch.Tensor]]:
    draw = torch.Generator().manual_seed(0)
    made = []
    for _ in range(n):
        image = 2 * torch.rand(1, 5, 7, 3, generator=draw) - 1
        ct = image**3 + 0.1 * torch.randn(1, 5, 7, 3, generator=draw)
        mask = (torch.rand(1, 5, 7, 3, generator=draw) > 0.3).float()
        made.append({"image": image, "label": torch.cat((torch.where(mask > 0, ct, 99.0), mask))})
    return made


def test_each_interval_gives_the_median_of_what_the_mask_shows() -> None:
    bins, table = 6, LookupTable(cases(), bins=6)
    image = torch.cat([case["image"][0][case["label"][1] > 0] for case in cases()])
    ct = torch.cat([case["label"][0][case["label"][1] > 0] for case in cases()])
    x = torch.linspace(-1, 1, 13)[1::2].view(1, 1, bins, 1)  # middles of the intervals
    found = table(x).flatten()
    for k in range(bins):
        inside = (image >= -1 + k * 2 / bins) & (image < -1 + (k + 1) * 2 / bins)
        values = np.sort(ct[inside].numpy())
        assert found[k] == values[len(values) // 2]


def test_one_interval_is_the_constant_that_no_other_beats() -> None:
    constant = LookupTable(cases(), bins=1)(torch.zeros(1, 1, 2, 2)).unique()
    ct = torch.cat([case["label"][0][case["label"][1] > 0] for case in cases()])
    best = (ct - constant).abs().mean()
    assert all(best <= (ct - other).abs().mean() + 1e-6 for other in torch.linspace(-1, 1, 41))


def test_an_interval_that_no_case_has_gives_the_median_of_all() -> None:
    narrow = [{**case, "image": case["image"].abs() * 0.5} for case in cases()]
    table = LookupTable(narrow, bins=4)
    assert table(torch.full((1, 1, 1, 1), -0.9)) == LookupTable(narrow, bins=1)(torch.zeros(1, 1, 1, 1))


def test_it_is_filled_once() -> None:
    class Counting(list):  # type: ignore[type-arg]
        read = 0

        def __iter__(self):  # type: ignore[no-untyped-def]
            Counting.read += 1
            return super().__iter__()

    table = LookupTable(Counting(cases()))
    first, second = table(torch.zeros(1, 1, 2, 3)), table(torch.zeros(1, 1, 2, 3))
    assert torch.equal(first, second) and Counting.read == 1
