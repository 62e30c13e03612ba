import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from monai.data import MetaTensor
from monai.transforms import LoadImage
from warp_cases import FRAMES, direction, grid, world

from mdl_monai.errors import InputError
from mdl_monai.registration.volume import Volume


@pytest.mark.parametrize("frame", FRAMES)
def test_a_nifti_file_has_the_same_places_for_simpleitk(tmp_path, frame):
    volume = grid(frame, (5, 7, 4), (1.2, 0.8, 3.0), (10.0, -20.0, 30.0))
    volume = volume.with_values(torch.rand(5, 7, 4))
    nib.save(nib.Nifti1Image(volume.values.numpy(), volume.affine.numpy()), tmp_path / "image.nii.gz")
    ours, theirs = volume.to_sitk(), sitk.ReadImage(str(tmp_path / "image.nii.gz"))
    loaded = Volume.from_image(LoadImage(ensure_channel_first=True)(tmp_path / "image.nii.gz"))
    torch.testing.assert_close(loaded.values, volume.values)
    torch.testing.assert_close(loaded.affine, volume.affine, atol=1e-4, rtol=1e-5)
    for index in ((0, 0, 0), (4, 1, 3), (2, 6, 0)):
        place = ours.TransformIndexToPhysicalPoint(index)
        np.testing.assert_allclose(place, theirs.TransformIndexToPhysicalPoint(index), atol=1e-4)
        np.testing.assert_allclose(world(volume)[index] * torch.tensor([-1, -1, 1]), place, atol=1e-9)
        assert ours[index] == theirs[index] == volume.values[index]


@pytest.mark.parametrize("frame", FRAMES)
def test_a_plane_has_the_same_places_for_simpleitk(frame):
    volume = grid(frame, (5, 7), (1.2, 0.8), (10.0, -20.0)).with_values(torch.rand(5, 7))
    image = volume.to_sitk()
    np.testing.assert_allclose(image.TransformIndexToPhysicalPoint((3, 6)), -world(volume)[3, 6], atol=1e-9)
    assert image[3, 6] == volume.values[3, 6]
    torch.testing.assert_close(volume.spacing, torch.tensor([1.2, 0.8], dtype=torch.float64))


def test_a_slice_keeps_its_axes_in_the_axial_plane_and_its_spacing_in_others():
    axial = torch.eye(4, dtype=torch.float64)
    axial[:3, :3] = torch.block_diag(direction("oblique", 2) * torch.tensor([2.0, 3.0]), torch.tensor(5.0))
    axial[:3, 3] = torch.tensor([7.0, 8, 9])
    found = Volume.from_image(MetaTensor(torch.rand(1, 4, 5), affine=axial)).affine
    torch.testing.assert_close(found[:2, :2], axial[:2, :2])
    torch.testing.assert_close(found[:2, 2], axial[:2, 3])
    sagittal = torch.zeros(4, 4, dtype=torch.float64)
    sagittal[1, 0], sagittal[2, 1], sagittal[0, 2], sagittal[3, 3] = 2, -3, 5, 1
    found = Volume.from_image(MetaTensor(torch.rand(1, 4, 5), affine=sagittal)).affine
    torch.testing.assert_close(found, torch.diag(torch.tensor([2.0, 3, 1], dtype=torch.float64)))


@pytest.mark.parametrize("shape", [(2, 8, 9, 7), (8, 9), (1, 2, 8, 9, 7)])
def test_other_shapes_are_refused_in_one_sentence(shape):
    with pytest.raises(InputError, match="one grey-value image") as error:
        Volume.from_image(MetaTensor(torch.rand(shape)))
    assert f"found: shape {shape}" in str(error.value)


def test_standardised_values_do_not_depend_on_gain_and_offset():
    volume = grid("RAS", (9, 8), (1, 1)).with_values(torch.rand(9, 8, dtype=torch.float64))
    one = volume.standardised().values
    assert one.dtype == torch.float32 and abs(one.mean()) < 1e-6 and abs(one.square().mean() - 1) < 1e-5
    for gain, offset in ((1e6, 0), (1e-9, 0), (1, 1000), (5e5, -1e8)):
        other = volume.with_values(volume.values * gain + offset).standardised().values
        torch.testing.assert_close(other, one, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("value", [0.0, 0.1, -1e7, 1e-20])
def test_a_constant_image_is_all_zeros(value):
    values = torch.full((9, 8, 5), value)
    assert not grid("RAS", (9, 8, 5), (1, 1, 1)).with_values(values).standardised().values.any()
