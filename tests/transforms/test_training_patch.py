from __future__ import annotations

import pytest
import torch

from mdl_monai.errors import InputError
from mdl_monai.transforms.training_patch import RandSliced, RandTrainingPatchd, taper


def test_taper_is_symmetric_flat_inside_and_low_at_the_ends() -> None:
    window = taper(41, 8)
    torch.testing.assert_close(window, window.flip(0))
    assert (window[8:-8] == 1).all() and window[0] < 0.02 and (window > 0).all()
    assert (taper(10, 0) == 1).all()


def test_patch_is_a_piece_of_the_image_in_some_orientation() -> None:
    image = torch.arange(40 * 30, dtype=torch.float32).reshape(1, 40, 30)
    transform = RandTrainingPatchd("image", size=16, margin=4)
    transform.set_random_state(seed=0)
    for _ in range(10):
        patch = transform({"image": image})["image"]
        assert patch.shape == (1, 16, 16) and patch.is_contiguous()
        inner = patch[0, 4:-4, 4:-4]
        steps = {abs(float(inner[1, 0] - inner[0, 0])), abs(float(inner[0, 1] - inner[0, 0]))}
        assert steps == {1.0, 30.0}


def test_without_a_size_the_slice_stays_whole() -> None:
    image = torch.rand(1, 12, 9)
    whole = RandTrainingPatchd("image", size=0)({"image": image})["image"]
    assert whole.shape == image.shape
    torch.testing.assert_close(whole.flatten().sort()[0], image.flatten().sort()[0])


def test_volumes_give_a_slice_that_holds_something() -> None:
    volume = torch.zeros(1, 8, 8, 5)
    volume[..., 1], volume[..., 3] = 1.0, 2.0
    transform = RandSliced("image")
    transform.set_random_state(seed=0)
    drawn = {float(transform({"image": volume})["image"].max()) for _ in range(20)}
    assert drawn == {1.0, 2.0}
    assert RandSliced("image")({"image": volume[..., 0]})["image"].shape == (1, 8, 8)


def test_an_image_below_the_patch_is_refused() -> None:
    with pytest.raises(InputError, match="(?s)smaller than the patch.*16 x 16.*12 x 20.*--crop_size"):
        RandTrainingPatchd("image", size=16)({"image": torch.rand(1, 12, 20)})
