"""From the network's border back to images of the input's size and kind."""

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor

from mdl_monai.physics.masked_transform import MaskedTransform
from mdl_monai.physics.orthonormal import BlockGaussian
from mdl_monai.physics.sampling import CoefficientSampling
from mdl_monai.transforms.sensing import SimulateSensingd
from mdl_monai.transforms.show_reconstruction import ShowReconstructiond


def measured(*shape: int) -> dict:
    transform = BlockGaussian()
    simulated = SimulateSensingd("image", MaskedTransform(transform), CoefficientSampling(transform, 1.0))
    return simulated({"image": MetaTensor(torch.rand(1, *shape), meta={"case": "a"})})


@pytest.mark.parametrize("shape", [(33, 50), (32, 64), (5, 31), (37, 64, 3)])
def test_padding_and_cropping_are_a_round_trip(shape: tuple[int, ...]) -> None:
    record = measured(*shape)
    record["pred"] = record["image"][:1]  # everything was measured, so the adjoint is the image
    shown = ShowReconstructiond(["pred", "label"], channels=1)(record)
    for key in ("pred", "adjoint", "label"):
        assert shown[key].shape == (1, *shape) and shown[key].meta["case"] == "a"
        torch.testing.assert_close(shown[key].as_tensor(), record["label"].as_tensor(), atol=1e-4, rtol=1e-4)
    assert torch.equal(shown["mask"], record["image"][1].as_tensor())


def test_complex_images_become_magnitudes() -> None:
    image = MetaTensor(
        torch.cat([torch.full((1, 6, 7), 3.0), torch.full((1, 6, 7), -4.0), torch.ones(1, 6, 7)])
    )
    shown = ShowReconstructiond(["pred"], channels=2)({"image": image, "pred": image[:2]})
    for key in ("pred", "adjoint"):
        assert torch.equal(shown[key].as_tensor(), torch.full((1, 6, 7), 5.0))
    assert torch.equal(shown["mask"], torch.ones(6, 7))


@pytest.mark.parametrize("channels", [1, 2])
def test_a_channel_more_is_the_uncertainty(channels: int) -> None:
    image = MetaTensor(torch.rand(channels + 1, 6, 7), meta={"case": "a"})
    pred = torch.rand(channels + 1, 6, 7)
    shown = ShowReconstructiond(["pred"], channels=channels)({"image": image, "pred": pred})
    assert torch.equal(shown["uncertainty"].as_tensor(), pred[-1:])
    torch.testing.assert_close(shown["pred"].as_tensor(), pred[:channels].norm(dim=0, keepdim=True))
    assert "uncertainty" not in ShowReconstructiond(["pred"], channels)(
        {"image": image, "pred": pred[:channels]}
    )


def test_the_field_of_view_of_raw_data_is_cut_and_filled() -> None:
    image = MetaTensor(torch.rand(2, 10, 8), meta={"size": (6, 12)})
    shown = ShowReconstructiond(["pred"], channels=1)({"image": image, "pred": image[:1]})["pred"].as_tensor()
    assert shown.shape == (1, 6, 12)
    assert torch.equal(shown[..., 2:10], image.as_tensor()[:1, 2:8])
    assert not shown[..., :2].any() and not shown[..., 10:].any()


def test_a_missing_reference_stays_missing() -> None:
    image = MetaTensor(torch.rand(2, 4, 4))
    show = ShowReconstructiond(["pred", "label"], channels=1, allow_missing_keys=True)
    assert "label" not in show({"image": image, "pred": image[:1]})
    assert show({"image": image, "pred": image[:1], "label": None})["label"] is None
    with pytest.raises(KeyError):
        ShowReconstructiond(["pred", "label"], channels=1)({"image": image, "pred": image[:1]})
