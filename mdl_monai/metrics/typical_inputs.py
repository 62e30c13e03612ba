"""What a network's training inputs looked like, and how far another input is from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

BINS = 32
PERCENTILE, MARGIN = 98, 1.25
"""A case is far if its distance is above so many percent of the training cases', with a margin."""

Description = dict[str, Any]


def describe_input(image: Tensor, body: Tensor, spacing: Sequence[float]) -> Description:
    """Contrast and coverage of one case.

    Args:
        image: [*spatial] from -1 to 1, scaled by percentiles inside the body.
        body: [*spatial] bool.
        spacing: mm along each axis.

    Returns:
        ``contrast``, the shares of the body in `BINS` intervals of the intensity, and ``extent``, mm of the body
        along each axis; None along an axis of one voxel.
    """
    counts = torch.histc(image[body].float(), BINS, -1.0, 1.0)
    places = body.nonzero()
    reach = (places.amax(0) - places.amin(0) + 1).tolist()
    extent = [
        n * float(mm) if size > 1 else None for n, mm, size in zip(reach, spacing, body.shape, strict=True)
    ]
    return {"contrast": (counts / counts.sum()).tolist(), "extent": extent}


def contrast_distance(one: Sequence[float], other: Sequence[float]) -> float:
    """Earth mover's distance of two histograms: how far grey values must move, in the image's unit."""
    return float(np.abs(np.cumsum(np.asarray(one) - np.asarray(other))).sum() * 2 / BINS)


def summarise_inputs(cases: Sequence[Description]) -> Description:
    """The training set's mean contrast, the largest usual distance from it, and the range of the extents."""
    contrast = np.mean([case["contrast"] for case in cases], axis=0).tolist()
    usual = np.percentile([contrast_distance(case["contrast"], contrast) for case in cases], PERCENTILE)
    extents = [
        [case["extent"][axis] for case in cases if case["extent"][axis] is not None] for axis in range(3)
    ]
    ranges = [[min(mm), max(mm)] if mm else None for mm in extents]
    return {
        "contrast": contrast,
        "largest_distance": MARGIN * float(usual),
        "extent": ranges,
        "cases": len(cases),
    }


def unlike(case: Description, typical: Description) -> tuple[float, list[str]]:
    """Distance of a case's contrast from the training set's, and in words what is unlike it."""
    distance = contrast_distance(case["contrast"], typical["contrast"])
    words = []
    if distance > typical["largest_distance"]:
        usual = typical["largest_distance"]
        words.append(f"its contrast is {distance:.3f} from the training set's, where {usual:.3f} is usual")
    for axis, mm, known in zip(
        ("right-left", "front-back", "up-down"), case["extent"], typical["extent"], strict=True
    ):
        if mm is not None and known is not None and not known[0] / MARGIN <= mm <= known[1] * MARGIN:
            words.append(f"{mm:.0f} mm of a head {axis}, where {known[0]:.0f} to {known[1]:.0f} are usual")
    return distance, words
