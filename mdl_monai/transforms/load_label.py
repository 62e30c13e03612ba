"""Load an image with its reference label map, checked against one another."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from mdl_monai.errors import InputError
from mdl_monai.io.label_map import check_label_map
from mdl_monai.transforms.load import LoadInputd


class LoadImageAndLabeld(LoadInputd):
    """`LoadInputd` for the image, and the label map of the same record, whose values are kept.

    Args:
        image_key, label_key: file names in the record; the results are ``image`` and ``label``.
        labels: the labels that a map may hold, background left out.
        spatial_dims: allowed numbers of spatial axes.
    """

    def __init__(
        self, image_key: str, label_key: str, labels: Sequence[int], spatial_dims: Sequence[int] = (2, 3)
    ) -> None:
        super().__init__(image_key, "image", spatial_dims)
        self.image_key, self.label_key, self.labels = image_key, label_key, tuple(labels)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Record with file names to ``image`` and ``label``, [1, H, W] or [1, H, W, D], float32 `MetaTensor`.

        Raises:
            InputError: as `LoadInputd`; a record without label map, or one that does not fit the image.
        """
        path = data.get(self.label_key)
        if path is None:
            raise InputError(
                "the record has no reference",
                where=data.get(self.image_key),
                expected=f"the key {self.label_key!r}",
                found=f"keys {', '.join(sorted(map(str, data)))}",
                remedy="set --label_key to the key of the label map",
            )
        image: Any = self._image(data, self.image_key)
        label: Any = self._read(path)
        check_label_map(label, image, self.labels, where=path, affines=(label.affine, image.affine))
        label.meta["case"] = image.meta["case"]
        return {"image": image, "label": label}
