from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from mdl_monai.errors import InputError
from mdl_monai.phantoms.head import HeadPhantom, head_phantom
from mdl_monai.transforms.body_mask import BodyMaskd, ScaleInMaskd, body_mask

SPACING = (4.0, 3.0, 5.0)


def head(subject: int = 0) -> HeadPhantom:
    return head_phantom(subject, (55, 82, 47), SPACING)


def as_image(values: torch.Tensor, spacing: tuple[float, ...] = SPACING) -> MetaTensor:
    affine = torch.diag(torch.tensor([*spacing, 1.0], dtype=torch.float64))
    return MetaTensor(values[None], affine=affine, meta={"filename_or_obj": "case.nii.gz"})


def dice(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


@pytest.mark.parametrize("subject", [0, 1, 2])
def test_the_head_is_found_with_all_that_is_inside(subject: int) -> None:
    phantom = head(subject)
    found = body_mask(phantom.mr, torch.tensor(SPACING))
    assert dice(found, phantom.tissue > 0) > 0.92  # at coarse voxels the edge is blurred
    skull_and_ventricles = (phantom.mr < 0.2) & (phantom.tissue > 1)
    assert found[skull_and_ventricles].float().mean() > 0.98


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_one_slice_is_a_plane_of_its_view(axis: int) -> None:
    phantom = head()
    at = phantom.mr.shape[axis] // 2
    plane = phantom.mr.narrow(axis, at, 1)
    found = body_mask(plane, torch.tensor(SPACING))
    assert found.shape == plane.shape
    assert dice(found, phantom.tissue.narrow(axis, at, 1) > 0) > 0.92


@pytest.mark.parametrize("factor", [0.01, 100.0, 3e5])
def test_the_unit_does_not_matter(factor: float) -> None:
    steps = [BodyMaskd("image"), ScaleInMaskd("image")]
    results = []
    for scale in (1.0, factor):
        record = {"image": as_image(head().mr * scale)}
        for step in steps:
            record = step(record)
        results.append(record)
    assert torch.equal(results[0]["body"], results[1]["body"])
    torch.testing.assert_close(results[0]["image"], results[1]["image"], atol=2e-5, rtol=0)


def test_percentiles_of_the_inside_become_minus_one_and_one() -> None:
    values = torch.zeros(1, 10, 10, 10)
    values[:, 2:] = torch.arange(800.0).view(1, 8, 10, 10)
    mask = torch.zeros_like(values)
    mask[:, 2:] = 1
    scaled = ScaleInMaskd("image", lower=10, upper=90)({"image": MetaTensor(values), "body": mask})["image"]
    low, high = np.percentile(np.arange(800), (10, 90))
    expected = ((values - low) / (high - low) * 2 - 1).clamp(-1, 1)
    torch.testing.assert_close(scaled.as_tensor(), expected)


@pytest.mark.parametrize(
    ("values", "found"),
    [
        (torch.rand(40, 50, 30, generator=torch.Generator().manual_seed(0)), "median"),
        (torch.full((40, 50, 30), 7.0), "nothing bright"),
        (
            torch.nn.functional.pad(torch.ones(12, 11, 9), (12, 13, 22, 23, 17, 18)),
            "one of [0-9]+ x [0-9]+ x [0-9]+ mm",
        ),
        (head().ct, "a CT in HU"),
    ],
)
def test_no_head_is_refused_with_its_file(values: torch.Tensor, found: str) -> None:
    with pytest.raises(InputError, match=rf"(?s)case\.nii\.gz.*{found}.*remedy"):
        BodyMaskd("image")({"image": as_image(values)})
