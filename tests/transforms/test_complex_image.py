"""Phase for images that have lost it, and care for those that have not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.transforms import RandHistogramShiftd

from mdl_monai.transforms.complex_image import ForMagnitudes, RandPhased, SimulatePhased, smooth_phase


@pytest.mark.parametrize("shape", [(1, 30, 41), (1, 24, 17, 3)])
def test_a_magnitude_gets_a_phase_and_keeps_its_values(shape: tuple[int, ...]) -> None:
    image = torch.rand(shape)
    done = SimulatePhased("image", noise=0.0)({"image": image})["image"]
    assert done.shape == (2, *shape[1:])
    torch.testing.assert_close(done.square().sum(0, keepdim=True).sqrt(), image)
    torch.testing.assert_close(done, SimulatePhased("image", noise=0.0)({"image": image})["image"])
    assert not torch.equal(done, SimulatePhased("image", noise=0.0, seed=1)({"image": image})["image"])


def test_the_phase_is_smooth_and_of_many_kinds() -> None:
    fields = [smooth_phase(64, 48, 0.5, np.random.default_rng(n)) for n in range(5)]
    for field in fields:
        step = torch.polar(torch.ones(63, 48), field.diff(dim=0)).angle().abs()
        assert step.max() < 0.7
    assert len({round(float(field[0, 0]), 4) for field in fields}) == 5


def test_noise_has_the_strength_that_was_asked_for() -> None:
    values = torch.cat(
        [
            SimulatePhased("image", noise=0.05, seed=n)({"image": torch.zeros(1, 50, 50)})["image"].std()[
                None
            ]
            for n in range(40)
        ]
    )
    assert values.max() < 0.052 and 0.015 < values.mean() < 0.035  # uniform up to 0.05


def test_a_complex_image_keeps_its_own_phase() -> None:
    image = torch.randn(2, 20, 22)
    assert torch.equal(RandPhased("image")({"image": image})["image"], image)


def test_transforms_for_magnitudes_leave_complex_images_alone() -> None:
    transform = ForMagnitudes("image", [RandHistogramShiftd("image", prob=1.0)]).set_random_state(0)
    magnitude, image = torch.rand(1, 20, 22), torch.randn(2, 20, 22)
    assert torch.equal(transform({"image": image})["image"], image)
    assert not torch.equal(transform({"image": magnitude})["image"], magnitude)
    first = transform.set_random_state(3)({"image": magnitude})["image"]
    assert torch.equal(transform.set_random_state(3)({"image": magnitude})["image"], first)
