"""MONAI's NIfTI writer, made atomic."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import nibabel as nib
import numpy as np
from monai.data import NibabelWriter

from mdl_monai.io.atomic import atomic_path

DERIVATION = "derivation"
"""Key of an image's metadata: how it came about, where it is not plainly computed from what a scanner measured."""


class AtomicNibabelWriter(NibabelWriter):
    """`NibabelWriter` whose file is whole or absent, and the old one untouched if writing fails.

    The metadata's ``derivation`` goes into the header ("retrospectively undersampled ...").

    For ``SaveImaged(writer=...)``, as this class or, in a bundle config, as its dotted name in a string:
    "mdl_monai.io.nifti_writer.AtomicNibabelWriter".
    """

    def set_metadata(self, meta_dict: Mapping | None, resample: bool = True, **options: Any) -> None:
        """Take the affine, and resample to the original one if asked; arguments as in `NibabelWriter`.

        MONAI 1.6.1 calls its resampler even with ``resample=False`` (the default of `SaveImaged`), and that
        call fails for 2D images; here the array then stays as it is.
        """
        self.derivation = str((meta_dict or {}).get(DERIVATION, ""))
        if resample:
            super().set_metadata(meta_dict, resample=True, **options)
            return
        _, self.affine, _ = self.get_meta_info(meta_dict)

    def set_data_array(
        self,
        data_array: Any,
        channel_dim: int | None = 0,
        squeeze_end_dims: bool = True,
        **kwargs: Any,
    ) -> None:
        """Take the data; arguments as in `NibabelWriter.set_data_array`.

        MONAI drops axes of length 1 at the end, so a volume of one slice would come back as a slice.
        """
        super().set_data_array(data_array, channel_dim, squeeze_end_dims, **kwargs)
        if channel_dim == 0 and data_array.shape[0] == 1:
            self.data_obj = self.data_obj.reshape(tuple(data_array.shape[1:]))

    def write(self, filename: str | os.PathLike[str], verbose: bool = False, **obj_kwargs: Any) -> None:
        """Write the data array to ``filename``; arguments as in `NibabelWriter.write`."""
        with atomic_path(filename) as temporary:
            header = nib.Nifti1Header()
            header.set_data_dtype(np.dtype(self.output_dtype))  # else the header's own float32
            header["descrip"] = self.derivation.encode("ascii", "replace")[:79]
            super().write(temporary, verbose=verbose, **{"header": header, **obj_kwargs})
