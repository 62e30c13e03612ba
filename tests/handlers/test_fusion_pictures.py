from __future__ import annotations

import json
import logging
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from monai.data import MetaTensor
from monai.inferers import SimpleInferer
from torch import Tensor, nn

from mdl_monai.handlers.fusion_pictures import (
    AGREED_COLOUR,
    ATLAS_COLOURS,
    FURTHER_COLOUR,
    PRIOR_COLOUR,
    FusionPictures,
)
from mdl_monai.handlers.segmentation_pictures import label_colours
from mdl_monai.networks.deep_fusion_net import DeepFusionNet
from mdl_monai.networks.fusion_border import FusionInput, join_fusion_input
from mdl_monai.networks.majority_vote import MajorityVote

SHAPES = [(10, 7), (10, 7, 6)]
AFFINE = torch.diag(torch.tensor([0.5, 1.5, 4.0, 1.0], dtype=torch.float64))
BOX = (slice(2, 8), slice(1, 5))


class Intensity(nn.Module):
    """The image is its own feature, and its sign a certain prior of two labels."""

    def forward(self, image: Tensor) -> Tensor:
        return torch.cat((image, -20 * image, 20 * image), dim=1)


def network(n_labels: int = 3, prior: bool = False, radius: int = 0) -> DeepFusionNet:
    """Fuses by intensities, sharply."""
    net = DeepFusionNet(2, n_labels, Intensity(), 1, radius=radius, learned_weights=False, prior=prior).eval()
    net.weights.data[0] = 4.0
    return net


def border(target: Tensor, images: Tensor, labels: Tensor, valid: Tensor) -> Tensor:
    return join_fusion_input(FusionInput(target[None, None], images[None], labels[None], valid[None]))[0]


def two_halves(shape: tuple[int, ...] = (10, 7), before: int = 0) -> Tensor:
    """Of two atlases, behind others, one looks like the target in its first half, and one in its second.

    In a box, the k-th atlas has the k-th label.
    """
    n = before + 2
    grid = torch.stack(torch.meshgrid(*(torch.arange(size) for size in shape), indexing="ij"))
    target = 1.0 - 2 * (grid.sum(0) % 2)
    sign = 1.0 - 2 * (grid[0] >= shape[0] // 2)
    images = torch.stack([*[-torch.ones(shape)] * before, sign, -sign]) * target
    labels = torch.zeros(n, n + 1, *shape)
    labels[:, 0] = 1
    for k in range(n):
        labels[k, 0][BOX], labels[k, k + 1][BOX] = 0, 1
    return border(target, images, labels, torch.ones(n, *shape))


def one_box(shape: tuple[int, ...], valid: float) -> Tensor:
    """A bright box, to which two atlases both give the label 1."""
    box = torch.zeros(shape)
    box[BOX] = 1
    labels = torch.stack((1 - box, box)).expand(2, 2, *shape)
    return border(box, box.expand(2, *shape), labels, torch.full((2, *shape), valid))


def item(image: Tensor, case: str = "a") -> dict[str, Any]:
    pred = MetaTensor(torch.zeros(1), meta={"case": case})
    return {"image": MetaTensor(image, affine=AFFINE), "pred": pred}


def handler(net: nn.Module, folder: Path, **options: Any) -> FusionPictures:
    return FusionPictures(
        net, output_dir=str(folder), **{"labels": [1, 2], "inferer": SimpleInferer(), **options}
    )


def painted(figure: Figure, column: str) -> tuple[np.ndarray, np.ndarray]:
    """What lies over the image in the upper panel, and where: [horizontal, vertical, ...]."""
    (layer,) = (axis.images[1] for axis in figure.axes if axis.get_title() == column)
    return np.asarray(layer.get_array()).swapaxes(0, 1), np.asarray(layer.get_alpha()).T > 0


def assert_colour(figure: Figure, where: Any, colour: str) -> None:
    found = painted(figure, "atlas of the largest weight")[0][where][..., :3]
    np.testing.assert_allclose(found, np.broadcast_to(to_rgb(colour), found.shape), atol=1e-6)


def shares(folder: Path, case: str = "a") -> dict[str, float]:
    """Those that are not 0."""
    told = json.loads((folder / f"{case}.json").read_text(encoding="utf-8"))
    return {name: share for name, share in told["share"].items() if share}


def texts(legend: Any) -> list[str]:
    return [text.get_text() for text in legend.get_texts()]


@pytest.mark.parametrize("shape", SHAPES)
def test_each_voxel_has_the_colour_of_the_atlas_that_looks_like_it(
    shape: tuple[int, ...], tmp_path: Path
) -> None:
    figure = handler(network(), tmp_path).figure(item(two_halves(shape)))
    expected = np.zeros(shape[:2], dtype=bool)
    expected[BOX] = True  # elsewhere all atlases say background
    for column in ("atlas of the largest weight", "probability of the label"):
        np.testing.assert_array_equal(painted(figure, column)[1], expected)
    assert_colour(figure, (slice(2, 5), slice(1, 5)), ATLAS_COLOURS[0])
    assert_colour(figure, (slice(5, 8), slice(1, 5)), ATLAS_COLOURS[1])
    assert painted(figure, "probability of the label")[0][expected].min() > 0.999
    assert shares(tmp_path) == pytest.approx({"atlas 1": 0.5, "atlas 2": 0.5})
    voxels = expected.sum() * np.prod(shape[2:])
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))["voxels"] == voxels
    answers = ["all atlases agree: 0.0%", "atlas 1: 50.0%", "atlas 2: 50.0%", "no atlas: 0.0%"]
    assert texts(figure.legends[0]) == answers
    rows = 2 * len(shape) - 3  # one for a slice, three for a volume
    assert len(figure.axes) == rows * 3 + 1  # without prior there are three columns, and one bar


def test_labels_go_by_their_values_with_the_colours_of_other_pictures(tmp_path: Path) -> None:
    options: dict[str, Any] = {"labels": [7, 2], "names": {"2": "right"}}
    figure = handler(network(), tmp_path, **options).figure(item(two_halves()))
    legend = figure.axes[0].get_legend()
    assert legend is not None and texts(legend) == ["right", "label 7"]
    colours = [to_rgb(colour) for colour in label_colours([2, 7]).values()]
    assert [patch.get_facecolor()[:3] for patch in legend.get_patches()] == colours
    seven, two = figure.axes[0].images[2], figure.axes[0].images[1]
    for layer, half in ((seven, slice(2, 5)), (two, slice(5, 8))):
        assert np.asarray(layer.get_array()).swapaxes(0, 1)[half, 1:5, 3].all()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("n_atlases", [1, 4])
def test_the_weights_are_those_of_the_networks_answer(shape: tuple[int, ...], n_atlases: int) -> None:
    """Where each atlas has one label at all places, its weight is that label's."""
    torch.manual_seed(0)
    convolution = (nn.Conv2d if len(shape) == 2 else nn.Conv3d)(1, 8, 3, padding=1)
    net = DeepFusionNet(n_atlases, 3, convolution, 5, radius=1, prior=True).eval()
    net.null_score.data.fill_(0.0)
    of_atlas = torch.arange(n_atlases) % 3
    labels = torch.zeros(n_atlases, 3, *shape)
    labels[torch.arange(n_atlases), of_atlas] = 1
    valid = (torch.rand(n_atlases, *shape) > 0.3).float()
    image = border(torch.randn(shape), torch.randn(n_atlases, *shape), labels, valid)[None]
    with torch.no_grad():
        weights = FusionPictures(net, SimpleInferer(), "unused", [1, 2]).weights(image)
        expected, prior = net(image), net.describe(net.split(image))[1]
    assert weights.shape == (1, n_atlases + 1, *shape)
    torch.testing.assert_close(weights.sum(1), torch.ones(1, *shape))
    fused = (weights[:, -1:] * prior).index_add(1, of_atlas, weights[:, :-1])
    torch.testing.assert_close(fused, expected)


@pytest.mark.parametrize(
    ("prior", "valid", "answer", "colour", "where"),
    [
        (False, 1.0, "all atlases agree", AGREED_COLOUR, (slice(3, 7), slice(2, 4))),
        (False, 0.0, "no atlas", PRIOR_COLOUR, (slice(10), slice(7))),
        (True, 0.0, "prior", PRIOR_COLOUR, (slice(10), slice(7))),
    ],
)
def test_what_no_single_atlas_answered_has_a_colour_of_its_own(
    prior: bool, valid: float, answer: str, colour: str, where: Any, tmp_path: Path
) -> None:
    figure = handler(network(2, prior, radius=1), tmp_path, labels=[1]).figure(item(one_box((10, 7), valid)))
    assert_colour(figure, where, colour)
    # at the box's edges the windows hold both labels, and so atlases have weights
    assert shares(tmp_path)[answer] == pytest.approx(1 / 3 if valid else 1)
    titles = [axis.get_title() for axis in figure.axes]
    assert ("weight of the prior" in titles) == prior
    if prior:
        np.testing.assert_allclose(painted(figure, "weight of the prior")[0], 1)


@pytest.mark.parametrize(
    ("labelled", "seen", "where"), [(True, False, 24), (False, False, 70), (False, True, 0)]
)
def test_the_cut_goes_through_the_labels_or_else_through_disagreement_if_any(
    labelled: bool, seen: bool, where: int, tmp_path: Path
) -> None:
    image = one_box((10, 7, 6), 1.0)
    if not labelled:
        image[0] = torch.rand(10, 7, 6)
        image[2::4], image[3::4] = 1, 0
    image[4::4, ..., 5] = float(seen)  # validity of the last slice
    figure = handler(network(2), tmp_path, labels=[1]).figure(item(image))
    figure.savefig(tmp_path / "a.png")
    assert painted(figure, "atlas of the largest weight")[1].sum() == where
    assert bool(shares(tmp_path)) == (labelled or not seen)


def test_atlases_have_the_names_that_registration_noted(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("atlas,overlap,left_out_because\r\nsub-9,0.9,\r\n")
    pictures = handler(network(), tmp_path, registration_dir=str(tmp_path))
    for case, first in (("a", "atlas 1 (sub-9)"), ("b", "atlas 1")):
        figure = pictures.figure(item(two_halves(), case))
        assert list(shares(tmp_path, case)) == [first, "atlas 2"]
        assert texts(figure.legends[0])[1:3] == [f"{first}: 50.0%", "atlas 2: 50.0%"]


def test_atlases_beyond_the_last_colour_share_black(tmp_path: Path) -> None:
    figure = handler(network(12), tmp_path, labels=range(1, 12)).figure(item(two_halves(before=9)))
    assert shares(tmp_path) == pytest.approx({"atlas 10": 0.5, "atlas 11": 0.5})
    assert_colour(figure, (slice(2, 5), slice(1, 5)), ATLAS_COLOURS[9])
    assert_colour(figure, (slice(5, 8), slice(1, 5)), FURTHER_COLOUR)


def test_a_large_image_is_cut_to_what_is_painted_and_a_margin(tmp_path: Path) -> None:
    image = two_halves((40, 30))
    shown = handler(network(), tmp_path).figure(item(image)).axes[0].images[0]
    np.testing.assert_array_equal(shown.get_array(), image[0, :14, :11].T)
    assert list(shown.get_extent()) == [0, 7, 0, 16.5]


@pytest.mark.parametrize("training", [True, False])
def test_the_inferer_applies_the_network_without_gradients_and_it_stays_as_it_was(
    training: bool, tmp_path: Path
) -> None:
    class Turned(SimpleInferer):
        def __call__(self, inputs: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Any:
            assert not torch.is_grad_enabled() and not net.training
            return super().__call__(inputs, network).flip(2)

    net = network().train(training)
    figure = handler(nn.DataParallel(net), tmp_path, inferer=Turned()).figure(item(two_halves()))
    assert net.training == training
    assert_colour(figure, (slice(2, 5), slice(1, 5)), ATLAS_COLOURS[1])
    assert_colour(figure, (slice(5, 8), slice(1, 5)), ATLAS_COLOURS[0])


def run(net: nn.Module, folder: Path, **options: Any) -> list[str]:
    """Names of the files after an evaluation of three cases."""
    engine = Engine(lambda engine, batch: batch)
    handler(net, folder / "fusion", **options).attach(engine)
    engine.run([[item(two_halves(), case)] for case in "abc"])
    return sorted(path.name for path in (folder / "fusion").glob("*"))


def test_the_first_case_is_drawn_unless_more_are_asked_for(tmp_path: Path) -> None:
    assert run(network(), tmp_path) == ["a.json", "a.png"]
    assert run(network(), tmp_path, count=2) == ["a.json", "a.png", "b.json", "b.png"]


def test_another_network_is_passed_over_with_one_line_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "mdl_monai.handlers.fusion_pictures"):
        assert run(MajorityVote(2, 3), tmp_path) == []
    lines = [(r.levelname, r.message) for r in caplog.records if r.name.endswith("fusion_pictures")]
    assert lines == [("INFO", "no pictures of the fusion: MajorityVote has no weights")]


# What linear RGB becomes without cones for red, green or blue light: Machado, Oliveira, Fernandes 2009
CONES = {
    "all": np.eye(3),
    "no red": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "no green": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    "no blue": [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
}
TO_XYZ = [[0.4339, 0.3762, 0.1899], [0.2126, 0.7152, 0.0722], [0.0178, 0.1095, 0.8727]]  # of white: 1, 1, 1


@pytest.mark.parametrize("cones", CONES)
def test_every_reader_can_tell_the_colours_apart(cones: str) -> None:
    def lab(colour: str) -> np.ndarray:
        rgb = np.array(to_rgb(colour))
        linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        xyz = np.array(TO_XYZ) @ np.clip(np.array(CONES[cones]) @ linear, 0, 1)
        x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
        return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])

    colours = [lab(colour) for colour in (*ATLAS_COLOURS, AGREED_COLOUR, PRIOR_COLOUR, FURTHER_COLOUR)]
    assert min(np.linalg.norm(a - b) for a, b in combinations(colours, 2)) > 25
