"""Images computed from a DICOM series, as a DICOM series of single slices."""

from __future__ import annotations

import copy
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid
from pydicom.valuerep import format_number_as_ds

from mdl_monai.errors import InputError
from mdl_monai.io.atomic import atomic_folder
from mdl_monai.io.dicom.grid import Plane, on_grid, source_grid
from mdl_monai.io.dicom.provenance import (
    Software,
    inherited,
    made_by,
    may_replace,
    nothing_told,
    plain_text,
    series_number,
    taken_over,
)
from mdl_monai.io.dicom.series import DicomSeries

Kind = Literal["ct", "mr"]
KINDS = {"ct": "Synthetic CT", "mr": "Reconstructed MR image"}
SERIES_OFFSET = {"ct": 2000, "mr": 3000}
AIR = -1024  # HU of the stored value 0, as scanners have it
SOURCE_IMAGE = ("121322", "DCM", "Source image for image processing operation")
# Of the acquisition, what still holds for a reconstructed MR image
MR_REQUIRED = (
    "ScanningSequence", "SequenceVariant", "ScanOptions", "MRAcquisitionType", "RepetitionTime", "EchoTime",
    "EchoTrainLength",
)  # fmt: skip
MR_OPTIONAL = (
    "InversionTime", "TriggerTime", "FlipAngle", "EchoNumbers", "NumberOfAverages", "MagneticFieldStrength",
    "ImagingFrequency", "ImagedNucleus",
)  # fmt: skip


@nothing_told()
def write_series(
    array: np.ndarray,
    affine: np.ndarray,
    source: DicomSeries,
    folder: str | Path,
    kind: Kind,
    software: Software,
    derivation: str = "",
) -> None:
    """Write a volume as a new series of the source's study, one file a slice, all of it or nothing.

    Patient, study and frame of reference are the source's, the identifiers new; each slice refers to its source
    and says that it is derived.

    Args:
        array: [X, Y, Z], or [X, Y] for a source of one slice. "ct": HU, rounded to whole ones. "mr": any unit,
            stored in 16 bits, so off by half of 1/65535 of its range at most, and exact if it is whole numbers.
        affine: voxel index to right-anterior-superior mm, [4, 4]: the source's grid, its axes in any order.
        source: headers of the series.
        folder: to hold the files, 0001.dcm and so on; a series that this library wrote there is replaced.
        kind: "ct" for a synthetic CT, "mr" for a reconstructed MR image.
        software: the bundle.
        derivation: how the image came about, for DerivationDescription: "retrospectively undersampled 4-fold, ...".

    Raises:
        InputError: another grid, values that cannot be stored, a reconstruction of what is no MR image, something
            else at `folder`.
    """
    folder, grid = Path(folder), source_grid(source)
    if kind == "mr" and source.datasets[0].get("Modality") != "MR":
        raise InputError(
            "the source of the MR image to write is none", where=folder, found="another Modality"
        )
    array = on_grid(array, affine, grid, where=folder)
    if not np.isfinite(array).all():
        raise InputError("the image to write holds NaN or infinite values", where=folder)
    stored, pixels = _stored_ct(array, folder) if kind == "ct" else _stored_mr(array)

    series, now = inherited(source), datetime.now()
    for part in (made_by(software), grid.geometry, pixels, _module(source, kind)):
        series.update(part)
    made, maker = KINDS[kind], plain_text(software.name)
    series.SeriesDescription = plain_text(f"{made} by {maker}")
    series.DerivationDescription = plain_text(f"{made} by {maker} {software.version}. {derivation}", 1024)
    series.SeriesInstanceUID = generate_uid(None)
    series.SeriesNumber = series_number(source, SERIES_OFFSET[kind])
    for what in ("Series", "Content", "InstanceCreation"):
        setattr(series, f"{what}Date", now.strftime("%Y%m%d"))
        setattr(series, f"{what}Time", now.strftime("%H%M%S.%f"))
    with atomic_folder(folder, partial(may_replace, source)) as temporary:
        for number, plane in enumerate(grid.planes, 1):
            image = copy.deepcopy(series)
            image.SOPInstanceUID, image.InstanceNumber = generate_uid(None), number
            image.ImagePositionPatient = plane.position
            image.PixelData = np.ascontiguousarray(stored[:, :, number - 1].T).tobytes()
            _refer(image, plane)
            image.file_meta = FileMetaDataset()
            image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            image.save_as(temporary / f"{number:04d}.dcm", enforce_file_format=True)


def _stored_ct(array: np.ndarray, where: Path) -> tuple[np.ndarray, Dataset]:
    """HU as 16-bit numbers, and how they are stored."""
    stored = np.rint(array.astype(float)) - AIR
    limits = np.iinfo(np.int16)
    if stored.min() < limits.min or stored.max() > limits.max:
        raise InputError(
            "the CT to write is not in HU",
            where=where,
            expected=f"{limits.min + AIR} to {limits.max + AIR}",
            found=f"{array.min():g} to {array.max():g}",
        )
    result = _pixels(signed=True, slope="1", intercept=str(AIR), unit="HU")
    result.WindowCenter, result.WindowWidth = "40", "400"  # soft tissue
    return stored.astype("<i2"), result


def _stored_mr(array: np.ndarray) -> tuple[np.ndarray, Dataset]:
    """Any finite values as 16-bit numbers, and how they are stored; 0 stays 0 if nothing is below it."""
    values = array.astype(float)
    low, high, steps = min(values.min(), 0.0), values.max(), np.iinfo(np.uint16).max
    whole = high - low <= steps and bool((values == np.rint(values)).all())
    step = 1.0 if whole else (high - low) / steps or 1.0
    slope, intercept = (format_number_as_ds(float(value)) for value in (step, low))
    stored = np.rint((values - float(intercept)) / float(slope)).clip(0, steps)
    return stored.astype("<u2"), _pixels(signed=False, slope=slope, intercept=intercept, unit="US")


def _pixels(*, signed: bool, slope: str, intercept: str, unit: str) -> Dataset:
    result = Dataset()
    result.SamplesPerPixel, result.PhotometricInterpretation = 1, "MONOCHROME2"
    result.BitsAllocated, result.BitsStored, result.HighBit = 16, 16, 15
    result.PixelRepresentation = int(signed)
    result.RescaleSlope, result.RescaleIntercept, result.RescaleType = slope, intercept, unit
    return result


def _module(source: DicomSeries, kind: Kind) -> Dataset:
    """What a CT or MR image has to say of its acquisition; empty where that is not known."""
    keywords = (*MR_REQUIRED, *MR_OPTIONAL) if kind == "mr" else ()
    known = taken_over(source.datasets[0], ("PatientPosition", "BodyPartExamined", "Laterality", *keywords))
    result = Dataset()
    for keyword in ("PatientPosition", "AcquisitionNumber", *(MR_REQUIRED if kind == "mr" else ["KVP"])):
        setattr(result, keyword, None)
    if not known.get("BodyPartExamined"):  # might be one of a pair
        result.Laterality = None
    result.update(known)
    if kind == "ct":
        result.SOPClassUID, result.Modality = CTImageStorage, "CT"
        result.ImageType = ["DERIVED", "SECONDARY", "AXIAL", "SYNTHETIC"]
    else:
        result.SOPClassUID, result.Modality = MRImageStorage, "MR"
        result.ImageType = ["DERIVED", "SECONDARY", "OTHER"]
        result.ScanningSequence = result.ScanningSequence or "RM"  # research mode
        result.SequenceVariant = result.SequenceVariant or "NONE"
    return result


def _refer(image: Dataset, plane: Plane) -> None:
    """Name the source of a slice."""
    if plane.dataset is None:
        told = f"No slice of the source lies here: interpolated. {image.DerivationDescription}"
        image.DerivationDescription = plain_text(told, 1024)
        return
    series, instance, reference, purpose = (Dataset() for _ in range(4))
    series.SeriesInstanceUID = plane.dataset.SeriesInstanceUID
    series.ReferencedInstanceSequence = [instance]
    image.ReferencedSeriesSequence, image.SourceImageSequence = [series], [reference]
    for item in (instance, reference):
        item.ReferencedSOPClassUID = plane.dataset.SOPClassUID
        item.ReferencedSOPInstanceUID = plane.dataset.SOPInstanceUID
    if plane.frame is not None:
        reference.ReferencedFrameNumber = plane.frame
    reference.SpatialLocationsPreserved = "YES"
    reference.PurposeOfReferenceCodeSequence = [purpose]
    purpose.CodeValue, purpose.CodingSchemeDesignator, purpose.CodeMeaning = SOURCE_IMAGE
