"""Load the image of a record, checked."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import EnsureChannelFirst, LoadImage, MapTransform
from monai.utils import ensure_tuple, ensure_tuple_rep
from torch import Tensor

from mdl_monai.errors import InputError
from mdl_monai.io.check_input import check_header, check_input
from mdl_monai.io.dicom.reader import DicomSeriesReader
from mdl_monai.io.nifti_reader import CheckedNiftiReader, is_nifti
from mdl_monai.io.png_reader import CheckedPNGReader
from mdl_monai.io.records import stem


class LoadInputd(MapTransform):
    """Load NIfTI files and DICOM series channel first, refusing what would give nonsense (see `check_input`).

    Of a record (`load_records`) the result holds the images alone: what else it lists (age, scanner, other
    files) must not disturb the batch. The record's ``case`` goes into each image's metadata, where the saved file
    takes its name from (`case_file_name`). Another tool's dictionary, which has no ``case``, keeps its entries but
    those named like an image with an underscore: MONAI Label reads its request again behind the transforms.

    In place of a file's name the record may hold the image itself, under the name of the result too: a `MetaTensor`
    as `LoadImage` gives it (MONAI Deploy does so), or a tensor or array, channel first.

    Args:
        keys: file names in the record.
        names: keys of the images in the result; those of the files if None.
        spatial_dims: allowed numbers of spatial axes.
        dicom_series: of a folder with several DICOM series the one that is meant: SeriesNumber or SeriesInstanceUID.
        dicom_allow: faults of a DICOM series that are put up with (`mdl_monai.io.dicom.geometry.ALLOWABLE`).
        modality: those that a DICOM series may be of ("MR", "CT"); any, if there are none.
    """

    channels: tuple[int, ...] = (1,)
    """Of the images that may come."""

    def __init__(
        self,
        keys: KeysCollection,
        names: KeysCollection | None = None,
        spatial_dims: Sequence[int] = (2, 3),
        dicom_series: int | str | None = None,
        dicom_allow: Sequence[str] = (),
        modality: str | Sequence[str] = (),
    ) -> None:
        super().__init__(keys)
        self.names = self.keys if names is None else ensure_tuple_rep(ensure_tuple(names), len(self.keys))
        self.spatial_dims = tuple(spatial_dims)
        self._nifti, self._png = CheckedNiftiReader(), CheckedPNGReader()
        self._dicom = DicomSeriesReader(dicom_series, dicom_allow, ensure_tuple(modality))
        with warnings.catch_warnings():
            # MONAI 1.6 warns in every run that its optional GPU decoder of DICOM is not installed
            warnings.filterwarnings("ignore", message="NvImgCodecPydicomReader")
            self._load = LoadImage(image_only=True)
        self._channel_first = EnsureChannelFirst(strict_check=False)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Record with file names (or images) to images [1, H, W] or [1, H, W, D], float32 `MetaTensor`.

        Raises:
            InputError: a file that is missing, unreadable or no image.
        """
        own = tuple(f"{name}_" for name in self.names)  # MONAI's Spacingd takes such entries for its metadata
        others = {} if "case" in data else {k: v for k, v in data.items() if not str(k).startswith(own)}
        return others | {
            name: self._image(data, name if key not in data and name in data else key)
            for key, name in zip(self.keys, self.names, strict=True)
        }

    def _image(self, record: Mapping[Hashable, Any], key: Hashable) -> Any:
        path = record[key]
        if isinstance(path, Tensor | np.ndarray):
            image = self._with_channel(_as_loaded(path))
            path = f"{key}, an image in memory"
        else:
            image = self._read(path)
        check_input(image, where=path, spatial_dims=self.spatial_dims, channels=self.channels)
        image.meta["case"] = record.get("case", stem(path))
        image.meta["patient"] = str(record.get("patient", ""))
        return image

    def _read(self, path: Any) -> Any:
        return self._with_channel(self._from_file(path))

    def _from_file(self, path: Any) -> Any:
        check_header(path, self.spatial_dims)
        # MONAI chooses by trying, and some of its readers take what the others refuse
        reader: Any = self._dicom
        if is_nifti(path) and not Path(path).is_dir():
            reader = self._nifti
        elif self._png.verify_suffix(path) and not Path(path).is_dir():
            reader = self._png
        try:
            # what float32 cannot hold is refused by `check_input`
            with np.errstate(over="ignore", invalid="ignore"):
                return self._load(path, reader)
        except InputError:
            raise
        except MemoryError as error:
            raise InputError("there is not enough memory for the image", where=path) from error
        except Exception as error:
            raise InputError("the image file cannot be read", where=path, found=error) from error

    def _with_channel(self, image: Any) -> Any:
        if image.ndim == max(self.spatial_dims) + 1 and image.shape[-1] == 1:
            image = image[..., 0]
            image.meta["original_channel_dim"] = "no_channel"
        return self._channel_first(image)


def _as_loaded(image: Tensor | np.ndarray) -> Any:
    """A copy in float32, its affine rounded as that of a file (see `DicomSeriesReader`)."""
    loaded = MetaTensor(image).clone().float()
    loaded.affine = loaded.affine.float().double()
    loaded.meta.setdefault("original_channel_dim", 0)
    return loaded


def case_file_name(metadata: Mapping[str, Any], saver: Any) -> dict[str, Any]:
    """`output_name_formatter` of `SaveImaged`: the file is named after the case.

    MONAI cuts a name at its last dot, so the suffix is given with it.
    """
    return {"subject": f"{metadata['case']}.nii.gz", "idx": None}
