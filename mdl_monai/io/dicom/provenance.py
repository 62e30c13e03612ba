"""What a DICOM object that is written here takes over from its source, and how it says who made it."""

from __future__ import annotations

import copy
import logging
import unicodedata
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import pydicom
from pydicom import Dataset
from pydicom.uid import generate_uid

from mdl_monai.errors import InputError
from mdl_monai.io.dicom.header import value_of
from mdl_monai.io.dicom.objects import quiet_pydicom
from mdl_monai.io.dicom.series import DicomSeries

MANUFACTURER = "mdl_monai"
SOURCE = "the headers of the DICOM source"
# Patient, study and frame of reference, without free text on the patient's history. Text is in the source's
# character set. What is required (type 2) may be empty.
REQUIRED = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "AccessionNumber",
    "ReferringPhysicianName", "StudyID", "PositionReferenceIndicator",
)  # fmt: skip
OPTIONAL = (
    "SpecificCharacterSet", "TimezoneOffsetFromUTC", "IssuerOfPatientID", "TypeOfPatientID",
    "IssuerOfPatientIDQualifiersSequence", "OtherPatientIDsSequence", "PatientBirthTime",
    "PatientSpeciesDescription", "PatientSpeciesCodeSequence", "PatientBreedDescription",
    "PatientBreedCodeSequence", "BreedRegistrationSequence", "ResponsiblePerson", "ResponsiblePersonRole",
    "ResponsibleOrganization", "PatientIdentityRemoved", "DeidentificationMethod",
    "DeidentificationMethodCodeSequence", "ClinicalTrialSponsorName", "ClinicalTrialProtocolID",
    "ClinicalTrialProtocolName", "ClinicalTrialSiteID", "ClinicalTrialSiteName", "ClinicalTrialSubjectID",
    "ClinicalTrialSubjectReadingID", "ClinicalTrialTimePointID", "ClinicalTrialTimePointDescription",
    "IssuerOfAccessionNumberSequence", "StudyDescription", "PatientAge", "PatientSize", "PatientWeight",
    "PatientSexNeutered", "AnatomicalOrientationType", "BurnedInAnnotation",
    "LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod",
)  # fmt: skip


class Software(NamedTuple):
    """Who makes an object: name and version of the bundle."""

    name: str
    version: str


@contextmanager
def nothing_told() -> Iterator[None]:
    """Keep highdicom and pydicom from logging and warning: both quote values and identifiers of the source."""
    logger = logging.getLogger("highdicom")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        with quiet_pydicom(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def plain_text(text: object, length: int = 64) -> str:
    """Text for any character set: ASCII, without a backslash (it separates values), cut to `length`."""
    ascii_text = unicodedata.normalize("NFKD", str(text)).encode("ascii", "ignore").decode()
    return " ".join(ascii_text.replace("\\", "/").split())[:length].strip()


def taken_over(header: Dataset, keywords: Iterable[str]) -> Dataset:
    """Those elements of a header that are there and not damaged."""
    result = Dataset()
    with nothing_told():
        for keyword in keywords:
            with suppress(Exception):  # of any kind, for a damaged value; its message would quote it
                result.add(copy.deepcopy(header[keyword]))
    return result


def inherited(source: DicomSeries) -> Dataset:
    """Patient, study and frame of reference of a source; what is required and not there is empty.

    Raises:
        InputError: the source has not the identifiers to refer to.
    """
    first = source.datasets[0]
    result = taken_over(first, (*REQUIRED, *OPTIONAL))
    for dataset in source.datasets:
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPClassUID", "SOPInstanceUID"):
            if not value_of(dataset, keyword, SOURCE):
                raise InputError("there is nothing to refer to", where=SOURCE, found=f"no {keyword}")
    for keyword in REQUIRED:
        if keyword not in result:
            setattr(result, keyword, None)
    result.StudyInstanceUID = first.StudyInstanceUID
    result.FrameOfReferenceUID = first.get("FrameOfReferenceUID") or generate_uid(None)
    return result


def made_by(software: Software) -> Dataset:
    """The equipment that makes an object: a program. The source's institution had no part in it."""
    from mdl_monai import __version__

    result = Dataset()
    result.Manufacturer = MANUFACTURER
    result.ManufacturerModelName = plain_text(software.name)
    result.DeviceSerialNumber = plain_text(software.version)
    result.SoftwareVersions = [plain_text(software.version), f"{MANUFACTURER} {__version__}"]
    return result


def series_number(source: DicomSeries, offset: int) -> int:
    """A number for a derived series: the source's and `offset`."""
    number = taken_over(source.datasets[0], ["SeriesNumber"]).get("SeriesNumber")
    return (number if isinstance(number, int) else 0) % 1_000_000 + offset


def may_replace(source: DicomSeries, path: Path) -> bool:
    """Whether a file, or all files of a folder, were written by this library and are none of the source's.

    Then a later run may replace them.
    """
    inputs = {dataset.get("SOPInstanceUID") for dataset in source.datasets}
    try:
        with nothing_told():
            for file in path.iterdir() if path.is_dir() else [path]:
                found = pydicom.dcmread(file, specific_tags=["Manufacturer", "SOPInstanceUID"])
                if found.get("Manufacturer") != MANUFACTURER or found.get("SOPInstanceUID") in inputs:
                    return False
    except Exception:  # no DICOM
        return False
    return True
