from __future__ import annotations

from pathlib import Path

import numpy as np
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


def test_the_first_cases_are_drawn_slices_and_volumes_alike(tmp_path: Path) -> None:
    engine = Engine(lambda engine, batch: batch)
    ReconstructionPictures(str(tmp_path), count=2).attach(engine)
    engine.run([[item("a", 16, 20)], [item("b", 16, 20, 3)], [item("c", 16, 20)]])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png", "b.png"]
    assert all(p.read_bytes().startswith(b"\x89PNG") for p in tmp_path.iterdir())


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
