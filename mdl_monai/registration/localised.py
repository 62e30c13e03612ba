"""Alignment by a structure that was found in both images, where their surroundings differ too much to be matched."""

from __future__ import annotations

import torch
from torch import Tensor

from mdl_monai.registration.volume import RegistrationError, Volume

LARGEST_SCALE = 2.0
"""Structures that differ by more do not correspond, and scaling them would lose what is around them."""


class LocalisedAffine:
    """Put a structure's centre on its centre and its size on its size, instead of a registration.

    The images know its `place`, see `CropAroundStructured`.
    """

    def __call__(self, target: Volume, atlas: Volume, start: Tensor | None = None) -> Tensor:
        """[D + 1, D + 1] float64: from the target's world to the atlas's; `start` does not matter.

        Raises:
            RegistrationError: the structure's place is not known in one of them, or their dimensions differ.
        """
        if target.dims != atlas.dims:
            raise RegistrationError(f"the target is {target.dims}D and the atlas {atlas.dims}D")
        if target.place is None or atlas.place is None:
            missing = "target" if target.place is None else "atlas"
            raise RegistrationError(f"the structure was not located in the {missing}")
        out = torch.eye(target.dims + 1, dtype=torch.float64)
        scale = atlas.place.radius / target.place.radius
        out[:-1, :-1] *= min(max(scale, 1 / LARGEST_SCALE), LARGEST_SCALE)
        out[:-1, -1] = atlas.place.centre - out[:-1, :-1] @ target.place.centre
        return out
