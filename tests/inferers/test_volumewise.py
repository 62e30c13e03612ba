from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor
from torch import nn

from mdl_monai.errors import InputError
from mdl_monai.inferers.volumewise import VolumewiseInferer


class Counting(nn.Module):
    """A pointwise network that remembers the sizes it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[tuple[int, ...]] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.sizes.append(tuple(x.shape[2:]))
        return torch.cat([x, -2 * x], 1)


def test_a_volume_goes_through_in_one_pass_where_it_may() -> None:
    network, volume = Counting(), MetaTensor(torch.randn(1, 1, 9, 14, 5))
    out = VolumewiseInferer((4, 4, 4), max_voxels=630)(volume, network)
    assert network.sizes == [(9, 14, 5)]
    torch.testing.assert_close(out, torch.cat([volume, -2 * volume], 1).as_tensor())


def test_a_large_volume_goes_through_in_windows_with_the_same_result() -> None:
    network, volume = Counting(), torch.randn(1, 1, 9, 14, 5)
    out = VolumewiseInferer((4, 6, 5), max_voxels=629)(volume, network)
    assert set(network.sizes) == {(4, 6, 5)}
    torch.testing.assert_close(out, torch.cat([volume, -2 * volume], 1))


def test_mixed_precision_gives_float32() -> None:
    network = nn.Conv3d(1, 2, 3, padding=1)
    volume = torch.randn(1, 1, 5, 6, 7)
    out = VolumewiseInferer((4, 4, 4), amp=True)(volume, network)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, network(volume), atol=0.05, rtol=0.05)
    assert not torch.equal(out, network(volume))


@pytest.mark.parametrize("max_voxels", [1000, 100])
def test_a_volume_and_its_mirror_image_have_mirrored_results(max_voxels: int) -> None:
    torch.manual_seed(0)
    network, volume = nn.Conv3d(1, 2, 3, padding=1), torch.randn(1, 1, 8, 6, 5)
    infer = VolumewiseInferer((4, 6, 5), max_voxels, mirror=True)
    out = infer(volume, network)
    torch.testing.assert_close(infer(volume.flip(2), network), out.flip(2))
    if max_voxels == 1000:
        torch.testing.assert_close(out, (network(volume) + network(volume.flip(2)).flip(2)) / 2)


def test_an_empty_window_is_refused() -> None:
    with pytest.raises(InputError, match="no voxels"):
        VolumewiseInferer((4, 0, 4))
