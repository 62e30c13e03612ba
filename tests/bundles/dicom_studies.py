"""DICOM studies for the bundles: volumes with blobs of known places, and headers full of secrets."""

from __future__ import annotations

import gzip
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from monai.bundle import ConfigWorkflow
from PIL import Image
from pydicom import Dataset
from pydicom.config import disable_value_validation
from pydicom.uid import UID
from scipy import ndimage

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "io" / "dicom"))
from dicom_files import Stack as Stack
from dicom_files import oblique_axes as oblique_axes
from dicom_files import orthogonal_axes as orthogonal_axes
from dicom_files import save as save

BUNDLES = Path(__file__).resolve().parents[2] / "bundles"


class Blob(NamedTuple):
    """A Gaussian bump."""

    place: tuple[float, float, float]
    """From the middle of the volume, right, front and up, mm."""
    width: float
    """Standard deviation, mm."""
    height: float
    """Above the surroundings."""


def middle(stack: Stack) -> np.ndarray:
    """Of the volume, RAS mm."""
    return stack.affine[:3] @ [*((n - 1) / 2 for n in stack.values.shape[::-1]), 1]


def drawn(stack: Stack, blobs: Iterable[Blob], base: float, head: float | None = None) -> Stack:
    """The stack with values of blobs on a base: everywhere, or in a ball (radius in mm) with nothing around it."""
    slices, rows, columns = np.indices(stack.values.shape)
    places = np.stack([columns, rows, slices], -1) @ stack.affine[:3, :3].T + stack.affine[:3, 3]
    from_middle = places - middle(stack)
    values = np.full(stack.values.shape, float(base))
    for place, width, height in blobs:
        values += height * np.exp(-0.5 * ((from_middle - place) ** 2).sum(-1) / width**2)
    if head is not None:
        values[np.linalg.norm(from_middle, axis=-1) > head] = 0
    stack.values = values.round().astype(np.uint16)
    return stack


def centroids(weights: np.ndarray, affine: np.ndarray, count: int) -> np.ndarray:
    """Places of the connected regions of positive weights, the smallest region first, [count, 3] in the world.

    Args:
        weights: on a grid.
        affine: of that grid's indices to the world, mm.
        count: regions that there must be.
    """
    regions, found = ndimage.label(weights > 0, np.ones((3, 3, 3)))
    assert found == count, f"{found} regions, not {count}"
    numbers = range(1, count + 1)
    sizes = ndimage.sum_labels(weights > 0, regions, numbers)
    indices = np.array(ndimage.center_of_mass(weights, regions, numbers))[np.argsort(sizes)]
    return indices @ affine[:3, :3].T + affine[:3, 3]


def infer(bundle: str, **options: Any) -> None:
    """Inference by a bundle's own config, in this process."""
    configs = BUNDLES / bundle / "configs"
    workflow = ConfigWorkflow(
        workflow_type="infer",
        config_file=[str(configs / f"{name}.yaml") for name in ("common", "inference")],
        logging_file=False,
        bundle_root=str(configs.parent),
        progress=False,
        device="cpu",
        **{key: str(value) if isinstance(value, Path) else value for key, value in options.items()},
    )
    workflow.initialize()
    workflow.run()
    workflow.finalize()


def pointwise_network(
    path: Path, weights: Sequence[float], biases: Sequence[float], dims: int
) -> dict[str, Any]:
    """Options that put a network in a bundle whose outputs are known functions of a voxel's value.

    Args:
        path: receives its weights.
        weights, biases: of each output channel.
        dims: of the images that it takes.
    """
    shape = (-1, 1, *(1,) * dims)
    state = {"weight": torch.tensor(weights).reshape(shape), "bias": torch.tensor(biases)}
    torch.save(state, path)
    convolution = {"in_channels": 1, "out_channels": len(weights), "kernel_size": 1}
    return {"ckpt_path": path, "network_def": {"_target_": f"torch.nn.Conv{dims}d", **convolution}}


# -- headers full of secrets

# What the DICOM that is written shall say too: whose it is, of which study, and where its space comes from
KEPT = {
    "PatientName": "PN", "PatientID": "LO", "IssuerOfPatientID": "LO", "PatientBirthDate": "DA",
    "OtherPatientIDsSequence": "SQ", "PatientAge": "AS", "PatientWeight": "DS",
    "ClinicalTrialProtocolID": "LO", "ClinicalTrialSubjectID": "LO",
    "StudyInstanceUID": "UI", "StudyID": "SH", "StudyDate": "DA", "StudyTime": "TM", "StudyDescription": "LO",
    "AccessionNumber": "SH", "ReferringPhysicianName": "PN", "FrameOfReferenceUID": "UI",
    "SeriesInstanceUID": "UI", "SOPInstanceUID": "UI",  # as references
}  # fmt: skip
# And what nothing that is written shall say
DROPPED = {
    "InstitutionName": "LO", "InstitutionAddress": "ST", "InstitutionalDepartmentName": "LO", "StationName": "SH",
    "OperatorsName": "PN", "PerformingPhysicianName": "PN", "RequestingPhysician": "PN", "PhysiciansOfRecord": "PN",
    "NameOfPhysiciansReadingStudy": "PN", "ReferringPhysicianTelephoneNumbers": "SH",
    "DeviceSerialNumber": "LO", "DeviceUID": "UI", "DeviceID": "LO", "DetectorID": "SH", "GantryID": "LO",
    "Manufacturer": "LO", "ManufacturerModelName": "LO", "SoftwareVersions": "LO", "ReceiveCoilName": "SH",
    "PatientComments": "LT", "ImageComments": "LT", "AdditionalPatientHistory": "LT", "MedicalAlerts": "LO",
    "Allergies": "LO", "PatientAddress": "LO", "PatientTelephoneNumbers": "SH", "PatientMotherBirthName": "PN",
    "PatientBirthName": "PN", "OtherPatientNames": "PN", "OtherPatientIDs": "LO", "EthnicGroup": "SH",
    "Occupation": "SH", "MilitaryRank": "LO", "MedicalRecordLocator": "LO", "CountryOfResidence": "LO",
    "AdmissionID": "LO", "IssuerOfAdmissionID": "LO", "CurrentPatientLocation": "LO", "VisitComments": "LT",
    "ProtocolName": "LO", "SeriesDescription": "LO", "SequenceName": "SH", "FilterType": "SH",
    "PerformedProcedureStepID": "SH", "PerformedProcedureStepDescription": "LO", "DerivationDescription": "ST",
    "SeriesDate": "DA", "AcquisitionDate": "DA", "ContentDate": "DA", "InstanceCreationDate": "DA",
    "PerformedProcedureStepStartDate": "DA", "DateOfLastCalibration": "DA", "AcquisitionDateTime": "DT",
    "SeriesTime": "TM", "AcquisitionTime": "TM", "InstanceCreatorUID": "UI", "IrradiationEventUID": "UI",
    "SynchronizationFrameOfReferenceUID": "UI", "StorageMediaFileSetUID": "UI",
    "RequestAttributesSequence": "SQ", "OriginalAttributesSequence": "SQ", "DigitalSignaturesSequence": "SQ",
    "PersonIdentificationCodeSequence": "SQ",
}  # fmt: skip
NESTED = {  # a tag of text in each sequence
    "OtherPatientIDsSequence": "PatientID", "RequestAttributesSequence": "RequestedProcedureDescription",
    "OriginalAttributesSequence": "PatientName", "DigitalSignaturesSequence": "CertificateOfSigner",
    "PersonIdentificationCodeSequence": "InstitutionName",
}  # fmt: skip
# Nor these: private tags, an overlay's, those of the file itself
OTHERS = {
    "private creator": "LO", "private text": "LO", "private bytes": "OB", "private sequence": "SQ",
    "private person": "PN", "overlay label": "LO", "overlay text": "LO", "file's application": "AE",
    "file's version": "SH", "file's private creator": "UI", "file's private bytes": "OB", "preamble": "",
    "padding": "OB",
}  # fmt: skip
FORMS = ("{0}", "{1}-{2}-{3}", "{1}/{2}/{3}", "{1}.{2}.{3}", "{3}.{2}.{1}", "{3}/{2}/{1}")  # of a date
FIELDS = {**KEPT, **DROPPED, **OTHERS}


def secret(number: int, kind: str) -> str:
    """A value that is found nowhere else.

    Dates are of a century without DICOM. Identifiers and ages are as careless programs write them (a part with a zero
    in front, no number): pydicom would quote them in its warnings.
    """
    if kind in ("DA", "DT"):
        day = f"{1701 + number}0{number % 9 + 1}{10 + number % 19}"
        return day if kind == "DA" else f"{day}031741.577215"
    if kind == "TM":
        return f"{number % 24:02d}4337.271{number:03d}"
    if kind == "UI":
        return f"1.2.826.0.1.3680043.10.9977.31415926535.{number:03d}1"
    if kind == "DS":
        return f"61.{number:03d}77197"
    return f"ZQX{number:03d}VWK"  # fits every kind of text


SECRETS = {place: secret(n, kind) for n, (place, kind) in enumerate(FIELDS.items())}
"""What is planted, by the place where it is."""


def plant(stack: Stack, folder: Path) -> None:
    """Write the series with a secret in every place."""
    with disable_value_validation():
        for number, ds in enumerate(stack.datasets(), 1):
            _plant(ds, number)
            save(ds, folder / f"IM{number:04d}.dcm")


def _plant(ds: Dataset, number: int) -> None:
    for keyword, kind in (KEPT | DROPPED).items():
        setattr(ds, keyword, [_item(keyword)] if kind == "SQ" else SECRETS[keyword])
    ds.SOPInstanceUID = UID(f"{SECRETS['SOPInstanceUID']}.{number}")
    block = ds.private_block(0x0029, SECRETS["private creator"], create=True)
    block.add_new(0x01, "LO", SECRETS["private text"])
    block.add_new(0x02, "OB", b"\0SV10" + SECRETS["private bytes"].encode() + b"\0\0")
    inner = Dataset()
    inner.StationName = SECRETS["private sequence"]
    block.add_new(0x03, "SQ", [inner])
    block.add_new(0x04, "PN", SECRETS["private person"])
    ds.add_new(0x60001500, "LO", SECRETS["overlay label"])
    ds.add_new(0x60000022, "LO", SECRETS["overlay text"])
    ds.add_new(0xFFFCFFFC, "OB", SECRETS["padding"].encode() + b"\0")
    ds.preamble = SECRETS["preamble"].encode().ljust(128, b"\0")
    ds.file_meta.SourceApplicationEntityTitle = SECRETS["file's application"]
    ds.file_meta.ImplementationVersionName = SECRETS["file's version"]
    ds.file_meta.PrivateInformationCreatorUID = UID(SECRETS["file's private creator"])
    ds.file_meta.PrivateInformation = SECRETS["file's private bytes"].encode() + b"\0"


def _item(sequence: str) -> Dataset:
    item, value = Dataset(), SECRETS[sequence]
    setattr(item, NESTED[sequence], value.encode() + b"\0" if sequence.startswith("Digital") else value)
    if sequence == "OriginalAttributesSequence":  # deeper
        inner, item = item, Dataset()
        item.ModifiedAttributesSequence = [inner]
    return item


def told_in(texts: Mapping[str, bytes]) -> dict[str, list[str]]:
    """Places of the secrets that texts hold, with the names of these texts; in any case of letters."""
    found: dict[str, list[str]] = {}
    lowered = {name: (name.encode() + text).lower() for name, text in texts.items()}
    for place, value in SECRETS.items():
        day = value[:8]
        forms = [
            form.format(day, day[:4], day[4:6], day[6:]) for form in FORMS if FIELDS[place] in ("DA", "DT")
        ]
        codes = [form.lower().encode(code) for form in forms or [value] for code in ("utf-8", "utf-16-le")]
        holding = [name for name, text in lowered.items() if any(code in text for code in codes)]
        if holding:
            found[place] = holding
    return found


def all_of(folder: Path) -> dict[str, bytes]:
    """What there is to read in the files of a folder, by name: their bytes, and what is packed in these."""
    texts = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        content = path.read_bytes()
        if path.suffix == ".gz":
            content += gzip.decompress(content)
        elif path.suffix == ".png":
            with Image.open(path) as picture:
                picture.load()  # with what text comes after the pixels
                content += repr(picture.info).encode()
        texts[path.relative_to(folder).as_posix()] = content
    return texts
