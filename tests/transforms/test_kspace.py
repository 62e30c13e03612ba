from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from mdl_monai.errors import InputError
from mdl_monai.physics.fourier import fft2c, ifft2c
from mdl_monai.transforms.kspace import RandSimulateKSpaced, SimulateKSpaced, undersample


def test_border_holds_what_the_operator_measures() -> None:
    image, mask = torch.rand(1, 9, 6), torch.rand(9, 6) < 0.5
    border = undersample(image, mask.float())
    torch.testing.assert_close(torch.complex(border[0], border[1]), mask * fft2c(image[0]))
    torch.testing.assert_close(border[2], mask.float())


def test_a_volume_is_its_slices() -> None:
    volume, mask = torch.rand(1, 9, 6, 4), (torch.rand(9, 6) < 0.5).float()
    border = undersample(volume, mask)
    assert border.shape == (3, 9, 6, 4)
    for n in range(4):
        torch.testing.assert_close(border[..., n], undersample(volume[..., n], mask))


def test_image_becomes_the_label_and_metadata_stays() -> None:
    image = MetaTensor(torch.rand(1, 16, 16), meta={"case": "a"})
    record = SimulateKSpaced("image", sampling_ratio=1.0, mask_type="random2d")({"image": image})
    assert record["image"].meta["case"] == "a"
    torch.testing.assert_close(record["label"], image)
    whole = torch.complex(record["image"][0], record["image"][1]).as_subclass(torch.Tensor)
    torch.testing.assert_close(ifft2c(whole).real, image[0].as_tensor())


def test_every_image_of_a_size_gets_the_same_mask_and_another_seed_another_one() -> None:
    transform = SimulateKSpaced("image", mask_type="random2d", seed=1)
    first, second = (transform({"image": torch.rand(1, 20, 24)})["image"][2] for _ in range(2))
    other = SimulateKSpaced("image", mask_type="random2d", seed=2)({"image": torch.rand(1, 20, 24)})["image"][
        2
    ]
    torch.testing.assert_close(first, second)
    assert (first != other).any()


def test_the_users_mask_is_taken_and_must_fit(tmp_path: Path) -> None:
    mask = np.random.default_rng(0).random((8, 6)) < 0.5
    mask[4, 3] = True
    np.savez(tmp_path / "m.npz", a=mask)
    transform = SimulateKSpaced("image", mask_file=str(tmp_path / "m.npz"), mask_key="a")
    assert (transform({"image": torch.rand(1, 8, 6)})["image"][2].numpy() == mask).all()
    with pytest.raises(InputError, match=r"(?s)another size.*6 x 8.*8 x 6.*--mask_file"):
        transform({"image": torch.rand(1, 6, 8)})


def test_bad_options_are_refused() -> None:
    with pytest.raises(InputError, match="(?s)unknown mask type 'spiral'.*poisson.*--mask_type"):
        SimulateKSpaced("image", mask_type="spiral")
    with pytest.raises(InputError, match="(?s)sampling ratio.*found: 20"):
        SimulateKSpaced("image", sampling_ratio=20)
    with pytest.raises(InputError, match="(?s)sampling ratio.*found: abc"):
        SimulateKSpaced("image", sampling_ratio="abc")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="(?s)sampling ratio.*found: 20"):
        RandSimulateKSpaced("image", sampling_ratio=(0.1, 20))
    with pytest.raises(InputError, match="(?s)too thin.*1 x 30"):
        SimulateKSpaced("image")({"image": torch.rand(1, 1, 30, 20)})
    with pytest.raises(InputError, match="unknown mask type"):
        RandSimulateKSpaced("image", mask_types={"spiral": 1.0})


def test_training_masks_vary_with_the_state_and_keep_their_range() -> None:
    transform = RandSimulateKSpaced(
        "image", mask_types={"random2d": 1, "cartesian1d": 1}, sampling_ratio=(0.2, 0.4)
    )
    transform.set_random_state(seed=3)
    masks = [transform({"image": torch.rand(1, 32, 32)})["image"][2] for _ in range(6)]
    assert all(0.18 <= m.mean() <= 0.42 for m in masks)
    assert len({m.numpy().tobytes() for m in masks}) == 6
    transform.set_random_state(seed=3)
    torch.testing.assert_close(transform({"image": torch.rand(1, 32, 32)})["image"][2], masks[0])
