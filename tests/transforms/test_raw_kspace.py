from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import torch

from mdl_monai.physics.coils import simulated_coil_maps
from mdl_monai.physics.fourier import fft2c
from mdl_monai.transforms.kspace import SimulateKSpaced
from mdl_monai.transforms.raw_kspace import CombineCoilsd, LoadKSpaced


def coil_file(path: Path) -> torch.Tensor:
    """Three slices seen by four coils; the images [3, 18, 23]."""
    image = torch.rand(3, 18, 23, generator=torch.Generator().manual_seed(3))
    with h5py.File(path, "w") as file:
        file["kspace"] = fft2c(image[:, None] * simulated_coil_maps(4, (18, 23))).numpy()
    return image


def test_there_and_back_is_the_combined_image(tmp_path: Path) -> None:
    image = coil_file(tmp_path / "a.h5")
    record = LoadKSpaced("file")({"file": str(tmp_path / "a.h5"), "case": "one", "patient": "p"})
    assert set(record) == {"image"} and record["image"].shape == (3, 18, 23, 12)
    assert record["image"].meta["case"] == "one" and (record["image"][2] == 1).all()
    coils = torch.fft.fftshift(
        torch.fft.ifft2(
            torch.fft.ifftshift(
                torch.complex(record["image"][0], record["image"][1]).as_tensor(), dim=(0, 1)
            ),
            dim=(0, 1),
            norm="ortho",
        ),
        dim=(0, 1),
    )
    found = CombineCoilsd(["pred", "label"], allow_missing_keys=True)({**record, "pred": coils.abs()[None]})
    assert torch.allclose(found["pred"][0].as_tensor(), image.permute(1, 2, 0), atol=1e-5)
    assert torch.allclose(found["adjoint"].as_tensor(), found["pred"].as_tensor(), atol=1e-5)


def test_simulation_leaves_out_what_its_mask_does_and_keeps_the_reference(tmp_path: Path) -> None:
    image = coil_file(tmp_path / "a.h5")
    simulation = SimulateKSpaced("image", mask_type="cartesian1d", sampling_ratio=0.4, seed=2)
    record = LoadKSpaced("file", simulation=simulation)({"file": str(tmp_path / "a.h5")})
    mask = simulation.mask_for(18, 23, where="")
    assert 0 < mask.mean() < 1
    assert torch.equal(record["image"][2].as_tensor(), mask[..., None].expand(18, 23, 12))
    assert not record["image"][:2, mask == 0].any()
    found = CombineCoilsd("label")(record)
    assert torch.allclose(found["label"][0].as_tensor(), image.permute(1, 2, 0), atol=1e-5)


def test_the_image_is_cut_or_padded_to_the_size_that_the_scanner_shows(tmp_path: Path) -> None:
    image = coil_file(tmp_path / "a.h5")
    record = LoadKSpaced("file")({"file": str(tmp_path / "a.h5")})
    record["image"].meta["size"] = (18, 30)
    magnitudes = (
        (image[:, None] * simulated_coil_maps(4, (18, 23)).abs()).flatten(0, 1).permute(1, 2, 0)[None]
    )
    wide = CombineCoilsd("pred")({**record, "pred": magnitudes})["pred"]
    record["image"].meta["size"] = (18, 11)
    narrow = CombineCoilsd("pred")({**record, "pred": magnitudes})["pred"]
    assert wide.shape == (1, 18, 30, 3) and narrow.shape == (1, 18, 11, 3)
    first, last = (round(float(found.affine[1, 3])) for found in (wide, narrow))
    assert (first, last) == (-3, 6)  # where the first column lies, in columns of 1 mm
    assert np.allclose(wide[:, :, last - first : last - first + 11], narrow)
