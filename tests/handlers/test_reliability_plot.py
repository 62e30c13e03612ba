from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from ignite.engine import Engine
from monai.data import MetaTensor

from mdl_monai.handlers.reliability_plot import ReliabilityPlot


def item(scale: float = 1.0) -> dict:
    generator = torch.Generator().manual_seed(0)
    label = torch.rand(1, 40, 50, generator=generator)
    sigma = 0.001 + 0.05 * torch.rand(1, 40, 50, generator=generator)
    pred = label + sigma * torch.randn(1, 40, 50, generator=generator)
    return {
        key: MetaTensor(scale * part)
        for key, part in (("label", label), ("uncertainty", sigma), ("pred", pred))
    }


def test_the_plot_and_its_numbers_do_not_depend_on_the_images_scale(tmp_path: Path) -> None:
    results = []
    for scale in (1.0, 700.0):
        engine = Engine(lambda engine, batch: batch)
        ReliabilityPlot(str(tmp_path / str(scale))).attach(engine)
        engine.run([[item(scale)], [item(scale)]])
        assert (tmp_path / str(scale) / "reliability.png").read_bytes()[1:4] == b"PNG"
        results.append(json.loads((tmp_path / str(scale) / "reliability.json").read_text(encoding="utf-8")))
    assert results[0]["cases"] == 2 and results[0]["error_to_sigma"] == pytest.approx(1, abs=0.05)
    assert results[1]["error_to_sigma"] == pytest.approx(results[0]["error_to_sigma"], rel=1e-5)


def test_what_fills_up_a_field_of_view_does_not_count(tmp_path: Path) -> None:
    results = []
    for border in (0, 8):
        engine = Engine(lambda engine, batch: batch)
        plot = ReliabilityPlot(str(tmp_path))
        plot.attach(engine)
        padded = {
            k: MetaTensor(torch.nn.functional.pad(v.as_tensor(), [border] * 4)) for k, v in item().items()
        }
        engine.run([[padded]])
        results.append(plot.reliability.result())
    assert results[0] == results[1]


def test_a_second_run_starts_anew_and_one_without_references_writes_nothing(tmp_path: Path) -> None:
    engine = Engine(lambda engine, batch: batch)
    plot = ReliabilityPlot(str(tmp_path))
    plot.attach(engine)
    scan = item()
    scan["label"] = None
    engine.run([[scan]])
    assert not list(tmp_path.iterdir())
    engine.run([[item()]])
    engine.run([[item()]])
    assert plot.reliability.result()["cases"] == 1
