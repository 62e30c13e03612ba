from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from mdl_monai.metrics.synthesis import (
    HIGH_GRADIENT,
    bone_dice,
    gradient_magnitude,
    mae,
    psnr,
    ssim_map,
    synthesis_metrics,
)


def figures(pred: Tensor, label: Tensor, mask: Tensor) -> dict[str, float]:
    return synthesis_metrics(pred, torch.cat([label, mask.to(label)]))


SHAPES = [(24, 19), (13, 17, 14), (24, 19, 1)]


def case(*shape: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """A head with a skull and a bone in its middle, a poor prediction of it, and a mask."""
    make = torch.Generator().manual_seed(seed)
    axes = [torch.linspace(-1, 1, n) if n > 1 else torch.zeros(1) for n in shape]
    r = torch.stack(torch.meshgrid(*axes, indexing="ij")).square().sum(0).sqrt()
    bone = (r < 0.25) | ((r > 0.7) & (r < 0.8))
    ct = -1000.0 * (r > 0.9) + 900.0 * bone + 40.0 * (r < 0.7)
    label = ct + 20 * torch.randn(shape, generator=make)
    pred = 0.8 * label.roll(1, 0) + 60 * torch.randn(shape, generator=make)
    return pred[None].double(), label[None].double(), r[None] < 0.95


@pytest.mark.parametrize("shape", SHAPES)
def test_what_lies_outside_the_mask_changes_nothing(shape: tuple[int, ...]) -> None:
    pred, label, mask = case(*shape)
    wild = torch.where(mask, pred, torch.full_like(pred, 2500.0))
    wild[~mask & (torch.rand_like(pred) < 0.3)] = math.nan
    before, after = (figures(p, label, mask) for p in (pred, wild))
    assert before == after
    inside = figures(torch.where(mask, wild, pred) + 100.0 * mask, label, mask)
    assert all(inside[name] != before[name] for name in before)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_truth_has_the_best_figures(shape: tuple[int, ...]) -> None:
    _, label, mask = case(*shape)
    assert figures(label, label, mask) == {
        "mae": 0,
        "psnr": math.inf,
        "ssim": pytest.approx(1, abs=1e-6),
        "ssim_high_gradient": pytest.approx(1, abs=1e-6),
        "bone_dice": 1,
    }


@pytest.mark.parametrize("shape", SHAPES)
def test_errors_equal_their_definitions(shape: tuple[int, ...]) -> None:
    pred, label, mask = case(*shape)
    differences = [
        p - g for p, g, m in zip(pred.flatten(), label.flatten(), mask.flatten(), strict=True) if m
    ]
    assert mae(pred, label, mask) == pytest.approx(sum(map(abs, differences)) / len(differences))
    mean_square = sum(d * d for d in differences) / len(differences)
    assert psnr(pred, label, mask) == pytest.approx(10 * math.log10(4024**2 / mean_square))


@pytest.mark.parametrize("shape", SHAPES)
def test_ssim_equals_scipys_gaussian_windows(shape: tuple[int, ...]) -> None:
    pred, label, mask = case(*shape)
    x, g = (np.where(mask, image + 1024, 0).squeeze() for image in (pred, label))

    def mean(image: np.ndarray) -> np.ndarray:
        return gaussian_filter(image, 1.5, truncate=5 / 1.5)

    var_x, var_g = mean(x * x) - mean(x) ** 2, mean(g * g) - mean(g) ** 2
    covariance = mean(x * g) - mean(x) * mean(g)
    c1, c2 = (0.01 * 4024) ** 2, (0.03 * 4024) ** 2
    expected = (2 * mean(x) * mean(g) + c1) * (2 * covariance + c2)
    expected /= (mean(x) ** 2 + mean(g) ** 2 + c1) * (var_x + var_g + c2)
    inner = (slice(5, -5),) * x.ndim
    found = ssim_map(pred, label, mask).squeeze()
    torch.testing.assert_close(found[inner], torch.from_numpy(expected)[inner], rtol=0, atol=2e-4)
    assert found.isfinite().sum() == found[inner].numel()
    in_mask = mask.squeeze()[inner].numpy()
    assert figures(pred, label, mask)["ssim"] == pytest.approx(expected[inner][in_mask].mean(), abs=1e-4)
    gradient = np.stack(np.gradient(label.squeeze().numpy()))
    edges = in_mask & (np.sqrt((gradient**2).sum(0)) > 100)[inner]
    assert 0 < edges.sum() < in_mask.sum()
    assert figures(pred, label, mask)["ssim_high_gradient"] == pytest.approx(
        expected[inner][edges].mean(), abs=1e-4
    )


def test_gradients_are_central_differences() -> None:
    column, row = torch.meshgrid(torch.arange(5.0), torch.arange(4.0), indexing="ij")
    assert (gradient_magnitude((30 * column + 40 * row)[None]) == 50).all()
    step = torch.tensor([[[0.0, 0, 300, 300, 300]]])
    assert gradient_magnitude(step).tolist() == [[[0, 150, 150, 0, 0]]]


def test_an_error_at_edges_counts_among_edges_only() -> None:
    _, label, mask = case(40, 37)
    steep = gradient_magnitude(label) > HIGH_GRADIENT
    blurred = torch.from_numpy(gaussian_filter(label.numpy(), (0, 1, 1)))
    pred = torch.where(steep, blurred, label)
    assert figures(pred, label, mask)["ssim_high_gradient"] < figures(pred, label, mask)["ssim"]
    flat = torch.zeros_like(label)
    assert math.isnan(figures(pred, flat, mask)["ssim_high_gradient"])


def test_bone_by_hand() -> None:
    label = torch.tensor([[[300.0, 301, 1000, 500, 900]]])
    pred = torch.tensor([[[301.0, 200, 400, 400, 100]]])
    mask = torch.tensor([[[True, True, True, True, False]]])
    assert bone_dice(pred, label, mask) == pytest.approx(2 * 2 / (3 + 3))
    assert bone_dice(pred, torch.zeros_like(pred), mask) == 0
    assert math.isnan(bone_dice(torch.zeros_like(pred), torch.zeros_like(pred), mask))


def test_small_golden_values() -> None:
    pred, label, mask = case(24, 19, seed=7)
    golden = {
        "mae": 329.576,
        "psnr": 18.3730,
        "ssim": 0.52238,
        "ssim_high_gradient": 0.60419,
        "bone_dice": 13 / 24,
    }
    assert figures(pred, label, mask) == pytest.approx(golden, rel=1e-4)


def test_without_a_body_or_room_for_a_window_there_is_no_figure() -> None:
    pred, label, mask = case(24, 19)
    assert all(math.isnan(v) for v in figures(pred, label, torch.zeros_like(mask)).values())
    small = figures(pred[..., :10], label[..., :10], mask[..., :10])
    assert math.isnan(small["ssim"]) and math.isfinite(small["mae"])


def test_a_prediction_that_cannot_be_measured_is_refused() -> None:
    pred, label, mask = case(24, 19)
    with pytest.raises(ValueError, match=r"pred \(1, 24, 18\), label \(1, 24, 19\)"):
        figures(pred[..., :-1], label, mask)
    pred[0, 12, 9] = math.nan
    with pytest.raises(ValueError, match="pred holds values in the mask that are not finite"):
        figures(pred, label, mask)
