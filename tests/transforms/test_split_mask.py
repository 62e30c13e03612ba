from __future__ import annotations

import torch

from mdl_monai.transforms.split_mask import SplitMaskd


def test_image_and_mask_part_and_put_together_are_what_they_were() -> None:
    both = torch.rand(3, 4, 5)
    record = {"label": both, "image": torch.zeros(1, 4, 5)}
    found = SplitMaskd("label", ["mask_label", "mask_image"])(record)
    assert set(found) == {"label", "image", "mask_label", "mask_image"}
    assert torch.equal(torch.cat((found["label"], found["mask_label"])), both)
    assert found["mask_image"].shape == (1, 4, 5) and torch.equal(found["mask_image"], found["mask_label"])
    assert record["label"] is both, "the record that was given is left as it was"
