"""Deformable registration of one atlas after another by picsl-greedy, an extra."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mdl_monai.errors import InputError
from mdl_monai.registration.geometry import from_sitk_field, resampled
from mdl_monai.registration.volume import Volume

METRICS = ("NCC", "SSD")


class GreedyDeformable:
    """Greedy diffeomorphic registration of each atlas, resampled through its affine map, on the target's grid.

    Args:
        metric: "NCC" (local correlation in a window of radius 2) or "SSD" (squared differences).
        iterations: of each level, coarse to fine, each level twice as fine as the one before.
        sigmas: of the Gaussians that smooth each update and the whole displacement, in voxels.
        threads: of greedy.

    Raises:
        InputError: an unknown metric, or picsl-greedy is not installed.
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
        _package()
        self.metric, self.iterations, self.sigmas, self.threads = metric, tuple(iterations), sigmas, threads

    def __call__(self, target: Volume, atlases: Sequence[Volume], affines: Tensor) -> Tensor:
        """Displacements u [K, *spatial, D] float32, mm in the target's world: the atlas's point is affine (x + u).

        Args:
            target: the fixed image.
            atlases: K images of any sizes, spacings and frames.
            affines: [K, D + 1, D + 1], from the target's world to each atlas's.
        """
        package = _package()
        engine = package.Greedy2D if target.dims == 2 else package.Greedy3D
        fixed = target.standardised().to_sitk()
        metric = self.metric + (" " + "x".join("2" * target.dims) if self.metric == "NCC" else "")
        command = (
            f"-i fixed moving -o warp -m {metric} -n {'x'.join(map(str, self.iterations))} "
            f"-s {self.sigmas[0]}vox {self.sigmas[1]}vox -threads {self.threads} -V 0"
        )
        fields = []
        for atlas, affine in zip(atlases, affines, strict=True):
            greedy = engine()
            moving = resampled(target, atlas, affine).standardised().to_sitk()
            greedy.execute(command, fixed=fixed, moving=moving, warp=None)
            fields.append(from_sitk_field(greedy["warp"]))
        return torch.stack(fields)


def _package() -> Any:
    try:
        import picsl_greedy
    except ImportError as error:
        raise InputError("picsl-greedy is not installed", remedy="pip install mdl_monai[greedy]") from error
    return picsl_greedy
