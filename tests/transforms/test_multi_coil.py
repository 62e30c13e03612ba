"""Raw multi-coil k-space and complex images, as the multi-coil bundle reads them."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from mdl_monai.errors import InputError
from mdl_monai.phantoms.head import head_phantom
from mdl_monai.physics.coils import simulated_coil_maps
from mdl_monai.physics.fourier import fft2c
from mdl_monai.physics.sampling import CoilSampling
from mdl_monai.transforms.intensity import RestoreIntensityd
from mdl_monai.transforms.multi_coil import LoadComplexd, LoadMultiCoild
from mdl_monai.transforms.show_reconstruction import ShowReconstructiond

H, W, COILS = 40, 46, 4


def write(path: Path, columns: slice | None = None, maps: bool = True, coils: int = COILS) -> torch.Tensor:
    """Two slices, complex, seen by coils; the image [2, H, W]."""
    magnitude = head_phantom(0, (H, W, 2), (5.2, 5.2, 20.0)).mr.permute(2, 0, 1)
    image = torch.polar(magnitude, torch.linspace(0, 2, W).expand_as(magnitude).contiguous())
    true = simulated_coil_maps(coils, (H, W)) if coils > 1 else torch.ones(1, H, W, dtype=torch.complex64)
    kspace = fft2c(image[:, None] * true)
    if columns is not None:
        kept = torch.zeros(W)
        kept[columns] = 1
        kspace = kspace * kept
    with h5py.File(path, "w") as file:
        file["kspace"] = kspace.numpy()
        if maps:
            file["maps"] = true.expand(2, -1, -1, -1).numpy()
    return image


def test_full_kspace_with_its_maps_is_the_image(tmp_path: Path) -> None:
    image = write(tmp_path / "a.h5")
    record = LoadMultiCoild("file")({"file": tmp_path / "a.h5", "patient": "p"})
    border = record["image"].as_tensor()
    assert border.shape == (3 + 2 * COILS, H, W, 2) and (border[2] == 1).all()
    found = torch.complex(border[0], border[1]).permute(2, 0, 1)
    torch.testing.assert_close(found, image, atol=1e-5, rtol=1e-4)
    record["pred"] = border[:2]
    shown = RestoreIntensityd(["pred"])(
        ShowReconstructiond(["pred", "label"], 2, allow_missing_keys=True)(record)
    )
    torch.testing.assert_close(
        shown["pred"].as_tensor()[0], image.abs().permute(1, 2, 0), atol=1e-5, rtol=1e-4
    )
    torch.testing.assert_close(shown["adjoint"].as_tensor(), shown["pred"].as_tensor())


def test_estimated_maps_give_nearly_the_same_magnitude(tmp_path: Path) -> None:
    image = write(tmp_path / "a.h5", maps=False)
    border = LoadMultiCoild("file")({"file": tmp_path / "a.h5"})["image"].as_tensor()
    found = border[:2].square().sum(0).sqrt().permute(2, 0, 1)
    assert (found - image.abs()).norm() < 0.05 * image.norm()


def test_simulation_leaves_samples_out_and_keeps_the_reference(tmp_path: Path) -> None:
    image = write(tmp_path / "a.h5")
    simulation = CoilSampling("cartesian1d", 0.3, COILS)
    record = LoadMultiCoild("file", simulation=simulation, seed=3)({"file": tmp_path / "a.h5"})
    border, label = record["image"].as_tensor(), record["label"].as_tensor()
    mask = simulation.mask(H, W, np.random.default_rng(3))[0]
    assert torch.equal(border[2], mask[..., None].expand(H, W, 2)) and 0.2 < mask.mean() < 0.4
    torch.testing.assert_close(
        torch.complex(label[0], label[1]).permute(2, 0, 1), image, atol=1e-5, rtol=1e-4
    )
    assert (border[:2] - label).norm() > 0.1 * label.norm()


def test_an_undersampled_scan_without_middle_or_maps_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.h5", columns=slice(0, 20), maps=False)
    with pytest.raises(InputError, match=r"(?s)without a gap.*a\.h5"):
        LoadMultiCoild("file")({"file": tmp_path / "a.h5"})


def test_maps_of_another_shape_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "a") as file:
        del file["maps"]
        file["maps"] = np.ones((2, COILS, H, W - 1), dtype=np.complex64)
    with pytest.raises(InputError, match="maps do not fit"):
        LoadMultiCoild("file")({"file": tmp_path / "a.h5"})


def test_kspace_of_one_coil_is_a_complex_image(tmp_path: Path) -> None:
    image = write(tmp_path / "a.h5", coils=1, maps=False)
    found = LoadComplexd("image")({"image": tmp_path / "a.h5"})["image"]
    assert found.shape == (2, H, W, 2) and found.meta["case"] == "a"
    torch.testing.assert_close(
        torch.complex(*found.as_tensor()).permute(2, 0, 1), image, atol=1e-5, rtol=1e-4
    )


@pytest.mark.parametrize("options", [{"coils": 2}, {"coils": 1, "columns": slice(10, 30)}])
def test_raw_data_of_a_scan_is_no_complex_image(tmp_path: Path, options: dict) -> None:
    write(tmp_path / "a.h5", maps=False, **options)
    with pytest.raises(InputError, match="OVERLAY=kspace"):
        LoadComplexd("image")({"image": tmp_path / "a.h5"})


@pytest.mark.parametrize("coils", [1, COILS])
def test_without_maps_the_reference_is_the_root_of_the_sum_of_squares_of_all(
    coils: int, tmp_path: Path
) -> None:
    image = write(tmp_path / "a.h5", maps=False, coils=coils)
    seen = image[:, None] * simulated_coil_maps(coils, (H, W)) if coils > 1 else image[:, None]
    simulation = CoilSampling("cartesian1d", 0.5, coils)
    record = LoadMultiCoild("file", simulation=simulation)({"file": tmp_path / "a.h5"})
    label = record["label"].as_tensor().permute(3, 0, 1, 2)
    torch.testing.assert_close(label[:, 0], seen.abs().square().sum(1).sqrt(), atol=1e-5, rtol=1e-4)
    assert not label[:, 1].any()
    assert record["image"].shape[0] == 3 + 2 * coils
