from __future__ import annotations

import torch
from monai.data import MetaTensor

from mdl_monai.transforms.intensity import INTENSITY_SCALE, RestoreIntensityd, ScaleToPeakd


def test_each_slice_gets_a_peak_of_one_and_an_empty_one_stays_empty() -> None:
    image = MetaTensor(torch.rand(1, 5, 6, 3) * torch.tensor([10.0, 0.0, 1e6]), meta={"case": "a"})
    scaled = ScaleToPeakd("image")({"image": image})
    assert scaled["image"].abs().amax((0, 1, 2)).tolist() == [1.0, 0.0, 1.0]
    assert scaled["image"].meta["case"] == "a"


def test_scaling_and_restoring_give_the_image_back_with_its_metadata() -> None:
    image = MetaTensor(torch.rand(1, 5, 6, 3) * 700 - 20, affine=torch.diag(torch.tensor([2.0, 3, 4, 1])))
    record = ScaleToPeakd("image")({"image": image})
    record["pred"] = record["image"].as_tensor()
    restored = RestoreIntensityd(["pred", "label"], allow_missing_keys=True)(record)["pred"]
    torch.testing.assert_close(restored.as_tensor(), image.as_tensor())
    torch.testing.assert_close(restored.affine, image.affine)


def test_a_2d_image_has_one_divisor() -> None:
    record = ScaleToPeakd("image")({"image": torch.full((1, 4, 4), 8.0)})
    assert record[INTENSITY_SCALE].flatten().tolist() == [8.0]
