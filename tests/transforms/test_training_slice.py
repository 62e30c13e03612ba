from __future__ import annotations

import pytest
import torch

from mdl_monai.errors import InputError
from mdl_monai.transforms.training_slice import RandTrainingSliced, taper


def test_taper_is_symmetric_flat_inside_and_low_at_the_ends() -> None:
    window = taper(41, 8)
    torch.testing.assert_close(window, window.flip(0))
    assert (window[8:-8] == 1).all() and window[0] < 0.02 and (window > 0).all()
    assert (taper(10, 0) == 1).all()


def test_crop_is_a_piece_of_the_image_in_some_orientation() -> None:
    image = torch.arange(40 * 30, dtype=torch.float32).reshape(1, 40, 30)
    transform = RandTrainingSliced("image", size=16, margin=4, brightness=(1.0, 1.0))
    transform.set_random_state(seed=0)
    for _ in range(10):
        crop = transform({"image": image})["image"]
        assert crop.shape == (1, 16, 16) and crop.is_contiguous()
        inner = crop[0, 4:-4, 4:-4]
        steps = {abs(float(inner[1, 0] - inner[0, 0])), abs(float(inner[0, 1] - inner[0, 0]))}
        assert steps == {1.0, 30.0}


def test_without_a_crop_the_slice_stays_whole() -> None:
    image = torch.rand(1, 12, 9)
    whole = RandTrainingSliced("image", size=0, brightness=(0.5, 0.5))({"image": image})["image"]
    assert whole.shape == image.shape
    torch.testing.assert_close(whole.flatten().sort()[0], image.flatten().sort()[0] * 0.5)


def test_volumes_give_a_slice_that_holds_something() -> None:
    volume = torch.zeros(1, 8, 8, 5)
    volume[..., 3] = torch.rand(1, 8, 8)
    transform = RandTrainingSliced("image", size=0)
    assert all(transform({"image": volume})["image"].shape == (1, 8, 8) for _ in range(3))
    assert all(transform({"image": volume})["image"].max() > 0 for _ in range(5))


def test_an_image_below_the_crop_is_refused() -> None:
    with pytest.raises(InputError, match="(?s)smaller than the crop.*16 x 16.*12 x 20.*--crop_size"):
        RandTrainingSliced("image", size=16)({"image": torch.rand(1, 12, 20)})
