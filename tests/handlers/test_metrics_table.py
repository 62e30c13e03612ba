from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch
from monai.data import DataLoader, Dataset, MetaTensor
from monai.engines import SupervisedEvaluator
from monai.inferers import SimpleInferer
from monai.transforms import Identityd
from torch import Tensor, nn

from mdl_monai.engines.baselines import run_baselines
from mdl_monai.handlers.metrics_table import MetricsTable


class Add(nn.Module):
    """x + amount."""

    def __init__(self, amount: float) -> None:
        super().__init__()
        self.amount = amount

    def forward(self, x: Tensor) -> Tensor:
        return x + self.amount


def mean_error(pred: Tensor, label: Tensor) -> dict[str, float]:
    error = float((pred - label).mean())
    return {"mae": float("nan") if float(label.mean()) > 4 else error}


def evaluate(
    folder: Path, baselines: dict[str, nn.Module] | None = None, patients: bool = True
) -> MetricsTable:
    records, data = [], []
    for n in range(6):
        case = f"case{n}"
        subject = f"p{n // 2}" if patients else case
        unit = "patient" if patients else "case"
        records.append({"case": case, "subject": subject, "subject_unit": unit, "image": f"{case}.nii.gz"})
        image = MetaTensor(torch.full((1, 2, 2), float(n)), meta={"case": case})
        data.append({"image": image, "label": image.clone()})

    class Keep:
        def __call__(self, item: dict) -> dict:
            item["pred"] = MetaTensor(torch.as_tensor(item["pred"]), meta=item["image"].meta)
            return item

    table = MetricsTable(mean_error, str(folder), records, method="net")
    loader = DataLoader(Dataset(data, Identityd("image")), batch_size=2)
    SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=loader,
        network=Add(0.5),
        postprocessing=Keep(),
        val_handlers=[table],
    ).run()
    run_baselines(baselines, loader, SimpleInferer(), Keep(), table, torch.device("cpu"))
    table.write()
    return table


def test_table_and_summary_hold_every_case_once(tmp_path: Path) -> None:
    evaluate(tmp_path)
    with (tmp_path / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["case", "subject", "method", "file", "mae", "time_s"]
    assert [r["case"] for r in rows] == [f"case{n}" for n in range(6)]
    summary = json.loads((tmp_path / "metrics_summary.json").read_text(encoding="utf-8"))
    assert summary["mae"]["mean"] == pytest.approx(0.5)
    assert summary["mae"]["count"] == 5 and summary["mae"]["unit"] == "patient"
    assert summary["time_s"]["mean"] > 0
    assert not (tmp_path / "baselines_summary.json").exists()


def test_baselines_join_the_table_with_their_paired_difference(tmp_path: Path) -> None:
    evaluate(tmp_path, {"none": Add(0.0), "more": Add(2.0)}, patients=False)
    with (tmp_path / "metrics.csv").open() as file:
        assert [r["method"] for r in csv.DictReader(file)] == ["net"] * 6 + ["none"] * 6 + ["more"] * 6
    baselines = json.loads((tmp_path / "baselines_summary.json").read_text(encoding="utf-8"))
    assert baselines["more"]["mae"]["mean"] == pytest.approx(2.0)
    difference = baselines["more"]["mae"]["difference"]
    assert difference["mean"] == pytest.approx(-1.5) and difference["count"] == 5
    assert baselines["none"]["mae"]["unit"] == "case"
    evaluate(tmp_path)
    assert not (tmp_path / "baselines_summary.json").exists(), "figures of an earlier run would mislead"


def test_undefined_figures_are_null_in_json(tmp_path: Path) -> None:
    table = evaluate(tmp_path)
    table.rows = [{**row, "mae": float("nan")} for row in table.rows]
    table.write()
    summary = json.loads((tmp_path / "metrics_summary.json").read_text(encoding="utf-8"))["mae"]
    assert summary["mean"] is None and summary["count"] == 0
