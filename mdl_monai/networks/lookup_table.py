"""A classical synthesis: the median CT value of each MR intensity, learned by counting."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn


class LookupTable(nn.Module):
    """Median of the second image given the intensity of the first, within a mask; filled when first called.

    Args:
        cases: records with ``image`` [1, *spatial] from -1 to 1 and ``label`` [2, *spatial], reference and mask.
        bins: intervals of the intensity; with 1, a constant.
    """

    def __init__(self, cases: Iterable[Mapping[str, Any]], bins: int = 128) -> None:
        super().__init__()
        self.cases, self.bins = cases, bins
        self.register_buffer("values", torch.full((bins,), torch.nan))

    def forward(self, image: Tensor) -> Tensor:
        """[B, 1, *spatial] to the same, in the reference's unit."""
        values: Any = self.values
        if values.isnan().any():
            values.copy_(self._filled().to(values))
        return values[self._bin(image)]

    def _bin(self, image: Tensor) -> Tensor:
        return ((image + 1) * (self.bins / 2)).long().clamp(0, self.bins - 1)

    def _filled(self) -> Tensor:
        image, label = [], []
        for case in self.cases:
            both = torch.as_tensor(case["label"]).as_subclass(Tensor)
            inside = both[1] > 0
            image.append(torch.as_tensor(case["image"]).as_subclass(Tensor)[0][inside])
            label.append(both[0][inside])
        bins, target = self._bin(torch.cat(image)), torch.cat(label)
        order = torch.argsort(target)
        order = order[torch.argsort(bins[order], stable=True)]  # by bin, then by value
        count = torch.bincount(bins, minlength=self.bins)
        middle = count.cumsum(0) - count + count // 2
        table = target[order][middle.clamp_max(len(target) - 1)]
        return torch.where(count > 0, table, target.median())
