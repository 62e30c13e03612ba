"""Images that are functions of the place, on any grid, with a known map between two of them.

`target(x) = texture(T(x))` and `atlas(y) = texture(y)`: so T is the map from the target's world to the atlas's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import product

import torch
from torch import Tensor

from mdl_monai.registration.geometry import points
from mdl_monai.registration.volume import Volume

Map = Callable[[Tensor], Tensor]
RADIUS = 22.0  # mm


def texture(place: Tensor, seed: int = 0) -> Tensor:
    """A round structure full of blobs, nothing around it. Points [..., D] mm to values [...]."""
    dims = place.shape[-1]
    generator = torch.Generator().manual_seed(seed)
    waves = torch.zeros(place.shape[:-1], dtype=torch.float64)
    for _ in range(24):
        direction = torch.nn.functional.normalize(torch.randn(dims, generator=generator).double(), dim=0)
        wavelength, phase = 9 + 16 * torch.rand(2, generator=generator).double()
        waves += (2 * math.pi * (place @ direction) / wavelength + phase).sin()
    inside = torch.exp(-((place.norm(dim=-1) / RADIUS) ** 6))
    return inside * (1.0 + waves * math.sqrt(2 / 24) / 2)


def direction(name: str, dims: int) -> Tensor:
    """[D, D], the voxel axes in columns."""
    axes = torch.eye(dims, dtype=torch.float64)
    if name == "LPS":
        axes[0, 0] = axes[1, 1] = -1
    elif name == "PIR":  # in 2D: back, left
        axes = torch.tensor([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]] if dims == 3 else [[0.0, -1], [-1, 0]])
    elif name == "oblique":
        axes = rotation([0.3, -0.5, 0.7], dims)
    return axes.double()


FRAMES = ("RAS", "LPS", "PIR", "oblique")


def rotation(angles: Sequence[float], dims: int) -> Tensor:
    """[D, D] of a rotation by Euler angles in radians; 2D takes the last."""
    out = torch.eye(dims, dtype=torch.float64)
    for angle, (a, b) in zip(angles, ((1, 2), (2, 0), (0, 1)), strict=True):
        if max(a, b) < dims:
            turn = torch.eye(dims, dtype=torch.float64)
            turn[a, a] = turn[b, b] = math.cos(angle)
            turn[a, b], turn[b, a] = -math.sin(angle), math.sin(angle)
            out = turn @ out
    return out


def grid(frame: str, shape: Sequence[int], spacing: Sequence[float], centre: Sequence[float] = ()) -> Volume:
    """Zeros on a grid about `centre` mm, in a frame by name."""
    dims = len(shape)
    affine = torch.eye(dims + 1, dtype=torch.float64)
    affine[:-1, :-1] = direction(frame, dims) @ torch.diag(torch.tensor(spacing, dtype=torch.float64))
    middle = torch.tensor(centre or [0.0] * dims, dtype=torch.float64)
    affine[:-1, -1] = middle - affine[:-1, :-1] @ ((torch.tensor(shape, dtype=torch.float64) - 1) / 2)
    return Volume(torch.zeros(*shape), affine)


def world(volume: Volume) -> Tensor:
    """Places of its voxels, [*spatial, D] mm."""
    return points(volume, torch.eye(volume.dims + 1, dtype=torch.float64))


def drawn(volume: Volume, warp: Map | None = None, seed: int = 0) -> Volume:
    """The texture on a grid, seen through a map."""
    place = world(volume)
    return volume.with_values(texture(place if warp is None else warp(place), seed).float())


def linear(matrix: Tensor | None = None, shift: Sequence[float] = (), dims: int = 3) -> Tensor:
    """[D + 1, D + 1]."""
    out = torch.eye(dims + 1, dtype=torch.float64)
    if matrix is not None:
        out[:-1, :-1] = matrix
    if shift:
        out[:-1, -1] = torch.tensor(shift, dtype=torch.float64)
    return out


def as_map(affine: Tensor) -> Map:
    return lambda x: x @ affine[:-1, :-1].T + affine[:-1, -1]


def wavy(place: Tensor, amplitude: float, wavelength: float = 45.0) -> Tensor:
    """A smooth displacement of up to `amplitude` mm along each axis, another along each."""
    dims = place.shape[-1]
    turned = place[..., [*range(1, dims), 0]]
    return amplitude * (2 * math.pi * turned / wavelength + torch.arange(dims)).sin()


def through(affine: Tensor, displacement: Callable[[Tensor], Tensor]) -> Map:
    """affine (x + u(x))."""
    return lambda x: as_map(affine)(x + displacement(x))


def error(target: Volume, truth: Map, affine: Tensor, displacement: Tensor | None = None) -> float:
    """Mean distance in mm to where a voxel of the structure belongs."""
    place = world(target)
    there = truth(place)
    inside = there.norm(dim=-1) < 0.9 * RADIUS
    found = points(target, affine, displacement)
    return float((found - there).norm(dim=-1)[inside].mean())


TARGETS_3D = [
    grid("RAS", (34, 31, 29), (1.6, 1.6, 1.8)),
    grid("LPS", (30, 37, 25), (1.8, 1.5, 2.2), (5.0, -8.0, 3.0)),
    grid("oblique", (33, 30, 36), (1.7, 1.9, 1.5)),
]
ATLASES_3D = [
    grid("oblique", (36, 39, 41), (1.6, 1.5, 1.4)),
    grid("PIR", (40, 29, 35), (1.4, 2.1, 1.6), (1.0, 2.0, -2.0)),
    grid("LPS", (32, 36, 45), (1.7, 1.6, 1.3)),
]
TARGETS_2D = [
    grid("RAS", (52, 47), (1.0, 1.1)),
    grid("LPS", (61, 40), (0.9, 1.4), (3.0, -5.0)),
    grid("oblique", (50, 55), (1.1, 1.0)),
]
ATLASES_2D = [
    grid("oblique", (66, 62), (0.9, 0.9)),
    grid("PIR", (55, 58), (1.0, 1.1), (2.0, 1.0)),
    grid("LPS", (48, 71), (1.2, 0.8)),
]
CASES = [
    *(zip(TARGETS_3D, (ATLASES_3D,) * 3, strict=True)),
    *(zip(TARGETS_2D, (ATLASES_2D,) * 3, strict=True)),
]
CASE_NAMES = [f"{d}D {frame}" for d, frame in product((3, 2), ("RAS", "LPS", "oblique"))]
THIN = grid("oblique", (48, 44, 6), (1.2, 1.3, 5.0))


def deformed(
    target: Volume, atlases: Sequence[Volume], amplitude: float
) -> tuple[Volume, list[Volume], Tensor, Map]:
    """A target, atlases of the same texture on other grids, and one map between them: affine, then wavy."""
    dims = target.dims
    affine = linear(rotation([0.1, -0.15, 0.2], dims) * 1.08, [3.0, -2.0, 1.5][:dims], dims)
    truth = through(affine, lambda x: wavy(x, amplitude))
    return drawn(target, truth), [drawn(a) for a in atlases], affine, truth


def shifted(dims: int, axis: int, sign: int) -> tuple[Volume, Volume, Tensor]:
    """A target in LPS axes that shows what lies 3 mm further along an axis in the atlas: u is 3 mm along it."""
    target = grid("LPS", (30, 27, 26)[:dims], (1.8, 2.0, 2.1)[:dims])
    atlas = grid("RAS", (33, 35, 34)[:dims], (1.7, 1.6, 1.8)[:dims])
    step = torch.zeros(dims, dtype=torch.float64)
    step[axis] = 3.0 * sign
    return drawn(target, lambda x: x + step), drawn(atlas), step


def inside(target: Volume) -> Tensor:
    """Mask of the structure where nothing was moved far."""
    return world(target).norm(dim=-1) < 0.7 * RADIUS


def halved(atlas: Volume) -> Volume:
    """The half of an atlas with the lower indices along its first axis."""
    return Volume(atlas.values[: atlas.values.shape[0] // 2].clone(), atlas.affine)
