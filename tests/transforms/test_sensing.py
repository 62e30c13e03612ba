"""Simulated measurements: what the operator measures, of any size, the same for one size unless drawn at random."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from mdl_monai.io.nifti_writer import DERIVATION
from mdl_monai.physics.masked_transform import MaskedTransform
from mdl_monai.physics.orthonormal import BlockGaussian, CodedDiffraction, Fourier, OrthonormalTransform
from mdl_monai.physics.sampling import CoefficientSampling
from mdl_monai.transforms.sensing import PADDING, RandSimulateSensingd, SimulateSensingd


def simulate(transform: OrthonormalTransform, ratio: float = 0.3, **options: object) -> SimulateSensingd:
    return SimulateSensingd(
        "image", MaskedTransform(transform), CoefficientSampling(transform, ratio), **options  # type: ignore[arg-type]
    )  # fmt: skip


def test_the_border_is_adjoint_image_and_mask() -> None:
    transform, x = CodedDiffraction(), torch.rand(1, 20, 27)
    record = simulate(transform)({"image": x})
    operator, border = MaskedTransform(transform), record["image"]
    assert border.shape == (2, 20, 27) and torch.equal(record["label"], x)
    mask = border[1:][None]
    assert float(mask.mean()) == pytest.approx(0.3, abs=1e-2)
    adjoint = operator.A_adjoint(operator.A(x[None], mask), mask)
    torch.testing.assert_close(border[:1], adjoint[0])


def test_complex_images_have_two_channels_and_the_mask_behind() -> None:
    transform = Fourier("cartesian1d")
    simulated = SimulateSensingd(
        "image", MaskedTransform(transform, complex_image=True), CoefficientSampling(transform, 1.0)
    )
    x = torch.randn(2, 12, 15)
    border = simulated({"image": x})["image"]
    torch.testing.assert_close(border, torch.cat([x, torch.ones(1, 12, 15)]), atol=1e-5, rtol=1e-5)


def test_images_of_no_whole_blocks_are_padded_and_told() -> None:
    x = MetaTensor(torch.rand(1, 33, 50), meta={"case": "a"})
    record = simulate(BlockGaussian(), ratio=1.0)({"image": x})
    border = record["image"]
    assert border.shape == (2, 64, 64) and record["label"].shape == (1, 33, 50)
    left, right, top, bottom = border.meta[PADDING]
    assert border.meta["padded"] == (64, 64) and border.meta["case"] == "a"
    assert "BlockGaussian, ratio 1" in border.meta[DERIVATION]
    inside = border.as_tensor()[:1, top : 64 - bottom, left : 64 - right]
    torch.testing.assert_close(inside, x.as_tensor(), atol=1e-4, rtol=1e-4)


def test_a_volume_is_its_slices() -> None:
    volume, transform = torch.rand(1, 33, 40, 3), BlockGaussian()
    border = simulate(transform)({"image": volume})["image"]
    assert border.shape == (2, 64, 64, 3)
    for n in range(3):
        torch.testing.assert_close(border[..., n], simulate(transform)({"image": volume[..., n]})["image"])


def test_images_of_one_size_are_measured_alike_and_another_seed_otherwise() -> None:
    transform = CodedDiffraction()
    first, second = (simulate(transform)({"image": torch.rand(1, 16, 18)})["image"][1] for _ in range(2))
    other = simulate(transform, seed=1)({"image": torch.rand(1, 16, 18)})["image"][1]
    assert torch.equal(first, second) and not torch.equal(first, other)


def test_noise_has_its_level_in_the_measurements_and_repeats() -> None:
    transform, x = CodedDiffraction(), torch.rand(1, 64, 64)
    clean, noisy, again = (
        simulate(transform, 1.0, noise=level)({"image": x})["image"][0] for level in (0.0, 0.1, 0.1)
    )
    # the adjoint takes the real part of as much noise in real and imaginary part
    assert float((noisy - clean).std()) == pytest.approx(0.1, rel=0.05)
    assert torch.equal(noisy, again)


def test_noise_goes_only_where_something_was_measured_from() -> None:
    transform = CodedDiffraction()
    x = torch.zeros(1, 64, 64)
    noisy = simulate(transform, 0.25, noise=0.1)({"image": x})["image"]
    assert float(noisy[0].std()) == pytest.approx(0.1 * 0.25**0.5, rel=0.1)


def test_random_draws_differ_and_follow_the_state() -> None:
    transform = CodedDiffraction()
    drawn = RandSimulateSensingd(
        "image", MaskedTransform(transform), CoefficientSampling(transform, (0.1, 0.5))
    )
    x = {"image": torch.rand(1, 24, 24)}
    drawn.set_random_state(seed=4)
    masks = [drawn(x)["image"][1] for _ in range(5)]
    assert len({mask.numpy().tobytes() for mask in masks}) == 5
    drawn.set_random_state(seed=4)
    assert torch.equal(drawn(x)["image"][1], masks[0])


def test_nothing_else_of_the_record_changes() -> None:
    x = torch.rand(1, 16, 16)
    before = x.clone()
    record = simulate(CodedDiffraction())({"image": x, "age": 7, "other": np.arange(3)})
    assert record["age"] == 7 and torch.equal(x, before)
