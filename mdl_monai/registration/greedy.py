"""Deformable registration of one atlas after another by picsl-greedy, an extra."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import SimpleITK as sitk
from torch import Tensor
from torch.nn import functional

from mdl_monai.errors import InputError
from mdl_monai.registration.pairwise import register_each
from mdl_monai.registration.volume import Volume

METRICS = ("NCC", "SSD")
MIN_SIZE = 4  # voxels that greedy needs along an axis of its coarsest level


class GreedyDeformable:
    """Greedy diffeomorphic registration of each atlas, resampled through its affine map, on the target's grid.

    Greedy adds a little noise to images for NCC; a fixed seed makes it the same each time.

    Args:
        metric: "NCC" (local correlation in a window of radius 2) or "SSD" (squared differences).
        iterations: of each level, coarse to fine, each level twice as fine as the one before.
        sigmas: of the Gaussians that smooth each update and the whole displacement, in voxels.
        threads: of greedy.

    Raises:
        InputError: an unknown metric; when called, picsl-greedy is not installed: a config may hold it unused.
    """

    def __init__(
        self,
        metric: str = "NCC",
        iterations: Sequence[int] = (100, 50),
        sigmas: tuple[float, float] = (1.732, 0.707),
        threads: int = 1,
    ) -> None:
        if metric not in METRICS:
            raise InputError("unknown metric of greedy", expected=" or ".join(METRICS), found=metric)
        self.metric, self.iterations, self.sigmas, self.threads = metric, tuple(iterations), sigmas, threads

    def __call__(self, target: Volume, atlases: Sequence[Volume], affines: Tensor) -> Tensor:
        """Displacements u [K, *spatial, D] float32, mm in the target's world: see :func:`register_each`."""
        _package()
        size = target.values.shape
        gaps = [max(0, MIN_SIZE * 2 ** (len(self.iterations) - 1) - n) for n in size]
        padding = [n for gap in reversed(gaps) for n in (0, gap)]
        padded = functional.pad(target.values[None, None].float(), padding, mode="replicate")[0, 0]
        fields = register_each(target.with_values(padded), atlases, affines, self._register)
        return fields[(slice(None), *map(slice, size))].contiguous()

    def _register(self, fixed: sitk.Image, moving: sitk.Image) -> sitk.Image:
        dims = fixed.GetDimension()
        greedy = _package().Greedy2D() if dims == 2 else _package().Greedy3D()
        metric = self.metric + (" " + "x".join("2" * dims) if self.metric == "NCC" else "")
        greedy.execute(
            f"-i fixed moving -o warp -wp 0 -m {metric} -n {'x'.join(map(str, self.iterations))} "
            f"-s {self.sigmas[0]}vox {self.sigmas[1]}vox -threads {self.threads} -seed 1 -V 0",
            fixed=fixed,
            moving=moving,
            warp=None,
        )
        return greedy["warp"]


def _package() -> Any:
    try:
        import picsl_greedy
    except ImportError as error:
        raise InputError("picsl-greedy is not installed", remedy="pip install mdl_monai[greedy]") from error
    return picsl_greedy
