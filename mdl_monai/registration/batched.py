"""Deformable registration of all atlases of a target at once, in torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from mdl_monai.errors import InputError
from mdl_monai.losses.lncc import LocalCorrelation
from mdl_monai.losses.mind import MindDistance, mind, smoothed
from mdl_monai.registration.affine import shrink_factors
from mdl_monai.registration.folding import unfolded
from mdl_monai.registration.geometry import resampled, voxel_points
from mdl_monai.registration.smoothness import bending, diffusion, smooth
from mdl_monai.registration.volume import Volume

PASSES = 4  # of the binomial filter: the displacement is smooth over about 1.4 voxels of the level
REGULARISERS = {"diffusion": diffusion, "bending": bending}
LEAST_GRADIENT = 1e-2
"""Of one voxel's dissimilarity by one voxel of displacement: with less, Adam's steps shrink, so that rounding errors
in flat regions do not move them."""


class BatchedDeformable:
    """Minimise, for all atlases k of a target T together, coarse to fine,

        sum over k of  D(T, A_k(affine_k(x) + v_k(x))) + weight * R(v_k)

    over a displacement v_k at each voxel, by Adam. What Adam changes are parameters that v_k is the smoothed version
    of (v_k along the atlas's axes, in mm). The atlases do not influence one another: a batch only saves the overhead
    of small operations. Voxels outside an atlas's field of view under the affine map take no part. A constant image
    gives no displacement.

    Args:
        similarity: "lncc" (local correlation, for images of one kind) or "mind" (local self-similarity, for others).
        regulariser: "diffusion" or "bending".
        weight: of the regulariser.
        shrink: factors of the levels, of the shortest spacing.
        iterations: of each level.
        step: the largest change of a displacement in one iteration, in voxels of the full grid.
        radius: of the window of LNCC, or of MIND's patch, in voxels.
        max_voxels: voxels of the target times atlases in one chunk; about 280 bytes of memory each in 3D (MIND: 330).
        device: where to compute; the results come back to the CPU.

    Raises:
        InputError: an unknown similarity or regulariser, or lists of levels that differ in length.
    """

    def __init__(
        self,
        similarity: str = "lncc",
        regulariser: str = "diffusion",
        weight: float = 0.05,
        shrink: Sequence[int] = (4, 2, 1),
        iterations: Sequence[int] = (20, 20, 10),
        step: float = 0.5,
        radius: int = 2,
        max_voxels: int = 4_000_000,
        device: torch.device | str = "cpu",
    ) -> None:
        for name, value, known in (
            ("similarity", similarity, ("lncc", "mind")),
            ("regulariser", regulariser, tuple(REGULARISERS)),
        ):
            if value not in known:
                raise InputError(f"unknown {name}", expected=" or ".join(known), found=value)
        if len(shrink) != len(iterations) or not shrink:
            raise InputError(
                "shrink and iterations name one number a level each",
                expected="lists of equal length",
                found=f"{list(shrink)} and {list(iterations)}",
            )
        self.similarity, self.regulariser, self.weight = similarity, REGULARISERS[regulariser], weight
        self.shrink, self.iterations = tuple(shrink), tuple(iterations)
        self.step, self.radius, self.max_voxels, self.device = step, radius, max_voxels, torch.device(device)

    def __call__(self, target: Volume, atlases: Sequence[Volume], affines: Tensor) -> Tensor:
        """Displacements u [K, *spatial, D] float32, mm in the target's world: the atlas's point is affine (x + u).

        Args:
            target: the fixed image.
            atlases: K images of any sizes, spacings and frames.
            affines: [K, D + 1, D + 1], from the target's world to each atlas's.
        """
        chunk = max(1, self.max_voxels // target.values.numel())
        parts = [
            self._register(target, atlases[k : k + chunk], affines[k : k + chunk])
            for k in range(0, len(atlases), chunk)
        ]
        return torch.cat(parts)

    def _register(self, target: Volume, atlases: Sequence[Volume], affines: Tensor) -> Tensor:
        seen = batch = _Batch.of(target, atlases, affines, self.device)
        if self.similarity == "mind":  # its neighbours lie along the voxels' axes: bring both to the same
            wide = _widened(target)
            there = [resampled(wide, a, m) for a, m in zip(atlases, affines, strict=True)]
            batch = _Batch.of(target, there, torch.eye(target.dims + 1).expand_as(affines), self.device)
        fixed = target.standardised().values[None, None].to(self.device)
        displacement = torch.zeros(len(atlases), *[1] * target.dims, target.dims, device=self.device)
        for shrink, iterations in zip(self.shrink, self.iterations, strict=True):
            factors = shrink_factors(target, shrink)
            size = tuple(max(1, round(n / f)) for n, f in zip(fixed.shape[2:], factors, strict=True))
            spacing = target.spacing * torch.tensor(fixed.shape[2:]) / torch.tensor(size)
            coarse, valid = _resized(fixed, size), seen.valid(size)
            displacement = self._level(batch, shrink, coarse, valid, displacement, spacing, iterations)
        # v is a shift along the atlas's axes after the affine map; u one along the target's before it
        to_target = torch.linalg.inv(batch.to_voxels[..., :-1]) / batch.spacings[:, None]
        full = _resized(displacement.movedim(-1, 1), tuple(fixed.shape[2:])).flip(1)
        voxels = torch.einsum("kab,kb...->ka...", to_target.to(full), smoothed(full, radius=1, sigma=0.5))
        in_mm = unfolded(voxels).movedim(1, -1) @ target.affine[:-1, :-1].T.to(full)
        return in_mm.cpu()

    def _level(
        self,
        batch: _Batch,
        shrink: int,
        fixed: Tensor,
        valid: Tensor,
        start: Tensor,
        spacing: Tensor,
        iterations: int,
    ) -> Tensor:
        size = tuple(fixed.shape[2:])
        moving, filled = batch.moving(shrink, self._described)
        base, to_grid = batch.grid(size, filled)
        if self.similarity == "mind":
            distance: LocalCorrelation | MindDistance = MindDistance(self._described(fixed), valid)
        else:
            distance = LocalCorrelation(fixed, valid, self.radius)
        parameters = _resized(start.movedim(-1, 1), size).movedim(1, -1).contiguous()
        parameters.requires_grad_(True)
        lr = self.step * float(batch.spacing.min())
        eps = LEAST_GRADIENT / (fixed.numel() * float(batch.spacing.min()))
        optimizer = torch.optim.Adam([parameters], lr=lr, eps=eps, fused=True)
        for _ in range(iterations):
            optimizer.zero_grad(set_to_none=True)
            displacement = smooth(parameters, PASSES)
            grid = torch.addcmul(base, displacement, to_grid)
            warped = functional.grid_sample(moving, grid, padding_mode="border", align_corners=False)
            energy = distance(warped).sum() + self.weight * self.regulariser(displacement, spacing)
            energy.backward()
            optimizer.step()
        return smooth(parameters.detach(), PASSES)

    def _described(self, image: Tensor) -> Tensor:
        return mind(image, self.radius) if self.similarity == "mind" else image


@dataclass
class _Batch:
    """Atlases of different sizes, and where the target's voxels fall in them."""

    images: list[Tensor]  # K of [1, 1, *own size]
    to_voxels: Tensor  # [K, D, D + 1] from the target's voxels to the atlas's
    sizes: Tensor  # [K, D] voxels
    spacings: Tensor  # [K, D] mm
    shape: tuple[int, ...]  # of the target
    spacing: Tensor  # [D] of the target, mm
    device: torch.device

    @classmethod
    def of(cls, target: Volume, atlases: Sequence[Volume], affines: Tensor, device: torch.device) -> _Batch:
        images = [a.standardised().values[None, None].to(device) for a in atlases]
        inverse = torch.stack([torch.linalg.inv(a.affine) for a in atlases])
        to_voxels = (inverse @ affines.double() @ target.affine)[:, :-1]
        sizes = torch.tensor([a.values.shape for a in atlases], dtype=torch.float64)
        spacings = torch.stack([a.spacing for a in atlases])
        shape = tuple(target.values.shape)
        return cls(images, to_voxels, sizes, spacings, shape, target.spacing, device)

    def moving(self, shrink: int, described: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """The atlases with blocks of voxels averaged, as many along each axis as fit into the level's voxel.

        Each on its own, so that none depends on the others; then padded to one size, [K, C, *largest]. The share
        that each fills along each axis comes with them, [K, D].
        """
        wanted = torch.round(shrink * self.spacing.min() / self.spacings).clamp(min=1)
        sizes = torch.round(self.sizes / wanted).clamp(min=1).int()
        coarse = [described(_resized(a, tuple(n.tolist()))) for a, n in zip(self.images, sizes, strict=True)]
        largest = sizes.amax(0)
        padded = [
            functional.pad(
                a, [m for gap in (largest - n).flip(0).tolist() for m in (0, gap)], mode="replicate"
            )
            for a, n in zip(coarse, sizes, strict=True)
        ]
        return torch.cat(padded), sizes / largest.double()

    def _places(self, size: tuple[int, ...]) -> Tensor:
        """[K, *size, D], in the atlas's voxels, of the target's grid of `size`."""
        ratio = torch.tensor(
            [full / n for full, n in zip(self.shape, size, strict=True)], dtype=torch.float64
        )
        voxels = (voxel_points(size) + 0.5) * ratio - 0.5
        places = torch.einsum("kab,...b->k...a", self.to_voxels[..., :-1], voxels)
        return places + self._each(self.to_voxels[..., -1])

    def _each(self, vectors: Tensor) -> Tensor:
        """[K, D] beside [K, *spatial, D]."""
        return vectors.view(len(vectors), *[1] * len(self.shape), -1)

    def valid(self, size: tuple[int, ...]) -> Tensor:
        """[K, 1, *size], 1 where the target's voxel falls into the atlas."""
        places = self._places(size)
        inside = ((places >= -0.5) & (places <= self._each(self.sizes) - 0.5)).all(-1)
        return inside[:, None].to(self.device, torch.float32)

    def grid(self, size: tuple[int, ...], filled: Tensor) -> tuple[Tensor, Tensor]:
        """Where the target's voxels fall, [K, *size, D] as grid_sample counts, and what turns mm along the atlas's
        axes into that, [K, 1.., D]. `filled` comes from `moving`."""
        unit = self._each(2 * filled / self.sizes)
        base = (self._places(size) + 0.5) * unit - 1
        to_grid = unit / self._each(self.spacings)
        return base.flip(-1).to(self.device, torch.float32), to_grid.flip(-1).to(self.device, torch.float32)


def _widened(target: Volume) -> Volume:
    """The target's grid with an eighth more on each side, for what moves in from outside."""
    margin = (torch.tensor(target.values.shape) + 7) // 8
    affine = target.affine.clone()
    affine[:-1, -1] -= affine[:-1, :-1] @ margin.double()
    return Volume(torch.zeros(*(torch.tensor(target.values.shape) + 2 * margin).tolist()), affine)


def _resized(images: Tensor, size: tuple[int, ...]) -> Tensor:
    """Averages of blocks to a smaller size, linear interpolation to a larger."""
    if tuple(images.shape[2:]) == size:
        return images
    if all(n <= m for n, m in zip(size, images.shape[2:], strict=True)):
        return functional.interpolate(images, size, mode="area")
    mode = "bilinear" if len(size) == 2 else "trilinear"
    return functional.interpolate(images, size, mode=mode, align_corners=False)
