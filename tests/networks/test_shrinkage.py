"""Soft thresholds: proximal maps."""

from __future__ import annotations

import torch

from mdl_monai.networks.shrinkage import shrink, shrink_parts


def test_real_values_as_torch_has_them() -> None:
    values = torch.randn(5, 7)
    torch.testing.assert_close(shrink(values, 0.4), torch.nn.functional.softshrink(values, 0.4))


def test_complex_values_keep_their_phase_and_lose_magnitude() -> None:
    values = torch.randn(200, dtype=torch.complex128)
    result = shrink(values, 0.3)
    torch.testing.assert_close(result.abs(), (values.abs() - 0.3).clamp_min(0))
    kept = result.abs() > 0
    torch.testing.assert_close(result[kept].angle(), values[kept].angle())


def test_parts_have_thresholds_of_their_own() -> None:
    values = torch.tensor([1 + 1j, 0.2 - 2j, -3 + 0.5j, 0j])
    expected = torch.tensor([0.75 + 0.25j, -1.25j, -2.75 + 0j, 0j])
    torch.testing.assert_close(shrink_parts(values, 0.25), expected)
    torch.testing.assert_close(shrink_parts(values, 0.25, 1.0).imag, shrink(values.imag, 0.25))
