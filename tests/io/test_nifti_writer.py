from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import SaveImage

from mdl_monai.io.nifti_writer import DERIVATION, AtomicNibabelWriter


@pytest.mark.parametrize("shape", [(1, 5, 6, 7), (1, 5, 6, 1)])
@pytest.mark.parametrize("dtype", [np.float32, np.int16, np.uint8])
def test_the_file_tells_how_the_image_came_about(shape: tuple[int, ...], dtype: type, tmp_path: Path) -> None:
    affine = torch.tensor([[0.0, 2, 0, 1], [-3, 0, 0, 2], [0, 0, 4, 3], [0, 0, 0, 1]], dtype=torch.float64)
    values = 100 * torch.rand(shape, generator=torch.Generator().manual_seed(0))
    values = values if dtype is np.float32 else values.round()
    for name, meta in (("told", {DERIVATION: "retrospectively undersampled, é" + 80 * "x"}), ("plain", {})):
        image = MetaTensor(values, affine=affine, meta={"filename_or_obj": f"{name}.nii.gz", **meta})
        SaveImage(
            tmp_path, "", ".nii.gz", dtype, writer=AtomicNibabelWriter, separate_folder=False, print_log=False
        )(image)
    told, plain = (nib.load(tmp_path / f"{name}.nii.gz") for name in ("told", "plain"))
    assert bytes(told.header["descrip"]).startswith(b"retrospectively undersampled, ?xxx")
    assert not any(bytes(plain.header["descrip"]))
    for file in (told, plain):
        assert np.array_equal(file.get_fdata(), values[0].numpy()) and np.allclose(file.affine, affine)
        assert file.get_data_dtype() == dtype
