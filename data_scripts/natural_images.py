"""Write grey images for compressive imaging: drawn ones and a few photographs to train on, photographs to test on.

    python data_scripts/natural_images.py --output_dir DIR [--drawn 400] [--seed 0]

Nothing is downloaded. The lists of `dataset.json`:

- train: dead leaves (`mdl_monai.phantoms.dead_leaves`), 256 x 256, and tiles of 128 x 128 of the photograph `china`
  (scikit-learn, CC-BY 2.0, by danielbuechele on Flickr) and of `brick`, `grass`, `gravel`, `ihc` and `retina`
  (scikit-image, CC0 or free of known restrictions), at full and at half size.
- val: four dead leaves, and tiles of `flower` (scikit-learn, CC-BY 2.0, by vultilion on Flickr).
- test: eleven photographs of scikit-image (public domain, CC0 or free of known restrictions; for `moon`, `page` and
  `motorcycle_left`, of the Middlebury 2014 stereo benchmark, it states no terms), cut to the middle square and scaled
  to 256 x 256, in the manner of the papers' Set11, which may not be shipped.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from mdl_monai.errors import InputError
from mdl_monai.io.atomic import atomic_path, atomic_write_text
from mdl_monai.phantoms.dead_leaves import dead_leaves

TEST = (
    "astronaut", "camera", "chelsea", "clock_motion", "coffee", "coins", "hubble_deep_field", "moon",
    "motorcycle_left", "page", "rocket",
)  # fmt: skip
TRAIN = ("brick", "grass", "gravel", "ihc", "retina")
SIZE, TILE, TEXTURE_SIZE = 256, 128, 512
DRAWN_VAL = 4


def photograph(name: str) -> Image.Image:
    """A photograph that scikit-image or scikit-learn ships, in grey.

    Raises:
        InputError: the package is not installed.
    """
    try:
        if name in ("china", "flower"):
            from sklearn.datasets import load_sample_image

            return Image.fromarray(load_sample_image(f"{name}.jpg")).convert("L")
        import skimage
    except ImportError as error:
        raise InputError(
            f"the photograph {name} is in a package that is not installed", found=str(error),
            remedy='pip install -c constraints.txt -e ".[natural]"',
        ) from error  # fmt: skip
    folder = Path(skimage.__file__).parent / "data"
    path = next(p for p in (folder / f"{name}.png", folder / f"{name}.jpg") if p.is_file())
    return Image.open(path).convert("L")


def middle_square(image: Image.Image, size: int) -> np.ndarray:
    """The middle square, scaled."""
    side = min(image.size)
    left, top = ((n - side) // 2 for n in image.size)
    square = image.crop((left, top, left + side, top + side))
    return np.asarray(square.resize((size, size), Image.Resampling.LANCZOS))


def tiles(image: np.ndarray) -> list[np.ndarray]:
    """Whole tiles of an image side by side, of it and of half its size."""
    half = np.asarray(
        Image.fromarray(image).resize((image.shape[1] // 2, image.shape[0] // 2), Image.Resampling.BOX)
    )
    return [
        scaled[y : y + TILE, x : x + TILE]
        for scaled in (image, half)
        for y in range(0, scaled.shape[0] - TILE + 1, TILE)
        for x in range(0, scaled.shape[1] - TILE + 1, TILE)
    ]


def natural_images(output_dir: Path, drawn: int, seed: int) -> dict[str, list[dict[str, str]]]:
    """Write the images and `dataset.json`, which comes last; return its content."""
    if drawn < 1:
        raise InputError("there is nothing to draw", expected="--drawn 1 or more", found=f"--drawn {drawn}")
    train = {"china": np.asarray(photograph("china"))}
    train |= {name: middle_square(photograph(name), TEXTURE_SIZE) for name in TRAIN}
    images: dict[str, dict[str, np.ndarray]] = {"train": {}, "val": {}, "test": {}}
    for index in tqdm(range(drawn + DRAWN_VAL), desc="dead leaves"):
        leaves = (dead_leaves(SIZE, np.random.default_rng([seed, index])) * 255).round().astype(np.uint8)
        images["val" if index >= drawn else "train"][f"leaves{index:04d}"] = leaves
    for name, image in train.items():
        images["train"] |= {f"{name}{n:02d}": tile for n, tile in enumerate(tiles(image))}
    flower = tiles(np.asarray(photograph("flower")))
    images["val"] |= {f"flower{n:02d}": tile for n, tile in enumerate(flower)}
    images["test"] = {name: middle_square(photograph(name), SIZE) for name in TEST}
    for split, named in images.items():
        for name, image in named.items():
            with atomic_path(output_dir / split / f"{name}.png") as temporary:
                Image.fromarray(image).save(temporary)
    records = {split: [{"image": f"{split}/{name}.png"} for name in named] for split, named in images.items()}
    atomic_write_text(output_dir / "dataset.json", json.dumps(records, indent=1) + "\n")
    return records


def main(arguments: list[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--drawn", type=int, default=400, help="images of dead leaves to train on")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    records = natural_images(options.output_dir, options.drawn, options.seed)
    print(", ".join(f"{len(listed)} {split}" for split, listed in records.items()), "in", options.output_dir)


if __name__ == "__main__":
    main()
