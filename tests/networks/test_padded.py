from __future__ import annotations

import pytest
import torch
from torch import nn

from mdl_monai.networks.padded import Padded, crop_padding, pad_to_multiple


@pytest.mark.parametrize("size", [(7, 10, 16), (8, 8, 8), (1, 9, 5), (13, 6)])
def test_padding_repeats_the_border_and_cropping_undoes_it(size: tuple[int, ...]) -> None:
    image = torch.randn(2, 3, *size)
    padded, padding = pad_to_multiple(image, 4)
    assert all(n % 4 == 0 and 0 <= n - m < 4 for n, m in zip(padded.shape[2:], size, strict=True))
    assert padded.min() == image.min() and padded.max() == image.max()
    torch.testing.assert_close(crop_padding(padded, padding), image)


def test_a_network_of_fixed_stride_takes_any_size() -> None:
    network = nn.Sequential(nn.AvgPool3d(4), nn.Upsample(scale_factor=4))
    image = torch.full((1, 2, 5, 9, 8), 3.0)
    torch.testing.assert_close(Padded(network, 4)(image), image)
