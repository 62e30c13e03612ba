from __future__ import annotations

import pytest
import torch

from mdl_monai.errors import InputError
from mdl_monai.phantoms.head import head_phantom
from mdl_monai.physics.coil_calibration import METHODS, calibration_width, coil_maps
from mdl_monai.physics.coils import simulated_coil_maps
from mdl_monai.physics.fourier import fft2c

SHAPE = (48, 62)


def scan() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Image, maps and k-space of a head with four coils."""
    image = head_phantom(0, (*SHAPE, 1), (4.5, 4.5, 5.0)).mr[..., 0]
    maps = simulated_coil_maps(4, SHAPE)
    return image, maps, fft2c(maps * image)


@pytest.mark.parametrize("method", METHODS)
def test_maps_of_simulated_coils_are_found_where_there_is_tissue(method: str) -> None:
    if method == "espirit":
        pytest.importorskip("sigpy", reason="the extra multicoil is not installed")
    image, maps, kspace = scan()
    mask = torch.zeros(SHAPE)
    mask[:, 17:45] = 1
    found = coil_maps(kspace * mask, mask, method)
    tissue = (image > 0.2 * image.max()) & (found.abs().sum(0) > 0)
    assert tissue.float().mean() > 0.1
    # maps are known up to a phase common to the coils, which is the image's
    likeness = (found.conj() * maps).sum(0).abs()[tissue]
    assert likeness.mean() > 0.98
    norm = found.abs().square().sum(0).sqrt()[tissue]
    torch.testing.assert_close(norm, torch.ones_like(norm), atol=1e-4, rtol=0)


@pytest.mark.parametrize(("columns", "width"), [(slice(0, 62), 48), (slice(23, 40), 12)])
def test_width_is_that_of_the_middle_without_a_gap(columns: slice, width: int) -> None:
    mask = torch.zeros(SHAPE)
    mask[:, columns] = 1
    assert abs(calibration_width(mask) - width) <= 1


def test_a_missing_middle_and_an_unknown_method_are_refused() -> None:
    kspace, mask = torch.zeros(2, *SHAPE, dtype=torch.complex64), torch.ones(SHAPE)
    mask[:, 31] = 0
    with pytest.raises(InputError, match="not sampled without a gap"):
        coil_maps(kspace, mask)
    with pytest.raises(InputError, match="unknown way"):
        coil_maps(kspace, torch.ones(SHAPE), "guess")
