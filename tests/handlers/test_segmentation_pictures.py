from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from monai.data import MetaTensor

from mdl_monai.handlers.segmentation_pictures import (
    DISAGREEMENT_COLOURS,
    LABEL_COLOURS,
    SegmentationPictures,
)
from mdl_monai.transforms.load import LoadInputd

AFFINE = torch.diag(torch.tensor([0.5, 1.5, 4.0, 1.0], dtype=torch.float64))


def item(*shape: int, reference: bool = True) -> dict[str, Any]:
    """Two label boxes on a noisy image up to 1.7e6; the reference lies one voxel further along the first axis."""
    label = torch.zeros(1, *shape, dtype=torch.int64)
    label[:, 4:9, 3:7], label[:, 9:12, 3:7] = 1, 2
    image = 1.7e6 * torch.rand(1, *shape)
    case: dict[str, Any] = {
        "image": MetaTensor(image, affine=AFFINE),
        "pred": MetaTensor(label, affine=AFFINE, meta={"case": "a"}),
    }
    if reference:
        case["label"] = MetaTensor(label.roll(1, 1), affine=AFFINE)
    return case


def draw(case: dict[str, Any], **options: Any) -> Figure:
    return SegmentationPictures("unused", **options).figure(case)


def painted(figure: Figure, title: str) -> dict[str, np.ndarray]:
    """Where the first panel of a column has each colour, as [horizontal, vertical]."""
    axis = next(axis for axis in figure.axes if axis.get_title() == title)
    colours = (*LABEL_COLOURS, *DISAGREEMENT_COLOURS.values())
    layers = [np.asarray(image.get_array()) for image in axis.images[1:]]
    found = {}
    for layer in layers:
        (colour,) = [c for c in colours if np.allclose(layer.max(axis=(0, 1))[:3], to_rgba(c)[:3])]
        found[colour] = layer[..., 3].T > 0
    return found


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for part in figure.legends for text in part.get_texts()]


@pytest.mark.parametrize("shape", [(16, 11), (16, 11, 7)])
def test_label_maps_and_their_disagreement_lie_on_the_input(shape: tuple[int, ...]) -> None:
    case = item(*shape)
    figure = draw(case)
    rows = len(shape) * 2 - 3  # one for a slice, three for a volume
    titles = [axis.get_title() for axis in figure.axes]
    assert titles[:4] == ["input", "prediction", "reference", "disagreement"]
    assert len(titles) == 4 * rows
    cut = (0,) if len(shape) == 2 else (0, ..., 0)  # the boxes fill every axial slice
    pred, label = case["pred"][cut].numpy(), case["label"][cut].numpy()
    for title, labels in (("prediction", pred), ("reference", label)):
        shown = painted(figure, title)
        assert list(shown) == list(LABEL_COLOURS[:2])
        for n, where in enumerate(shown.values(), start=1):
            np.testing.assert_array_equal(where, labels == n)
    shown = painted(figure, "disagreement")
    expected = ((pred == 0) & (label > 0), (pred > 0) & (label == 0), (pred * label == 2))
    for colour, where in zip(DISAGREEMENT_COLOURS.values(), expected, strict=True):
        assert where.any()
        np.testing.assert_array_equal(shown[colour], where)


def test_the_input_is_windowed_by_its_percentiles() -> None:
    case = item(16, 11, 7)
    for axis in draw(case).axes:
        assert axis.images[0].get_clim() == pytest.approx(np.percentile(case["image"], [1, 99]))
        assert axis.images[0].origin == "lower"


def test_panels_have_the_images_proportions_in_mm() -> None:
    figure = draw(item(16, 11, 7))
    extents = [tuple(axis.images[0].get_extent()) for axis in figure.axes[::4]]
    assert extents == [(0, 8, 0, 16.5), (0, 8, 0, 28), (0, 16.5, 0, 28)]
    for axis, extent in zip(figure.axes[1::4], extents, strict=True):
        assert axis.get_aspect() == 1
        assert (*axis.get_xlim(), *axis.get_ylim()) == extent


def test_without_reference_there_are_two_columns_and_no_dice() -> None:
    figure = draw(item(16, 11, 7, reference=False), names={1: "anterior", 2: "posterior"})
    assert [axis.get_title() for axis in figure.axes[:2]] == ["input", "prediction"]
    assert len(figure.axes) == 6
    assert legend(figure) == ["anterior", "posterior"]


def test_the_legend_names_labels_by_the_options_or_their_number_with_their_dice() -> None:
    case = item(16, 11, 7)
    entries = legend(draw(case, names={"0": "background", "1": "anterior", "5": "nowhere"}))
    assert entries == [
        *("anterior, Dice 0.800", "label 2, Dice 0.667", "nowhere, Dice 1.000"),
        *("missed", "extra", "other label"),
    ]


def test_the_cuts_follow_the_reference_and_where_it_is_empty_the_prediction() -> None:
    case = item(16, 11, 7)
    case["pred"][...] = case["label"][...] = 0
    case["pred"][:, 2:5, 3:6, 1] = 1
    case["label"][:, 2:5, 3:6, 5] = 1
    np.testing.assert_array_equal(draw(case).axes[0].images[0].get_array(), case["image"][0, :, :, 5].T)
    case["label"][...] = 0
    np.testing.assert_array_equal(draw(case).axes[0].images[0].get_array(), case["image"][0, :, :, 1].T)


@pytest.mark.parametrize("reference", [False, True])
@pytest.mark.parametrize("value", [0, 1])
def test_maps_of_one_value_are_drawn_too(value: int, reference: bool, tmp_path: Path) -> None:
    case = item(16, 11, 7, reference=reference)
    for key in {"pred", "label"} & set(case):
        case[key][...] = value
    draw(case).savefig(tmp_path / "a.png")


@pytest.mark.parametrize("spacing", [(1, 1, 0.01), (0.1, 0.1, 100), (100, 0.1, 0.1)])
def test_extreme_proportions_are_drawn_too(spacing: tuple[float, float, float], tmp_path: Path) -> None:
    case = item(16, 11, 7)
    case["pred"].affine = torch.diag(torch.tensor([*spacing, 1.0]))
    draw(case).savefig(tmp_path / "a.png")


def test_the_input_may_have_another_key_and_must_have_the_predictions_shape() -> None:
    case = item(16, 11, 7)
    case["scan"] = case.pop("image")
    draw(case, image_key="scan")
    with pytest.raises(ValueError, match="differ in shape"):
        draw({**case, "image": case["scan"][..., 1:]})


def test_a_png_a_case_is_written(tmp_path: Path) -> None:
    engine = Engine(lambda engine, batch: batch)
    SegmentationPictures(str(tmp_path)).attach(engine)
    engine.run([[item(16, 11, 7)]])
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_real_cases_are_drawn(data_root: Path) -> None:
    folder = data_root / "hippocampus"
    if not folder.is_dir():
        pytest.skip("no hippocampus set")
    name = sorted(p.name for p in (folder / "images").iterdir())[0]
    maps = LoadInputd(["image", "label"])({k: str(folder / f"{k}s" / name) for k in ("image", "label")})
    figure = draw({**maps, "pred": maps["label"]}, names={1: "anterior", 2: "posterior"})
    assert legend(figure)[:2] == ["anterior, Dice 1.000", "posterior, Dice 1.000"]
    assert not painted(figure, "disagreement")
