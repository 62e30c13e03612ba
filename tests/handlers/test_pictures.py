from __future__ import annotations

from pathlib import Path

import torch
from ignite.engine import Engine
from monai.data import MetaTensor

from mdl_monai.handlers.pictures import ReconstructionPictures
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
