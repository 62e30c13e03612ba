"""Claim: a checked series of 200 slices of 256 x 256 takes at most 1.5 times a plain pydicom loop over its files.

The loop decodes each file in the order of the names and stacks the stored values, without a look at the geometry or
at RescaleSlope. The headers are short (27 tags), where the loop is quickest; a scanner's hold a hundred or more,
which both must parse.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pydicom
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from mdl_monai.io.dicom.series import load_series

LARGEST_RATIO = 1.5
SLICES, ROWS, COLUMNS = 200, 256, 256
REPEATS = 11


def write_series(folder: Path) -> list[Path]:
    """A CT series of random values, 12 of 16 bits."""
    rng, paths = np.random.default_rng(0), []
    study, series, reference = generate_uid(), generate_uid(), generate_uid()
    for k in range(SLICES):
        ds = Dataset()
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, generate_uid()
        ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = study, series, reference
        ds.ImageType, ds.Modality, ds.SeriesNumber, ds.InstanceNumber = (
            ["ORIGINAL", "PRIMARY"],
            "CT",
            2,
            k + 1,
        )
        ds.PatientName, ds.PatientID, ds.StudyDate, ds.StudyTime = "Bench^Mark", "1", "20200101", "101010"
        ds.ImagePositionPatient = [-125.123456, -130.654321, -300.5 + 1.25 * k]
        ds.ImageOrientationPatient, ds.PixelSpacing, ds.SliceThickness = (
            [1, 0, 0, 0, 1, 0],
            [0.9765625] * 2,
            1.25,
        )
        ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.Rows, ds.Columns = (
            1,
            "MONOCHROME2",
            ROWS,
            COLUMNS,
        )
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
        ds.RescaleSlope, ds.RescaleIntercept = 1, -1024
        ds.add_new("PixelData", "OW", rng.integers(0, 4096, (ROWS, COLUMNS)).astype("<u2").tobytes())
        paths.append(folder / f"IM{k:04d}.dcm")
        ds.save_as(paths[-1], enforce_file_format=True)
    return paths


def cpu_seconds(function: Callable[[], object]) -> float:
    """CPU time of one call: other work on the machine disturbs it less."""
    begin = time.process_time()
    function()
    return time.process_time() - begin


def main() -> None:
    """Print the times of one slice, and the median ratio of calls that take turns."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        paths = write_series(folder)

        def plain() -> np.ndarray:
            return np.stack([pydicom.dcmread(path).pixel_array for path in paths])

        array = load_series(folder).array
        assert array is not None and np.array_equal(array.T, plain() - 1024.0)
        times = [(cpu_seconds(plain), cpu_seconds(lambda: load_series(folder))) for _ in range(REPEATS)]
    loop, ours = (statistics.median(column) / SLICES * 1e3 for column in zip(*times, strict=True))
    ratio = statistics.median(checked / plain_ for plain_, checked in times)
    print(f"plain pydicom loop {loop:.3f} ms a slice, load_series {ours:.3f} ms a slice")
    print(f"ratio {ratio:.2f} (claim: at most {LARGEST_RATIO})")


if __name__ == "__main__":
    main()
