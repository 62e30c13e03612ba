from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from mdl_monai.errors import InputError
from mdl_monai.metrics.reconstruction import reconstruction_metrics


def pair(*shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    label = torch.rand(1, *shape)
    return label + 0.05 * torch.randn(1, *shape), label


def test_figures_equal_the_definitions() -> None:
    pred, label = pair(20, 17)
    metrics = reconstruction_metrics(pred, label)
    x, g = (
        np.abs(pred.numpy().astype(float)) / label.max().item(),
        label.numpy().astype(float) / label.max().item(),
    )
    assert metrics["psnr"] == pytest.approx(10 * math.log10(1 / ((x - g) ** 2).mean()), rel=1e-6)
    signed = pred.numpy().astype(float) / label.max().item()
    assert metrics["nmse"] == pytest.approx(np.linalg.norm(signed - g) / np.linalg.norm(g), rel=1e-6)


def test_ssim_equals_scikit_images_gaussian_one() -> None:
    structural_similarity = pytest.importorskip("skimage.metrics").structural_similarity
    pred, label = pair(40, 31)
    pred, label = pred.clamp(0, 1), label / label.max()
    _, full = structural_similarity(
        pred[0].numpy(),
        label[0].numpy(),
        data_range=1.0,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        full=True,
    )
    assert reconstruction_metrics(pred, label)["ssim"] == pytest.approx(full[5:-5, 5:-5].mean(), abs=2e-3)


def test_the_scale_of_the_case_does_not_matter() -> None:
    pred, label = pair(20, 17)
    assert reconstruction_metrics(pred * 400, label * 400) == pytest.approx(
        reconstruction_metrics(pred, label), rel=1e-5
    )


def test_a_volume_has_the_mean_of_its_slices_and_skips_empty_ones() -> None:
    pred, label = pair(16, 15, 3)
    pred[..., 1] = label[..., 1] = 0
    slices = [reconstruction_metrics(pred[..., n], label[..., n]) for n in (0, 2)]
    volume = reconstruction_metrics(pred, label)
    for key, figure in volume.items():
        assert figure == pytest.approx(np.mean([s[key] for s in slices]), rel=1e-5)


def test_the_sign_matters_to_nmse_alone() -> None:
    pred, label = pair(16, 15)
    right = reconstruction_metrics(pred, label)
    assert reconstruction_metrics(-pred, -label) == right
    flipped = reconstruction_metrics(-pred, label)
    assert flipped["psnr"] == right["psnr"] and flipped["ssim"] == right["ssim"]
    assert flipped["nmse"] > 1.5, "the papers' NMSE takes no magnitude"


def test_an_empty_reference_has_no_figures() -> None:
    assert all(
        math.isnan(v) for v in reconstruction_metrics(torch.ones(1, 16, 16), torch.zeros(1, 16, 16)).values()
    )


def test_an_image_below_the_window_has_no_ssim() -> None:
    metrics = reconstruction_metrics(*pair(8, 30))
    assert math.isnan(metrics["ssim"]) and math.isfinite(metrics["psnr"])


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="differ in shape"):
        reconstruction_metrics(torch.zeros(1, 4, 4), torch.zeros(1, 4, 5))


def test_without_a_reference_there_is_nothing_to_evaluate() -> None:
    with pytest.raises(InputError, match="(?s)no reference.*--retrospective"):
        reconstruction_metrics(torch.rand(1, 5, 6), None)


def test_a_peak_that_is_given_takes_the_place_of_the_slices_own() -> None:
    pred, label = pair(20, 17)
    label = 200 * label / label.max()
    pred = 200 * pred
    own, fixed = reconstruction_metrics(pred, label), reconstruction_metrics(pred, label, peak=255)
    assert fixed["psnr"] == pytest.approx(own["psnr"] + 20 * math.log10(255 / 200), abs=1e-6)
    assert fixed["nmse"] == pytest.approx(own["nmse"], rel=1e-9)
    assert reconstruction_metrics(pred, label, peak=200) == pytest.approx(own, rel=1e-5)
