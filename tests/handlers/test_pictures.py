from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.data import MetaTensor

from mdl_monai.handlers.pictures import ERROR_WINDOW, ReconstructionPictures, reconstruction_figure
from mdl_monai.transforms.kspace import undersample


def item(case: str, *shape: int) -> dict:
    label = torch.rand(1, *shape)
    mask = (torch.rand(shape[:2]) < 0.5).float()
    return {
        "image": undersample(label, mask),
        "label": label,
        "pred": MetaTensor(label + 0.01, meta={"case": case}),
    }


def test_slices_and_volumes_are_drawn_through_the_engine(tmp_path: Path) -> None:
    engine = Engine(lambda engine, batch: batch)
    ReconstructionPictures(str(tmp_path)).attach(engine)
    engine.run([[item("a", 16, 20)], [item("b", 16, 20, 3)]])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png", "b.png"]


def test_of_a_volume_the_slice_with_the_most_signal_is_drawn() -> None:
    volume = item("a", 16, 20, 5)
    volume["label"][..., 3] += 1
    volume["pred"][..., 1] += 5
    pictures = ReconstructionPictures("unused")
    shown = pictures.figure(volume).axes[1].images[0].get_array()
    np.testing.assert_allclose(shown, volume["pred"][0, :, :, 3].T)
    del volume["label"]
    shown = pictures.figure(volume).axes[1].images[0].get_array()
    np.testing.assert_allclose(shown, volume["pred"][0, :, :, 1].T)


def test_without_a_reference_input_and_result_stand_alone_each_at_its_own_peak() -> None:
    case = item("a", 16, 20)
    case["pred"] *= 400
    del case["label"]
    figure = ReconstructionPictures("unused").figure(case)
    assert [axis.get_title() for axis in figure.axes] == ["zero-filled", "reconstruction"]
    for axis in figure.axes:
        assert axis.images[0].get_clim() == (0, pytest.approx(float(axis.images[0].get_array().max())))


@pytest.mark.parametrize("referenced", [True, False])
def test_an_uncertainty_is_the_last_panel(referenced: bool) -> None:
    case = item("a", 16, 20, 3)
    case["uncertainty"] = torch.full((1, 16, 20, 3), 0.25) * case["pred"].max()
    if not referenced:
        del case["label"]
    axes = [a for a in ReconstructionPictures("unused").figure(case).axes if a.get_title()]
    assert len(axes) == (5 if referenced else 3) and axes[-1].get_title() == "expected error / peak"
    assert axes[-1].images[0].get_array().max() == pytest.approx(0.25, rel=0.2)


def test_panels_show_input_result_reference_and_error_upright() -> None:
    label = torch.rand(1, 12, 20) * 400
    pred, zero_filled = label + 8, label * 0.5
    figure = reconstruction_figure("a", zero_filled, pred, label, torch.ones(12, 20) * 0.25)
    drawn = [axis.images[0] for axis in figure.axes[:4]]
    for image, expected in zip(drawn, (zero_filled, pred, label, 8 / label.max()), strict=True):
        np.testing.assert_allclose(
            image.get_array(), torch.as_tensor(expected).expand(1, 12, 20)[0].T, rtol=1e-4
        )
    assert all(image.get_clim()[1] == label.max() for image in drawn[:3])
    assert drawn[3].get_clim() == (-ERROR_WINDOW, ERROR_WINDOW)
    assert all(image.origin == "lower" for image in drawn)
    assert "25.0%" in figure.get_suptitle()
