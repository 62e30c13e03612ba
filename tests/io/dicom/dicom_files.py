"""Synthetic DICOM series, written with pydicom alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import permutations, product
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
    generate_uid,
)

CLASSES = {
    "MR": (MRImageStorage, EnhancedMRImageStorage),
    "CT": (CTImageStorage, EnhancedCTImageStorage),
}
TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def orthogonal_axes() -> list[np.ndarray]:
    """The 48 axis orders and flips, [3, 3]: columns are the directions of the volume's axes."""
    return [
        np.eye(3)[:, order] * signs
        for order in permutations(range(3))
        for signs in product((1.0, -1.0), repeat=3)
    ]


def oblique_axes(rng: np.random.Generator) -> np.ndarray:
    """Random right-handed rotation, [3, 3]."""
    axes, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    return axes * np.sign(np.linalg.det(axes))


def affine_of(axes: np.ndarray, spacing: Sequence[float], origin: Sequence[float]) -> np.ndarray:
    """Index (column, row, slice) to RAS mm of a stack with the given LPS axes, [4, 4]."""
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = axes * np.asarray(spacing), origin
    return TO_RAS @ affine


@dataclass
class Stack:
    """A stack of slices to be written.

    Its third axis may run against the normal (row x column): then the slices come in falling order.
    """

    values: np.ndarray
    """Stored values, [slices, rows, columns]."""
    axes: np.ndarray = field(default_factory=lambda: np.eye(3))
    """Directions along a row, down a column and from slice to slice, in DICOM's LPS axes, [3, 3]."""
    spacing: tuple[float, float, float] = (0.9, 1.1, 2.5)
    """Between columns, between rows, between slices, mm."""
    origin: tuple[float, float, float] = (-31.5, 20.25, 7.0)
    modality: str = "MR"
    tags: dict[str, Any] = field(default_factory=dict)
    """Tags of all slices, which replace others."""
    uid: str = field(default_factory=generate_uid)
    study: str = field(default_factory=generate_uid)
    frame_of_reference: str = field(default_factory=generate_uid)

    def position(self, k: int) -> np.ndarray:
        """Of slice k, LPS mm."""
        return np.asarray(self.origin) + k * self.spacing[2] * self.axes[:, 2]

    @property
    def affine(self) -> np.ndarray:
        """Index (column, row, slice) to RAS mm."""
        return affine_of(self.axes, self.spacing, self.origin)

    def header(self, *, enhanced: bool = False) -> Dataset:
        ds = Dataset()
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.SOPClassUID, ds.SOPInstanceUID = CLASSES[self.modality][enhanced], generate_uid()
        ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        ds.StudyDate, ds.StudyTime, ds.AccessionNumber = "20200102", "101112", "A1"
        ds.Modality, ds.Manufacturer, ds.ReferringPhysicianName = self.modality, "maker", "Doctor^A"
        ds.PatientName, ds.PatientID, ds.PatientBirthDate, ds.PatientSex = (
            "Test^Patient",
            "P1",
            "19700101",
            "O",
        )
        ds.StudyInstanceUID, ds.SeriesInstanceUID = self.study, self.uid
        ds.StudyID, ds.SeriesNumber, ds.FrameOfReferenceUID = "1", 3, self.frame_of_reference
        ds.PositionReferenceIndicator = None
        ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
        ds.Rows, ds.Columns = (int(n) for n in self.values.shape[1:])
        ds.BitsAllocated = ds.BitsStored = 8 * self.values.itemsize
        ds.HighBit, ds.PixelRepresentation = ds.BitsStored - 1, int(self.values.dtype.kind == "i")
        return ds

    def place(self, ds: Dataset, k: int, *, macros: bool = False) -> None:
        """Write where slice k is, at the top or into functional groups."""
        position = plane = measures = ds
        if macros:
            position, plane, measures = Dataset(), Dataset(), Dataset()
            ds.PlanePositionSequence, ds.PlaneOrientationSequence = [position], [plane]
            ds.PixelMeasuresSequence = [measures]
        position.ImagePositionPatient = decimals(self.position(k))
        plane.ImageOrientationPatient = decimals(self.axes[:, :2].T.ravel())
        measures.PixelSpacing = decimals([self.spacing[1], self.spacing[0]])
        measures.SliceThickness = "1.23"  # unlike the spacing: it must not be used

    def datasets(self) -> list[Dataset]:
        """One classic image a slice."""
        result = []
        for k, values in enumerate(self.values):
            ds = self.header()
            self.place(ds, k)
            ds.InstanceNumber = k + 1
            put_values(ds, values)
            for keyword, value in self.tags.items():
                setattr(ds, keyword, value)
            result.append(ds)
        return result

    def enhanced(self, order: Sequence[int] | None = None, *, shared: bool = True) -> Dataset:
        """One multi-frame image, its frames in an order of their own.

        Args:
            order: slice of each frame.
            shared: whether orientation and spacing are in the shared groups.
        """
        order = range(len(self.values)) if order is None else order
        ds = self.header(enhanced=True)
        ds.NumberOfFrames, ds.InstanceNumber = len(order), 1
        common, frames = Dataset(), []
        for k in order:
            frame, content = Dataset(), Dataset()
            self.place(frame, k, macros=True)
            content.StackID, content.InStackPositionNumber = "1", int(k) + 1
            frame.FrameContentSequence = [content]
            if shared:
                for keyword in ("PlaneOrientationSequence", "PixelMeasuresSequence"):
                    common[keyword] = frame[keyword]
                    del frame[keyword]
            frames.append(frame)
        ds.SharedFunctionalGroupsSequence, ds.PerFrameFunctionalGroupsSequence = [common], frames
        put_values(ds, self.values[list(order)])
        for keyword, value in self.tags.items():
            setattr(ds, keyword, value)
        return ds

    def save(
        self,
        folder: Path,
        order: Sequence[int] | None = None,
        edit: Callable[[list[Dataset]], object] | None = None,
    ) -> list[Path]:
        """Write the classic series; its slices get file names in the given order.

        Args:
            folder: made if it does not exist.
            order: slices in the order of their file names.
            edit: changes the list of images before.
        """
        images = self.datasets()
        if edit is not None:
            edit(images)
        names = [images[k] for k in order] if order is not None else images
        return [save(ds, folder / f"IM{n:04d}.dcm") for n, ds in enumerate(names)]


def random_stack(
    rng: np.random.Generator, n_slices: int | None = None, axes: np.ndarray | None = None
) -> Stack:
    """A series of random orientation, spacing and size."""
    shape = (n_slices or rng.integers(5, 9), *rng.integers(4, 9, 2))
    return Stack(
        rng.integers(0, 4096, shape).astype(np.uint16),
        oblique_axes(rng) if axes is None else axes,
        (*rng.uniform(0.4, 2.0, 2), rng.uniform(0.5, 6.0)),
        tuple(rng.uniform(-300, 300, 3)),
        str(rng.choice(["MR", "CT"])),
    )


def put_values(ds: Dataset, values: np.ndarray) -> None:
    data = values.tobytes()
    ds.add_new("PixelData", "OW", data + b"\0" * (len(data) % 2))


def decimals(values: Sequence[float] | np.ndarray) -> list[str]:
    """Decimal strings of at most 16 characters."""
    return [f"{value:.9f}"[:16] for value in np.asarray(values) + 0.0]


def save(ds: Dataset, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    ds.save_as(path, enforce_file_format=True)
    return path
