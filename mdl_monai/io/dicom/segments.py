"""The structures of a segmentation: their names, and what they are in SNOMED CT."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from mdl_monai.errors import InputError

# Code of the structure, and of the part of it that is meant
CODES: dict[str, tuple[Code, Code | None]] = {
    "hippocampus": (codes.SCT.Hippocampus, None),
    "anterior hippocampus": (codes.SCT.Hippocampus, codes.SCT.Anterior),
    "posterior hippocampus": (codes.SCT.Hippocampus, codes.SCT.Posterior),
    "left ventricle": (codes.SCT.LeftVentricle, None),
    "left ventricle cavity": (codes.SCT.LeftVentricle, None),
    "endocardium": (codes.SCT.LeftVentricle, None),  # what it encloses is segmented
}


class Segment(NamedTuple):
    """A structure: its value in the label map, its name, and its codes where they are known."""

    value: int
    name: str
    structure: Code | None = None
    part: Code | None = None


def segments_of(
    metadata: Mapping[str, Any],
    labels: Sequence[int] | None = None,
    names: Mapping[str, str] | None = None,
) -> list[Segment]:
    """The structures that a bundle segments.

    Args:
        metadata: its ``metadata.json``, whose ``channel_def`` names the labels.
        labels: label values, where they are others (after training for other structures); background left out.
        names: and the names of these; a label without one becomes "label 3".

    Raises:
        InputError: no structure is named.
    """
    names = {str(value): str(name) for value, name in (names or {}).items()}
    if labels is None:
        outputs = metadata.get("network_data_format", {}).get("outputs", {})
        names = dict(outputs.get("pred", {}).get("channel_def", {}))
        labels = sorted(int(value) for value in names if value != "0")
    if not labels:
        raise InputError("the bundle's metadata names no structure", where="channel_def of the output pred")
    context = str(metadata.get("name", "")).split("_")[0]
    segments = []
    for value in labels:
        name = names.get(str(value), f"label {value}")
        keys = (name.lower(), f"{name} {context}".lower())  # "anterior" of the hippocampus
        structure, part = next((CODES[key] for key in keys if key in CODES), (None, None))
        segments.append(Segment(int(value), name, structure, part))
    return segments
