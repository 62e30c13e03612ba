"""The natural images: made of installed packages alone, whole, and no photograph in two lists."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from natural_images import TEST, TILE, main, middle_square, natural_images, photograph, tiles
from PIL import Image

from mdl_monai.errors import InputError


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("skimage")
    folder = tmp_path_factory.mktemp("natural")
    main(["--output_dir", str(folder), "--drawn", "1"])
    return folder


def test_every_listed_image_is_grey_and_of_its_size(made: Path) -> None:
    lists = json.loads((made / "dataset.json").read_text(encoding="utf-8"))
    assert len(lists["test"]) == len(TEST) == 11
    for split, records in lists.items():
        for record in records:
            with Image.open(made / record["image"]) as image:
                drawn = Path(record["image"]).name.startswith("leaves")
                assert image.mode == "L"
                assert image.size == ((256, 256) if split == "test" or drawn else (TILE, TILE))


def test_no_photograph_is_in_two_lists(made: Path) -> None:
    lists = json.loads((made / "dataset.json").read_text(encoding="utf-8"))
    names = [{Path(r["image"]).stem.rstrip("0123456789") for r in lists[s]} for s in ("train", "val", "test")]
    assert names[0] & names[1] == {"leaves"} and not names[2] & (names[0] | names[1])
    files = [(made / r["image"]).read_bytes() for records in lists.values() for r in records]
    assert len(set(files)) == len(files)


def test_tiles_lie_side_by_side_at_full_and_half_size() -> None:
    image = np.random.default_rng(0).integers(0, 256, (300, 530), dtype=np.uint8)
    cut = tiles(image)
    assert len(cut) == 2 * 4 + 1 * 2 and {tile.shape for tile in cut} == {(TILE, TILE)}
    assert np.array_equal(np.hstack(cut[:4]), image[:TILE, : 4 * TILE])
    assert cut[8].astype(float).mean() == pytest.approx(image[:256, :256].mean(), abs=1)


def test_the_middle_square_is_what_it_says() -> None:
    image = np.zeros((40, 100), np.uint8)
    image[:, 30:70] = 200
    assert (middle_square(Image.fromarray(image), 20) == 200).all()


def test_nothing_to_draw_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing to draw"):
        natural_images(tmp_path, 0, 0)
    with pytest.raises(InputError, match="nothing to draw"):
        main(["--output_dir", str(tmp_path), "--drawn", "0"])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("name", "package"), [("camera", "skimage"), ("china", "sklearn.datasets")])
def test_a_missing_package_is_one_clear_error(
    name: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=rf"(?s){name}.*not installed.*natural"):
        photograph(name)
