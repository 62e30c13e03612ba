from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Engine
from monai.data import MetaTensor
from monai.engines import SupervisedEvaluator
from torch import Tensor, nn

from mdl_monai.errors import InputError
from mdl_monai.handlers.synthesis_pictures import SynthesisPictures
from mdl_monai.handlers.synthesis_quality import SynthesisQuality, TypicalInputs
from mdl_monai.inferers.orthogonal_views import OrthogonalViews
from mdl_monai.phantoms.head import head_phantom
from mdl_monai.transforms.hounsfield import FromHounsfieldd, ToHounsfieldd

RANGE = (-1024.0, 3000.0)
SPACING = (5.0, 6.0, 4.0)


class Table(nn.Module):
    """Answers with one axial slice [1, X, Y, 1], whatever it sees."""

    def __init__(self, answer: Tensor) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, x: Tensor) -> Tensor:
        return self.answer.squeeze(-1)[None]


def phantom_case(darker: float = 0.0) -> tuple[dict[str, Any], Tensor]:
    """An axial slice as the network's input, with its body, and the true CT in the network's unit."""
    head = head_phantom(0, (38, 40, 51), SPACING)
    at = (slice(None), slice(None), slice(25, 26))
    affine = head.affine.double()
    image = (2 * head.mr[at] / head.mr.max() - 1 - darker).clamp(-1, 1)[None]
    meta = {"case": "p0"}
    ct = FromHounsfieldd("ct", RANGE)({"ct": head.ct[at][None]})["ct"]
    item = {
        "image": MetaTensor(image, affine=affine, meta=dict(meta)),
        "native": MetaTensor(image, affine=affine, meta=dict(meta)),
        "body": MetaTensor((head.tissue[at] > 0)[None].float(), affine=affine, meta=dict(meta)),
    }
    return item, ct


def judged(
    folder: Path, item: dict[str, Any], answer: Tensor, reverse: Tensor | None = None
) -> dict[str, Any]:
    """The record of a case whose network gives `answer`."""
    back = {} if reverse is None else {"reverse": Table(reverse)}
    inferer = OrthogonalViews()
    quality = SynthesisQuality(str(folder), RANGE, inferer, str(folder / "model.pt"), **back)

    def hounsfield(data: dict[str, Any]) -> dict[str, Any]:
        pred = MetaTensor(data["pred"], meta=data["image"].meta)
        return ToHounsfieldd("pred", RANGE)({**data, "pred": pred})

    SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=torch.utils.data.DataLoader([item], collate_fn=_collate),
        network=Table(answer),
        inferer=inferer,
        postprocessing=hounsfield,
        val_handlers=[quality, SynthesisPictures(str(folder / "pictures"))],
    ).run()
    record: dict[str, Any] = json.loads((folder / "quality" / "p0.json").read_text(encoding="utf-8"))
    return record


def _collate(items: list[dict[str, Any]]) -> Any:
    from monai.data import list_data_collate

    return list_data_collate(items)


def test_the_true_ct_is_not_warned_of_and_another_anatomy_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    item, ct = phantom_case()
    good = judged(tmp_path / "good", item, ct)
    assert good["body_dice"] > 0.9 and good["warnings"] == [] and good["clipped_share"] == 0
    with caplog.at_level(logging.WARNING):
        moved = judged(tmp_path / "moved", item, ct.roll(9, dims=1))
    assert moved["mind_residual_mean"] > 1.3 * good["mind_residual_mean"]
    assert moved["body_dice"] < 0.9 and "overlaps" in moved["warnings"][0]
    assert "p0" in caplog.text and "do not trust" in caplog.text
    assert (tmp_path / "good" / "pictures" / "p0.png").is_file()


def test_what_lies_beyond_the_trained_hu_is_counted(tmp_path: Path) -> None:
    item, ct = phantom_case()
    ct = ct.clone()
    ct[0, :10] = 1.5
    body = torch.as_tensor(item["body"])
    expected = float(body[:, :10].sum() / body.sum())
    assert 0 < expected < 1 and judged(tmp_path, item, ct)["clipped_share"] == pytest.approx(expected)


def test_the_cycle_error_is_that_of_the_way_back(tmp_path: Path) -> None:
    item, ct = phantom_case()
    image = torch.as_tensor(item["image"])
    assert "cycle_error_mean" not in judged(tmp_path / "none", item, ct)
    record = judged(tmp_path / "back", item, ct, reverse=image + 0.25)
    assert record["cycle_error_mean"] == pytest.approx(0.25, abs=1e-5)


def test_an_image_unlike_the_training_set_is_warned_of(tmp_path: Path) -> None:
    item, ct = phantom_case()
    TypicalInputs(str(tmp_path), [item] * 3)()
    like = judged(tmp_path, item, ct)
    assert like["contrast_distance"] == pytest.approx(0, abs=1e-6) and like["warnings"] == []
    other = judged(tmp_path, phantom_case(darker=0.5)[0], ct)
    assert other["contrast_distance"] > 0.1 and "contrast" in other["warnings"][0]


def test_a_damaged_record_of_typical_inputs_is_refused_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "typical_inputs.json").write_text("{", encoding="utf-8")
    quality = SynthesisQuality(str(tmp_path), RANGE, OrthogonalViews(), str(tmp_path / "model.pt"))
    with pytest.raises(InputError, match="typical inputs is damaged"):
        quality._start(Engine(lambda engine, batch: None))
