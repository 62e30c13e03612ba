"""A folder's atlases: loaded when needed, aligned once to a common template, the fitting ones selected."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from mdl_monai.errors import InputError
from mdl_monai.io.content_cache import ContentCache, cache_folder, content_key
from mdl_monai.io.records import Record, load_records
from mdl_monai.registration.affine import AffineRegistration, shrink_factors
from mdl_monai.registration.geometry import points, sample
from mdl_monai.registration.register import register
from mdl_monai.registration.similarity import normalised_mutual_information
from mdl_monai.registration.volume import Volume

logger = logging.getLogger(__name__)
Similarity = Callable[[Tensor, Tensor, Tensor], Tensor]

VERSION = 2
"""Part of every key: raised when the same options give another result."""
TEMPLATE_VOXELS = 2**17
"""A larger template is shrunk: selection needs no detail. So the aligned library takes 1 MB an atlas at most."""
HELD_VOXELS = 2**26
"""Of the atlases kept in memory, half a gigabyte with their label maps."""
COMPARED = 32
"""Atlases compared with a target at once."""


@dataclass(frozen=True)
class Atlas:
    """One atlas in memory."""

    image: Volume
    label: Volume
    """On the image's grid."""
    key: str
    """Of the image's content."""


@dataclass(frozen=True)
class Selection:
    """The atlases for a target, the most alike first."""

    indices: list[int]
    scores: list[float]
    starts: list[Tensor]
    """Affine maps from the target to each, by way of the template."""


class Aligned(NamedTuple):
    """All N atlases of a library on the template's grid."""

    maps: Tensor
    """[N, D + 1, D + 1], from the template's world to theirs."""
    images: Tensor
    """[N, *spatial]."""
    valid: Tensor
    """[N, *spatial], 0 throughout for one that cannot be aligned."""
    keys: list[str]
    """Of their own images' content."""


class AtlasLibrary:
    """Atlases of a folder. Nothing is read before it is needed.

    Choosing atlases costs no registration for each: all are aligned once to a template, the atlas of middle size, and
    that is cached; a target is aligned to it by one affine registration and compared with all on its grid.

    Args:
        atlas_dir: folder with a ``dataset.json``, or with ``imagesTr/`` and ``labelsTr/``; see `load_records`.
        split: its list of atlases.
        preprocessing: from a record to ``image`` and ``label``, both `MetaTensor` [1, *spatial] on one grid,
            which may be each atlas's own.
        image_key, label_key: keys of the files in a record.
        affine: the stage that aligns with the template.
        records: the atlases, if not the whole list: in training its validation cases are none.
        cache_dir: for all that is computed; the user's cache folder if None, never inside `atlas_dir`.
        progress: show a bar while the atlases are aligned.

    Raises:
        InputError: no folder, no atlases or label maps in it, a cache folder that cannot be used.
    """

    def __init__(
        self,
        atlas_dir: str | Path,
        split: str,
        preprocessing: Callable[[Mapping[str, Any]], Mapping[str, Any]],
        image_key: str = "image",
        label_key: str = "label",
        affine: AffineRegistration | None = None,
        records: Sequence[Record] | None = None,
        cache_dir: str | Path | None = None,
        progress: bool = True,
    ) -> None:
        if not Path(atlas_dir).expanduser().is_dir():
            raise InputError(
                "the atlas folder does not exist",
                where=atlas_dir,
                remedy="set --atlas_dir to an existing folder",
            )
        self.records = list(records or load_records(atlas_dir, split, image_key, label_key))
        self.cache = ContentCache(cache_folder(cache_dir, atlas_dir))
        self.preprocessing, self.image_key, self.progress = preprocessing, image_key, progress
        self.affine = affine or AffineRegistration()
        self._held: dict[int, Atlas] = {}

    def __getstate__(self) -> dict[str, Any]:
        """What travels to another process: the aligned library, but no atlas in memory."""
        return {**self.__dict__, "_held": {}}

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Atlas:
        atlas = self._held.pop(index) if index in self._held else self._read(index)
        self._held[index] = atlas  # what was used last comes last
        while len(self._held) > 1 and sum(a.image.values.numel() for a in self._held.values()) > HELD_VOXELS:
            del self._held[next(iter(self._held))]
        return atlas

    def _read(self, index: int) -> Atlas:
        made = self.preprocessing(self.records[index])
        image, label = (Volume.from_image(made[name]) for name in ("image", "label"))
        if not label.values.any():
            raise InputError(
                "an atlas has an empty label map",
                where=self.records[index][self.image_key],
                remedy="take it out of the atlases",
            )
        return Atlas(image, image.with_values(label.values), volume_key(image))

    @cached_property
    def template(self) -> Volume:
        """The atlas of middle size, or with the structure of middle size, coarse enough for selection."""
        grids = (self[k].image for k in range(len(self)))
        sizes = [v.place.radius if v.place else float(v.values.numel() * v.spacing.prod()) for v in grids]
        middle = int(np.argsort(sizes)[len(sizes) // 2])
        image = self[middle].image
        factor = max(1.0, (image.values.numel() / TEMPLATE_VOXELS) ** (1 / image.dims))
        return shrunk(image, factor)

    @cached_property
    def aligned(self) -> Aligned:
        """All atlases on the template's grid; a warning names those that cannot be aligned."""
        bar = tqdm(range(len(self)), desc="atlases to the template", disable=not self.progress)
        maps, images, valid, keys = zip(*(self._to_template(self[k]) for k in bar), strict=True)
        lost = [r["case"] for r, seen in zip(self.records, valid, strict=True) if not seen.any()]
        if lost:
            logger.warning("%d of %d atlases cannot be aligned: %s", len(lost), len(self), ", ".join(lost))
        return Aligned(torch.stack(maps), torch.stack(images), torch.stack(valid), list(keys))

    def _to_template(self, atlas: Atlas) -> tuple[Tensor, Tensor, Tensor, str]:
        grid = self.template
        found = self.affine_map(grid, atlas.image)
        if found is None:
            nothing = torch.zeros_like(grid.values)
            return torch.eye(grid.dims + 1, dtype=torch.float64), nothing, nothing, atlas.key
        image, valid = sample(atlas.image.values[None], atlas.image.affine, points(grid, found))
        return found, image[0], valid, atlas.key

    def affine_map(self, target: Volume, atlas: Volume) -> Tensor | None:
        """Affine registration, from the cache if it was done before; None where it fails (see `register`)."""
        key = content_key("affine", VERSION, volume_key(target), volume_key(atlas), options_of(self.affine))
        known = self.cache.get(key)
        if known is None:
            (end,) = register(target, [atlas], self.affine)
            known = {"affine": np.zeros(0) if end.reason else end.affine.numpy()}
            self.cache.put(key, known)
        return torch.from_numpy(known["affine"]) if known["affine"].size else None

    def select(
        self,
        target: Volume,
        count: int,
        similarity: Similarity = normalised_mutual_information,
        exclude: Sequence[int] = (),
    ) -> Selection:
        """The `count` atlases that are most like the target, fewer if there are no more.

        Raises:
            InputError: no atlas is left, atlases of another dimension, the target does not fit the library.
        """
        if target.dims != self.template.dims:
            raise InputError(
                "the target and the atlases have different numbers of axes",
                expected=f"{self.template.dims}D, like the atlases",
                found=f"{target.dims}D",
            )
        to_template = self.affine_map(target, self.template)
        if to_template is None:
            raise InputError(
                "the target cannot be aligned with the atlas library",
                found="fields of view that hardly overlap, or a constant image",
                remedy="see whether it shows what the atlases show",
            )
        maps, images, valid, keys = self.aligned
        own_key = volume_key(target)
        grid = points(self.template, torch.linalg.inv(to_template))
        own, seen = sample(target.values[None].float(), target.affine, grid)
        usable = [
            k
            for k in range(len(self))
            if k not in set(exclude) and keys[k] != own_key and bool(valid[k].any())
        ]
        if not usable:
            raise InputError(
                "no atlas is left for the target",
                found=f"{len(self)} atlases, of which {len(set(exclude))} show the target's own patient",
                remedy="add atlases of other patients",
            )
        scores = torch.cat(
            [similarity(own[0], images[k], valid[k] * seen) for k in torch.tensor(usable).split(COMPARED)]
        )
        order = torch.argsort(scores, descending=True, stable=True)[:count].tolist()
        indices = [usable[k] for k in order]
        return Selection(indices, scores[order].tolist(), [maps[k] @ to_template for k in indices])


def volume_key(volume: Volume) -> str:
    """Key of all that registration sees of an image."""
    place = () if volume.place is None else (volume.place.centre, volume.place.radius)
    return content_key(volume.values, volume.affine, *place)


WITHOUT_EFFECT = {"device", "max_voxels", "threads"}
"""Options of a stage that change its cost and not its result."""


def options_of(stage: Any) -> dict[str, Any]:
    """The options of a registration stage that decide its result, and its name: what its constructor takes."""
    names = [n for n in inspect.signature(type(stage)).parameters if n not in WITHOUT_EFFECT]
    options = {name: getattr(stage, name) for name in names}
    named = {k: v.__name__ if callable(v) else v for k, v in options.items()}
    return {"stage": type(stage).__name__, **named}


def shrunk(volume: Volume, factor: float) -> Volume:
    """A coarser image of the same field of view, by averages of blocks."""
    factors = shrink_factors(volume, round(factor + 0.49))
    size = tuple(max(1, round(n / int(f))) for n, f in zip(volume.values.shape, factors, strict=True))
    if size == tuple(volume.values.shape):
        return volume
    values = torch.nn.functional.interpolate(volume.values[None, None].float(), size, mode="area")[0, 0]
    ratio = torch.tensor(volume.values.shape, dtype=torch.float64) / torch.tensor(size)
    affine = volume.affine.clone()
    affine[:-1, :-1] = volume.affine[:-1, :-1] * ratio
    affine[:-1, -1] += volume.affine[:-1, :-1] @ ((ratio - 1) / 2)
    return Volume(values, affine, volume.place)
