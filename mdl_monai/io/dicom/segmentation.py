"""Label maps as DICOM Segmentation objects."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import UID, generate_uid

from mdl_monai.errors import InputError
from mdl_monai.io.atomic import atomic_path
from mdl_monai.io.dicom.grid import SourceGrid, on_grid, source_grid
from mdl_monai.io.dicom.provenance import (
    SOURCE,
    Software,
    inherited,
    made_by,
    may_replace,
    nothing_told,
    plain_text,
    series_number,
)
from mdl_monai.io.dicom.segments import Segment
from mdl_monai.io.dicom.series import DicomSeries
from mdl_monai.io.label_map import check_labels, label_values

PRIVATE_CODES = "99MDL_MONAI"  # coding scheme of structures without a SNOMED CT code: their label value
SERIES_OFFSET = 1000
# What highdicom asks of a source although it may be absent there
ASKED_FOR = (
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex",
    "AccessionNumber", "StudyID", "StudyDate", "StudyTime", "Modality",
)  # fmt: skip


def require_highdicom() -> None:
    """Refuse to begin without highdicom.

    Raises:
        InputError: it is not installed.
    """
    try:
        import highdicom  # noqa: F401
    except ImportError as error:
        raise InputError(
            "writing DICOM Segmentation objects needs highdicom", remedy='pip install "mdl_monai[dicom]"'
        ) from error


@nothing_told()
def write_segmentation(
    array: np.ndarray,
    affine: np.ndarray,
    source: DicomSeries,
    path: str | Path,
    segments: Sequence[Segment],
    software: Software,
) -> None:
    """Write a label map as a DICOM Segmentation object: binary, one segment a label, whole or not at all.

    Patient, study and frame of reference are the source's; the identifiers are new; each frame refers to the slice
    on which it was found. Every segment is declared, also one without a voxel.

    Args:
        array: whole numbers, 0 for the background; [X, Y, Z], or [X, Y] for a source of one slice.
        affine: voxel index to right-anterior-superior mm, [4, 4]: the source's grid, its axes in any order.
        source: headers of the series.
        path: the file; one that this library wrote is replaced, no other.
        segments: what the values mean.
        software: the bundle.

    Raises:
        InputError: another grid, an unknown label, something else at `path`, highdicom not installed.
    """
    require_highdicom()
    from highdicom import AlgorithmIdentificationSequence, PlanePositionSequence
    from highdicom.seg import Segmentation

    path, grid, context, made = Path(path), source_grid(source), inherited(source), made_by(software)
    if path.exists() and not may_replace(source, path):
        raise InputError(
            "there is something else where the result goes", where=path, remedy="set --output_dir"
        )
    found = label_values(torch.from_numpy(np.array(array, dtype=float)), where=path)
    check_labels(found, [segment.value for segment in segments], where=path)
    slices = on_grid(array, affine, grid, where=path).T  # [slices, rows, columns]
    numbers = np.zeros(slices.shape, np.min_scalar_type(len(segments)))
    for number, segment in enumerate(segments, 1):
        numbers[slices == segment.value] = number
    algorithm = AlgorithmIdentificationSequence(
        name=made.ManufacturerModelName,
        version=made.DeviceSerialNumber,
        family=codes.DCM.ArtificialIntelligence,
    )
    result = Segmentation(
        source_images=_headers(grid, context),
        pixel_array=numbers,
        plane_positions=[PlanePositionSequence("PATIENT", list(map(float, p.position))) for p in grid.planes],
        segmentation_type="BINARY",
        segment_descriptions=[_description(n, s, algorithm) for n, s in enumerate(segments, 1)],
        omit_empty_frames=bool(numbers.any()),  # an object without a frame is none
        series_instance_uid=generate_uid(None),
        sop_instance_uid=generate_uid(None),
        series_number=series_number(source, SERIES_OFFSET),
        instance_number=1,
        series_description=plain_text(f"Segmentation by {made.ManufacturerModelName}"),
        content_label="SEGMENTATION",
        content_description=plain_text(", ".join(segment.name for segment in segments)),
        manufacturer=made.Manufacturer,
        manufacturer_model_name=made.ManufacturerModelName,
        software_versions=tuple(made.SoftwareVersions),
        device_serial_number=made.DeviceSerialNumber,
    )
    result.update(context)
    with atomic_path(path) as temporary:
        result.save_as(temporary)


def _description(number: int, segment: Segment, algorithm: Any) -> Any:
    """highdicom's description of a segment. Segments are numbered 1, 2, ...; label values need not be."""
    from highdicom.seg import SegmentDescription
    from highdicom.sr import CodedConcept

    name = plain_text(segment.name) or f"label {segment.value}"
    result = SegmentDescription(
        segment_number=number,
        segment_label=name,
        segmented_property_category=codes.SCT.AnatomicalStructure,
        segmented_property_type=segment.structure or Code(str(segment.value), PRIVATE_CODES, name),
        algorithm_type="AUTOMATIC",
        algorithm_identification=algorithm,
    )
    result.SegmentDescription = f"label {segment.value}"
    if segment.part is not None:
        kind = result.SegmentedPropertyTypeCodeSequence[0]
        kind.SegmentedPropertyTypeModifierCodeSequence = [CodedConcept.from_code(segment.part)]
    return result


def _headers(grid: SourceGrid, context: Dataset) -> list[Dataset]:
    """What highdicom has to know of a source: references and planes, nothing of the patient.

    Real headers lack what it asks for, round one orientation in several ways, and would be quoted in its messages.

    Returns:
        A header a slice, or the only one of an object of several frames.

    Raises:
        InputError: highdicom cannot know the kind of object.
    """
    if any(UID(p.dataset.SOPClassUID).type != "SOP Class" for p in grid.planes if p.dataset is not None):
        raise InputError("the source is of a private kind", where=SOURCE, found="an unknown SOPClassUID")
    planes = [(plane.dataset, plane) for plane in grid.planes if plane.dataset is not None]
    if planes[0][1].frame is None:
        return [_header(d, grid, context, ImagePositionPatient=plane.position) for d, plane in planes]
    planes.sort(key=lambda item: item[1].frame or 0)
    shared = grid.geometry
    measures = {k: shared[k].value for k in ("PixelSpacing", "SliceThickness", "SpacingBetweenSlices")}
    orientation = _item(ImageOrientationPatient=shared.ImageOrientationPatient)
    return [
        _header(
            planes[0][0],
            grid,
            context,
            NumberOfFrames=len(planes),
            SharedFunctionalGroupsSequence=[
                _item(PlaneOrientationSequence=[orientation], PixelMeasuresSequence=[_item(**measures)])
            ],
            PerFrameFunctionalGroupsSequence=[
                _item(PlanePositionSequence=[_item(ImagePositionPatient=plane.position)])
                for _, plane in planes
            ],
        )
    ]


def _header(dataset: Dataset, grid: SourceGrid, context: Dataset, **further: Any) -> Dataset:
    own = {k: dataset[k].value for k in ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID")}
    common = {k: context[k].value for k in ("StudyInstanceUID", "FrameOfReferenceUID")}
    result = _item(**dict.fromkeys(ASKED_FOR), **own, **common, **further)
    result.update(grid.geometry)
    return result


def _item(**values: Any) -> Dataset:
    result = Dataset()
    for keyword, value in values.items():
        setattr(result, keyword, value)
    return result
