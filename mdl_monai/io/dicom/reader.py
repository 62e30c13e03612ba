"""DICOM series as input of MONAI's `LoadImage`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.config import PathLike
from monai.data.image_reader import ImageReader
from monai.utils import MetaKeys, SpaceKeys, ensure_tuple

from mdl_monai.errors import InputError
from mdl_monai.io.dicom.geometry import check_allow
from mdl_monai.io.dicom.objects import image_files, is_dicom
from mdl_monai.io.dicom.series import load_series


class DicomSeriesReader(ImageReader):
    """Read a DICOM series: a folder, a zip of one, or a file (see `load_series`).

    Made for ``LoadImaged(reader=DicomSeriesReader)``, by class or dotted name, and for ``LoadImage().register``.
    Other files are left to MONAI's own readers. The metadata holds the geometry and the path alone, nothing of the
    headers: what is in it ends up in pictures, logs and files.

    Args:
        series: SeriesNumber or SeriesInstanceUID, where a folder holds several series.
        allow: faults that are put up with, of `geometry.ALLOWABLE`.
        modality: those that the series may be of ("MR", "CT"); any, if there are none.

    Raises:
        InputError: an unknown name in `allow`.
    """

    def __init__(
        self, series: int | str | None = None, allow: Sequence[str] = (), modality: Sequence[str] = ()
    ) -> None:
        super().__init__()
        check_allow(allow)
        self.series, self.allow, self.modality = series, tuple(allow), tuple(modality)

    def verify_suffix(self, filename: Sequence[PathLike] | PathLike) -> bool:
        """Whether all paths are folders that hold DICOM, zips or DICOM files."""
        paths = [Path(name) for name in ensure_tuple(filename)]
        return all(
            any(is_dicom(file) for file in image_files(path)) if path.is_dir() else _is_ours(path)
            for path in paths
        )

    def read(self, data: Sequence[PathLike] | PathLike, **kwargs: Any) -> list[Path]:
        """Paths of the series, which `get_data` loads.

        `LoadImage` tries its other readers where this raises, and MONAI's own DICOM readers take a series whatever
        its faults. So this raises for what is no DICOM only.

        Raises:
            InputError: a file that is no DICOM.
        """
        paths = [Path(name) for name in ensure_tuple(data)]
        for path in paths:
            if not (path.is_dir() or _is_ours(path)):
                raise InputError("the file is not DICOM", where=path)
        return paths

    def get_data(self, img: Sequence[Path]) -> tuple[np.ndarray, dict[str, Any]]:
        """Array [columns, rows, slices], float32, and its metadata.

        Raises:
            InputError: several paths, or as `load_series`.
        """
        if len(img) != 1:
            raise InputError(
                "one DICOM series a record", where=", ".join(map(str, img)), found=f"{len(img)} paths",
                remedy="give the folder that holds the files",
            )  # fmt: skip
        loaded = load_series(img[0], self.series, self.allow, modality=self.modality)
        assert loaded.array is not None
        # As NIfTI would hold it: by rounding of 1e-8 mm MONAI's Spacing decides where its oblique grids begin
        affine = loaded.affine.astype(np.float32).astype(np.float64)
        return loaded.array, {
            MetaKeys.AFFINE: affine,
            MetaKeys.ORIGINAL_AFFINE: affine.copy(),
            MetaKeys.SPATIAL_SHAPE: np.asarray(loaded.array.shape),
            MetaKeys.ORIGINAL_CHANNEL_DIM: "no_channel",
            MetaKeys.SPACE: SpaceKeys.RAS,
            "filename_or_obj": str(img[0]),
            # what reads it once more where a result is written; None and lists do not collate
            "dicom_series": "" if self.series is None else str(self.series),
            "dicom_allow": ",".join(self.allow),
        }


def _is_ours(path: Path) -> bool:
    return path.suffix.lower() in (".zip", ".dcm") or is_dicom(path)
