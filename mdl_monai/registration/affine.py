"""Affine registration of one pair by SimpleITK, or with fewer degrees of freedom."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch
from torch import Tensor

from mdl_monai.errors import InputError
from mdl_monai.registration.geometry import from_sitk_linear, to_sitk_affine
from mdl_monai.registration.volume import RegistrationError, Volume

MIN_SIZE = 4  # voxels that SimpleITK needs along an axis, so what a coarse level keeps


MODELS: dict[tuple[str, int], Callable[[], Any]] = {
    ("affine", 2): partial(sitk.AffineTransform, 2),
    ("affine", 3): partial(sitk.AffineTransform, 3),
    ("similarity", 2): sitk.Similarity2DTransform,
    ("similarity", 3): sitk.Similarity3DTransform,
    ("rigid", 2): sitk.Euler2DTransform,
    ("rigid", 3): sitk.Euler3DTransform,
    ("translation", 2): partial(sitk.TranslationTransform, 2),
    ("translation", 3): partial(sitk.TranslationTransform, 3),
}


class AffineRegistration:
    """A linear map, found coarse to fine, from one start or from several.

    Args:
        model: what may change: "affine", "similarity" (rigid and one scale), "rigid", or "translation". Less is
            safer where the images differ much, as slices of different hearts do.
        metric: "correlation" for images of one contrast, "mutual_information" for others.
        shrink: factors of the levels; axes are shrunk towards cubic voxels. None: keep the start as it is, for images
            that are centred already.
        iterations: at most so many a level.
        starts: 1 starts from the given transform, or from the fields of view put centre on centre. More try shifts
            of a sixth of the target's size along each axis too (5 in 2D, 7 in 3D), for tight crops that show the
            structure in different places: the best after the coarsest level goes on.
        threads: of SimpleITK.
    """

    def __init__(
        self,
        model: str = "affine",
        metric: str = "correlation",
        shrink: Sequence[int] = (4, 2),
        iterations: int = 60,
        starts: int = 1,
        threads: int = 1,
    ) -> None:
        if (model, 2) not in MODELS:
            known = " or ".join(dict.fromkeys(name for name, _ in MODELS))
            raise InputError("unknown model of the affine stage", expected=known, found=model)
        self.model, self.metric, self.shrink, self.iterations = model, metric, tuple(shrink), iterations
        self.starts, self.threads = starts, threads

    def __call__(self, target: Volume, atlas: Volume, start: Tensor | None = None) -> Tensor:
        """[D + 1, D + 1] float64: from the target's world to the atlas's, mm RAS+.

        Raises:
            RegistrationError: 2D meets 3D, an image is constant, not finite or fewer than four voxels thick, or the
                fields of view do not overlap.
        """
        _check(target, atlas)
        fixed, moving = (sitk.Cast(v.to_sitk(), sitk.sitkFloat32) for v in (target, atlas))
        first = self._centred(target, atlas) if start is None else start
        if not self.shrink:
            if not _overlap(target, atlas, first):
                raise RegistrationError("the fields of view of target and atlas do not overlap")
            return first
        factors = [
            (shrink_factors(target, f).tolist(), shrink_factors(atlas, f).tolist()) for f in self.shrink
        ]
        levels = [(sitk.BinShrink(fixed, f), sitk.BinShrink(moving, m)) for f, m in factors]
        starts = [first @ shift for shift in self._shifts(target)]
        ends = [self._run(*levels[0], begin) for begin in starts if _overlap(target, atlas, begin)]
        best, value = min(ends, key=lambda end: end[1], default=(first, math.inf))
        for images in levels[1:] if ends else []:
            best, value = self._run(*images, best)
        if not math.isfinite(value) or not _overlap(target, atlas, best):
            raise RegistrationError("the fields of view of target and atlas do not overlap")
        return best

    @staticmethod
    def _centred(target: Volume, atlas: Volume) -> Tensor:
        out = torch.eye(target.dims + 1, dtype=torch.float64)
        middles = [
            v.affine[:-1, :-1] @ ((torch.tensor(v.values.shape, dtype=torch.float64) - 1) / 2)
            + v.affine[:-1, -1]
            for v in (target, atlas)
        ]
        out[:-1, -1] = middles[1] - middles[0]
        return out

    def _shifts(self, target: Volume) -> list[Tensor]:
        one = torch.eye(target.dims + 1, dtype=torch.float64)
        shifts = [one]
        for axis in range(target.dims if self.starts > 1 else 0):
            for sign in (-1, 1):
                shift = one.clone()
                shift[:-1, -1] = sign / 6 * target.values.shape[axis] * target.affine[:-1, axis]
                shifts.append(shift)
        return shifts

    def _run(self, fixed: sitk.Image, moving: sitk.Image, start: Tensor) -> tuple[Tensor, float]:
        """Optimise on one level: the transform and SimpleITK's metric, less is better and infinite a failure."""
        method = sitk.ImageRegistrationMethod()
        if self.metric == "correlation":
            method.SetMetricAsCorrelation()
        else:
            method.SetMetricAsMattesMutualInformation(32)
        method.SetInterpolator(sitk.sitkLinear)
        transform = MODELS[self.model, fixed.GetDimension()]()
        if self.model != "translation":
            middle = [(n - 1) / 2 for n in fixed.GetSize()]  # the optimiser's scales rely on turning about it
            transform.SetCenter(fixed.TransformContinuousIndexToPhysicalPoint(middle))
        method.SetMovingInitialTransform(to_sitk_affine(start))  # comes after the transform that is optimised
        method.SetInitialTransform(transform, inPlace=True)
        # a first step of the coarsest voxel's size, down to a thousandth of it
        method.SetOptimizerAsRegularStepGradientDescent(
            1.0, 1e-3, self.iterations, gradientMagnitudeTolerance=1e-6
        )
        method.SetOptimizerScalesFromPhysicalShift()
        method.SetNumberOfThreads(self.threads)
        try:
            method.Execute(fixed, moving)
        except RuntimeError:  # no voxel of the target falls into the atlas
            return start, math.inf
        return start @ from_sitk_linear(transform), method.GetMetricValue()


def _check(target: Volume, atlas: Volume) -> None:
    if target.dims != atlas.dims:
        raise RegistrationError(f"the target is {target.dims}D and the atlas {atlas.dims}D")
    for name, volume in (("target", target), ("atlas", atlas)):
        if min(volume.values.shape) < MIN_SIZE:
            raise RegistrationError(f"the {name} has fewer than {MIN_SIZE} voxels along an axis")
        if not volume.values.isfinite().all():
            raise RegistrationError(f"the {name} holds values that are not finite")
        if not volume.standardised().values.any():
            raise RegistrationError(f"the {name} is constant")


def _overlap(target: Volume, atlas: Volume, affine: Tensor) -> bool:
    """Whether some of a lattice of 16 voxels an axis of the target fall into the atlas."""
    axes = [torch.linspace(0, n - 1, 16, dtype=torch.float64) for n in target.values.shape]
    lattice = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)
    to_voxels = torch.linalg.inv(atlas.affine) @ affine @ target.affine
    places = lattice @ to_voxels[:-1, :-1].T + to_voxels[:-1, -1]
    return bool(((places > -0.5) & (places < torch.tensor(atlas.values.shape) - 0.5)).all(-1).any())


def shrink_factors(volume: Volume, factor: float) -> np.ndarray:
    """[D] whole factors that bring the voxels towards cubes `factor` times as long as their shortest side.

    A thin stack keeps its slices, and no axis falls below four voxels.
    """
    spacing, size = volume.spacing.numpy(), np.asarray(volume.values.shape)
    wanted = np.round(factor * spacing.min() / spacing)
    return np.maximum(1, np.minimum(wanted, size // MIN_SIZE)).astype(int)
