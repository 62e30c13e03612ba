"""Select atlases for an image and register them to it, as steps of a bundle's preprocessing."""

from __future__ import annotations

import csv
import filecmp
import io
import logging
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from torch import Tensor

from mdl_monai.errors import InputError
from mdl_monai.io.atomic import atomic_path, atomic_write_text
from mdl_monai.io.content_cache import content_key
from mdl_monai.registration.affine import AffineRegistration
from mdl_monai.registration.geometry import to_sitk_transform
from mdl_monai.registration.register import Deformable, Registration, register, warp
from mdl_monai.registration.similarity import normalised_mutual_information
from mdl_monai.registration.volume import Volume
from mdl_monai.transforms.atlas_library import (
    VERSION,
    AtlasLibrary,
    Selection,
    Similarity,
    options_of,
    volume_key,
)

logger = logging.getLogger(__name__)
SELECTION = "atlas_selection"


class SelectAtlasesd(MapTransform):
    """Add the atlases that are most like an image, under ``atlas_selection``.

    An image is never its own atlas: an equal file, equal voxels on the same grid, the same patient are passed over.

    Args:
        keys: the image, [1, *spatial] on the grid that is to be segmented.
        library: where to select.
        count: K.
        similarity: (target, atlases, validity) to one number an atlas, more is more alike.
    """

    def __init__(
        self,
        keys: KeysCollection,
        library: AtlasLibrary,
        count: int = 10,
        similarity: Similarity = normalised_mutual_information,
    ) -> None:
        super().__init__(keys)
        if count < 1:
            raise InputError(
                "label fusion needs atlases", expected="n_atlases of at least 1", found=f"n_atlases {count}"
            )
        self.library, self.count, self.similarity = library, count, similarity

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Record with the image to the same with a `Selection`."""
        image = data[self.keys[0]]
        own = [k for k, record in enumerate(self.library.records) if self._shows_same(record, image.meta)]
        chosen = self.library.select(Volume.from_image(image), self.count, self.similarity, own)
        return {**data, SELECTION: chosen}

    def _shows_same(self, record: Mapping[str, Any], meta: Mapping[str, Any]) -> bool:
        patient = record.get("patient")
        if patient not in (None, "") and str(patient) == meta.get("patient"):
            return True
        path = Path(meta.get("filename_or_obj", ""))
        return path.is_file() and filecmp.cmp(record[self.library.image_key], path, shallow=False)


class RegisterAtlasesd(MapTransform):
    """Put the selected atlases onto an image's grid: the input of every label fusion network.

    The image becomes [1 + K (L + 2), *spatial]: itself, then atlas by atlas the warped image, its one-hot labels,
    background first, and its validity (see ``networks/fusion_border.py``). Where a registration failed, validity is 0
    everywhere and a warning says why; missing atlases are filled up in the same way. Each registration is cached by
    the content of both images and the options, so an interrupted run goes on where it stopped.

    Args:
        keys: the image that `SelectAtlasesd` saw.
        library: the same one.
        labels: values in the label maps, background left out.
        count: K.
        affine, deformable: the stages; None for `deformable` keeps the affine maps.
        output_dir: write ``<case>.csv`` with an atlas a line there; None for none.
        save_transforms: write ``<case>/<atlas>.h5`` there too, which SimpleITK and 3D Slicer read.

    Raises:
        InputError: no registration of an image succeeds.
    """

    def __init__(
        self,
        keys: KeysCollection,
        library: AtlasLibrary,
        labels: Sequence[int],
        count: int = 10,
        affine: AffineRegistration | None = None,
        deformable: Deformable | None = None,
        output_dir: str | Path | None = None,
        save_transforms: bool = False,
    ) -> None:
        super().__init__(keys)
        self.library, self.labels, self.count = library, tuple(labels), count
        self.affine, self.deformable = affine or AffineRegistration(), deformable
        self.output_dir = None if output_dir is None else Path(output_dir)
        self.save_transforms = save_transforms

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Record with image and selection to the same with the fusion network's input."""
        out = {k: v for k, v in data.items() if k != SELECTION}
        image, chosen = data[self.keys[0]], data[SELECTION]
        target = Volume.from_image(image)
        found = self.registrations(target, chosen)
        self._report(image, target, chosen, found)
        out[self.keys[0]] = self._border(image, target, chosen, found)
        return out

    def registrations(self, target: Volume, chosen: Selection) -> list[Registration]:
        """One for each selected atlas, from the cache if known, and else computed together."""
        atlases = [self.library[k] for k in chosen.indices]
        options = [options_of(self.affine), None if self.deformable is None else options_of(self.deformable)]
        own = volume_key(target)
        keys = [
            content_key("registration", VERSION, own, a.key, start, options)
            for a, start in zip(atlases, chosen.starts, strict=True)
        ]
        found = [_unpacked(self.library.cache.get(key)) for key in keys]
        todo = [k for k, known in enumerate(found) if known is None]
        made = register(
            target,
            [atlases[k].image for k in todo],
            self.affine,
            self.deformable,
            [chosen.starts[k] for k in todo],
        )
        for k, registration in zip(todo, made, strict=True):
            found[k] = registration
            self.library.cache.put(keys[k], _packed(registration))
        return [registration for registration in found if registration is not None]

    def _border(
        self, image: MetaTensor, target: Volume, chosen: Selection, found: Sequence[Registration]
    ) -> MetaTensor:
        width = len(self.labels) + 3
        out = torch.zeros(1 + self.count * width, *target.values.shape)
        out[0] = target.values
        for k, (index, end) in enumerate(zip(chosen.indices, found, strict=True)):
            if end.reason:
                continue
            atlas, first = self.library[index], 1 + k * width
            channels = torch.cat([atlas.image.values[None], one_hot(atlas.label.values, self.labels)])
            warped, valid = warp(target, end.affine, end.displacement, atlas.image, channels)
            out[first : first + width] = torch.cat([warped, valid[None]])
        return MetaTensor(out, meta=image.meta, applied_operations=image.applied_operations)

    def _report(
        self, image: MetaTensor, target: Volume, chosen: Selection, found: Sequence[Registration]
    ) -> None:
        case = str(image.meta.get("case", "case"))
        names = [self.library.records[k]["case"] for k in chosen.indices]
        failed = [f"{name}: {end.reason}" for name, end in zip(names, found, strict=True) if end.reason]
        if len(failed) == len(found):
            raise InputError(
                "none of the atlases could be registered",
                where=image.meta.get("filename_or_obj"),
                found="; ".join(failed[:3]),
                remedy="see whether the image shows what the atlases show",
            )
        if failed:
            told = "; ".join(failed)
            logger.warning("%s: %d of %d atlases left out: %s", case, len(failed), len(found), told)
        if self.output_dir is None:
            return
        text = io.StringIO()
        rows = csv.writer(text)
        rows.writerow(["atlas", "selection_score", "similarity", "overlap", "folded", "left_out_because"])
        for name, score, end in zip(names, chosen.scores, found, strict=True):
            measures = (score, end.similarity, end.overlap, end.folded)
            rows.writerow([name, *(f"{m:.5g}" for m in measures), end.reason])
            if self.save_transforms and not end.reason:
                transform = to_sitk_transform(target, end.affine, end.displacement)
                with atomic_path(self.output_dir / case / f"{name}.h5") as temporary:
                    sitk.WriteTransform(transform, str(temporary))
        atomic_write_text(self.output_dir / f"{case}.csv", text.getvalue())


def one_hot(label: Tensor, labels: Sequence[int]) -> Tensor:
    """Label map [*spatial] to [L, *spatial] float32, background (every other value) first."""
    known = torch.stack([label == value for value in labels])
    return torch.cat([~known.any(0, keepdim=True), known]).float()


def _packed(end: Registration) -> dict[str, np.ndarray]:
    displacement = np.zeros(0, np.float16) if end.displacement is None else end.displacement.numpy()
    measures = np.array([end.similarity, end.folded, end.overlap])
    return {
        "affine": end.affine.numpy(),
        "displacement": displacement,
        "measures": measures,
        "reason": np.array(end.reason),
    }


def _unpacked(entry: dict[str, np.ndarray] | None) -> Registration | None:
    if entry is None:
        return None
    displacement = torch.from_numpy(entry["displacement"]) if entry["displacement"].size else None
    similarity, folded, overlap = entry["measures"].tolist()
    return Registration(
        torch.from_numpy(entry["affine"]), displacement, str(entry["reason"]), similarity, folded, overlap
    )
