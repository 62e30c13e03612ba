"""PNG slices, read only where they are whole and hold one grey value a pixel."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from monai.data.image_reader import PILReader
from monai.utils import ensure_tuple
from PIL import Image

from mdl_monai.errors import InputError
from mdl_monai.io.limits import refuse_large


def open_png(path: str | Path) -> Image.Image:
    """The image, Pillow's, after its checksums were compared; its pixels are not decoded yet.

    Raises:
        InputError: no PNG, damaged, too large, several frames, colours by number.
    """
    try:
        # by its name alone Pillow would take any format that it knows, some of which call other programs
        with Image.open(path, formats=("PNG",)) as image:
            refuse_large((*image.size, len(image.getbands())), 4, path)
            frames, mode = getattr(image, "n_frames", 1), image.mode
            image.verify()
        if frames == 1 and mode != "P":
            return Image.open(path, formats=("PNG",))
    except InputError:
        raise
    except Exception as error:  # damaged bytes make Pillow, zlib and struct raise a dozen kinds
        raise InputError(
            "the image file cannot be read", where=path, expected="PNG", found=type(error).__name__
        ) from error
    raise InputError(
        "the PNG is no grey-value image", where=path, expected="one grey value a pixel",
        found=f"{frames} frames" if frames > 1 else "numbers of a palette", remedy="convert it to grey values",
    )  # fmt: skip


class CheckedPNGReader(PILReader):
    """MONAI's reader, by `open_png`."""

    def verify_suffix(self, filename: Sequence[Any] | Any) -> bool:
        """Whether all files are named like PNG."""
        return all(str(name).lower().endswith(".png") for name in ensure_tuple(filename))

    def read(self, data: Any, **kwargs: Any) -> Any:
        """Images of files, as `PILReader.read`."""
        images = [open_png(name) for name in ensure_tuple(data)]
        return images if len(images) > 1 else images[0]
