from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor
from torch import Tensor

from mdl_monai.errors import InputError
from mdl_monai.inferers.slicewise import SlicewiseInferer


def first_two_channels(x: Tensor) -> Tensor:
    assert type(x) is Tensor
    return x[:, :1] * 2 + x[:, 1:2]


@pytest.mark.parametrize("slices_per_batch", [1, 2, 7])
def test_a_volume_gives_what_its_slices_give(slices_per_batch: int) -> None:
    volume = MetaTensor(torch.rand(2, 3, 6, 5, 4))
    pred = SlicewiseInferer(slices_per_batch=slices_per_batch)(volume, first_two_channels)
    assert pred.shape == (2, 1, 6, 5, 4)
    for n in range(4):
        expected = first_two_channels(volume[..., n].as_tensor())
        torch.testing.assert_close(pred[..., n], expected)


def test_a_slice_goes_straight_through() -> None:
    image = torch.rand(2, 3, 6, 5)
    torch.testing.assert_close(SlicewiseInferer()(image, first_two_channels), first_two_channels(image))


def test_mixed_precision_is_bfloat16_inside_and_float32_outside() -> None:
    conv = torch.nn.Conv2d(3, 1, 1)
    seen = []
    conv.register_forward_hook(lambda module, args, out: seen.append(out.dtype))
    assert SlicewiseInferer(amp=True)(torch.rand(1, 3, 4, 4), conv).dtype == torch.float32
    assert seen == [torch.bfloat16]


def test_no_slices_at_once_is_refused() -> None:
    with pytest.raises(InputError, match="slices_per_batch must be positive"):
        SlicewiseInferer(slices_per_batch=0)
