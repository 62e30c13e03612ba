"""Write a result as DICOM, where its input was DICOM."""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from monai.config import KeysCollection
from monai.transforms import MapTransform

from mdl_monai.errors import InputError
from mdl_monai.io.dicom.derived import KINDS, write_series
from mdl_monai.io.dicom.objects import is_dicom
from mdl_monai.io.dicom.provenance import Software
from mdl_monai.io.dicom.segmentation import require_highdicom, write_segmentation
from mdl_monai.io.dicom.segments import segments_of
from mdl_monai.io.dicom.series import load_series
from mdl_monai.io.nifti_writer import DERIVATION
from mdl_monai.io.records import stem

SEGMENTATION: Final = "segmentation"


class SaveDicomd(MapTransform):
    """Write results into the study of the DICOM series that they were computed from.

    A label map becomes a Segmentation object, OUTPUT_DIR/<case>.dcm; an image a series, OUTPUT_DIR/<case>/. The
    source is the file, zip or folder in the result's metadata (``filename_or_obj``), read once more, its headers
    alone, with the reader's options as they are there (``dicom_series``, ``dicom_allow``). A series says how it came
    about, as the metadata do (``derivation``).

    Args:
        keys: results on their input's grid, `MetaTensor`.
        output_dir: folder to write to.
        kind: "segmentation", "ct" (synthetic, HU) or "mr" (reconstructed).
        metadata: the bundle's ``metadata.json``, or its path: name, version, names of labels.
        labels: label values where they are others than the metadata's; background left out.
        names: names of these, by value.

    Raises:
        InputError: unknown kind, metadata that is unreadable or lacks name, version or labels;
            highdicom not installed, for a segmentation.
    """

    def __init__(
        self,
        keys: KeysCollection,
        output_dir: str | Path,
        kind: Literal["segmentation", "ct", "mr"],
        metadata: Mapping[str, Any] | str | Path,
        labels: Sequence[int] | None = None,
        names: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(keys)
        if kind not in (SEGMENTATION, *KINDS):
            raise InputError(
                f"unknown kind of DICOM {kind!r}", expected=f"one of {', '.join((SEGMENTATION, *KINDS))}"
            )
        if not isinstance(metadata, Mapping):
            try:
                metadata = dict(json.loads(Path(metadata).read_text(encoding="utf-8")))
            except (OSError, ValueError, TypeError) as error:
                raise InputError("the bundle's metadata cannot be read", where=metadata) from error
        if not (metadata.get("name") and metadata.get("version")):
            raise InputError("the bundle's metadata has no name or version", expected="both")
        if kind == SEGMENTATION:
            require_highdicom()
        self.output_dir, self.kind = Path(output_dir), kind
        self.software = Software(str(metadata["name"]), str(metadata["version"]))
        self.segments = segments_of(metadata, labels, names) if kind == SEGMENTATION else []

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Write; the record stays as it is.

        Raises:
            InputError: an input that is no DICOM, and what the writers refuse.
        """
        for key in self.key_iterator(data):
            self._write(data[key])
        return dict(data)

    def _write(self, image: Any) -> None:
        path = Path(str(image.meta["filename_or_obj"]))
        case = image.meta.get("case") or stem(path)
        if not (path.is_dir() or path.suffix.lower() == ".zip" or is_dicom(path)):
            raise InputError(
                "the result of an input that is no DICOM cannot be written as DICOM",
                where=path,
                expected="a DICOM series: a folder, a zip of one or a file",
                remedy="leave --write_dicom out",
            )
        target = self.output_dir / (f"{case}.dcm" if self.kind == SEGMENTATION else case)
        if target.resolve().is_relative_to(path.resolve()) or path.resolve().is_relative_to(target.resolve()):
            raise InputError(
                "the result would be written into its own source",
                where=target,
                remedy="name another --output_dir",
            )
        if image.shape[0] != 1:
            raise InputError("the result to write has several channels", where=target, found=len(image))
        series, allow = (str(image.meta.get(f"dicom_{option}") or "") for option in ("series", "allow"))
        source = load_series(path, series or None, allow.split(",") if allow else (), pixels=False)
        array, affine = np.asarray(image[0].cpu()), np.asarray(image.affine.cpu(), dtype=float)
        if self.kind == SEGMENTATION:
            write_segmentation(array, affine, source, target, self.segments, self.software)
        else:
            told = str(image.meta.get(DERIVATION, ""))
            write_series(array, affine, source, target, self.kind, self.software, told)
