"""Deformable registration of one atlas after another by SimpleITK's demons."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import SimpleITK as sitk
from torch import Tensor

from mdl_monai.errors import InputError
from mdl_monai.registration.pairwise import register_each
from mdl_monai.registration.volume import Volume

FILTERS = {
    "symmetric": sitk.FastSymmetricForcesDemonsRegistrationFilter,
    "diffeomorphic": sitk.DiffeomorphicDemonsRegistrationFilter,
}


class SitkDemons:
    """Demons of each atlas, resampled through its affine map, on the target's grid.

    Args:
        variant: "symmetric" (fast symmetric forces) or "diffeomorphic".
        iterations: at most so many.
        sigma: of the Gaussian that smooths the displacement after each iteration, in voxels.
        match_histogram: fit the atlas's grey values to the target's first; demons compare them as they are.
        threads: of SimpleITK.

    Raises:
        InputError: an unknown variant.
    """

    def __init__(
        self,
        variant: str = "symmetric",
        iterations: int = 50,
        sigma: float = 1.0,
        match_histogram: bool = True,
        threads: int = 1,
    ) -> None:
        if variant not in FILTERS:
            raise InputError("unknown variant of demons", expected=" or ".join(FILTERS), found=variant)
        self.variant, self.iterations, self.sigma = variant, iterations, sigma
        self.match_histogram, self.threads = match_histogram, threads

    def __call__(self, target: Volume, atlases: Sequence[Volume], affines: Tensor) -> Tensor:
        """Displacements u [K, *spatial, D] float32, mm in the target's world: see :func:`register_each`."""
        return register_each(target, atlases, affines, self._register)

    def _register(self, fixed: sitk.Image, moving: sitk.Image) -> sitk.Image:
        if self.match_histogram:
            match = sitk.HistogramMatchingImageFilter()
            match.SetNumberOfThreads(self.threads)
            match.SetNumberOfHistogramLevels(128)
            match.SetNumberOfMatchPoints(7)
            match.ThresholdAtMeanIntensityOff()
            moving = match.Execute(moving, fixed)
        demons: Any = FILTERS[self.variant]()
        demons.SetNumberOfThreads(self.threads)
        demons.SetNumberOfIterations(self.iterations)
        demons.SetStandardDeviations(self.sigma)
        return demons.Execute(fixed, moving)
