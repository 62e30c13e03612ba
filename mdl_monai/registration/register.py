"""Register atlases to a target by an affine and a deformable stage, and notice where that failed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mdl_monai.registration.affine import AffineRegistration
from mdl_monai.registration.folding import folded_share
from mdl_monai.registration.geometry import in_voxels, points, sample
from mdl_monai.registration.similarity import normalised_mutual_information
from mdl_monai.registration.volume import RegistrationError, Volume

Deformable = Callable[[Volume, Sequence[Volume], Tensor], Tensor]

LEAST_OVERLAP = 0.3
"""Share of the target's voxels that must lie in the atlas's field of view."""
MOST_FOLDED = 0.01
"""Share of voxels that may fold; a good registration stays under 0.001."""
SLACK = 0.01
"""By so much the mutual information may fall before a registration counts as worse: its noise between stages."""
ALIKE = 1.4
"""Mutual information of images that are the same but for noise: what falls and stays above is no worse. Between two
subjects it is 1.1 to 1.2; near 2, where all is the same, the least shift costs much of it."""


@dataclass(frozen=True)
class Registration:
    """One atlas on one target: atlas point = affine (x + displacement (x)) for a target point x, mm RAS+."""

    affine: Tensor
    """[D + 1, D + 1] float64."""
    displacement: Tensor | None
    """[*target's spatial, D] float16, a resolution of 0.01 mm up to 16 mm; None after the affine stage alone."""
    reason: str = ""
    """Why it must not be fused; empty if all is well."""
    similarity: float = 1.0
    """Normalised mutual information at the end, 1 to 2."""
    folded: float = 0.0
    """Share of folded voxels."""
    overlap: float = 0.0
    """Share of the target's voxels in the atlas's field of view."""


def register(
    target: Volume,
    atlases: Sequence[Volume],
    affine: AffineRegistration,
    deformable: Deformable | None = None,
    starts: Sequence[Tensor | None] | None = None,
) -> list[Registration]:
    """All atlases to one target. One that fails says why and does not stop the others.

    Args:
        target, atlases: images of one dimension, on any grids.
        affine, deformable: the two stages; without the second, the affine maps alone.
        starts: affine maps to start from, as far as known. One stays where the affine stage made it worse.
    """
    found = [
        _affine(target, atlas, affine, start)
        for atlas, start in zip(atlases, starts or [None] * len(atlases), strict=True)
    ]
    good = [k for k, f in enumerate(found) if not f.reason]
    if deformable is None or not good:
        return found
    for k, end in zip(good, _deform(target, atlases, found, good, deformable), strict=True):
        found[k] = end
    return found


def warp(
    target: Volume, affine: Tensor, displacement: Tensor | None, atlas: Volume, channels: Tensor
) -> tuple[Tensor, Tensor]:
    """Channels [C, *atlas's spatial] on the target's grid [C, *spatial] by one linear interpolation, and validity."""
    return sample(channels, atlas.affine, points(target, affine, displacement))


def _affine(target: Volume, atlas: Volume, stage: AffineRegistration, start: Tensor | None) -> Registration:
    nothing = torch.eye(target.dims + 1, dtype=torch.float64)
    try:
        found = stage(target, atlas, start)
    except RegistrationError as error:
        return Registration(nothing, None, str(error))
    end = _checked(target, atlas, found, None)
    if start is not None and not end.reason:
        before = _checked(target, atlas, start, None)
        if not before.reason and _fall(before, end):  # a start that is good already stays
            return before
    return end


def _deform(
    target: Volume,
    atlases: Sequence[Volume],
    found: Sequence[Registration],
    good: Sequence[int],
    stage: Deformable,
) -> list[Registration]:
    chosen, affines = [atlases[k] for k in good], torch.stack([found[k].affine for k in good])
    try:
        displacements = list(stage(target, chosen, affines).half())
    except RegistrationError as error:  # of one atlas among many: find out of which
        if len(good) == 1:
            return [replace(found[good[0]], reason=str(error))]
        return [end for k in good for end in _deform(target, atlases, found, [k], stage)]
    ends = []
    for k, displacement in zip(good, displacements, strict=True):
        end = _checked(target, atlases[k], found[k].affine, displacement)
        if not end.reason and (fall := _fall(found[k], end)):
            end = replace(end, reason=f"the deformable stage made it less alike: {fall}")
        ends.append(end)
    return ends


def _checked(target: Volume, atlas: Volume, affine: Tensor, displacement: Tensor | None) -> Registration:
    """What came of a stage, with its measures."""
    if displacement is not None and not torch.isfinite(displacement).all():
        return Registration(affine, None, "the displacement holds NaN or infinite values")
    image, valid = warp(target, affine, displacement, atlas, atlas.values[None].float())
    overlap = float(valid.mean())
    similarity = float(normalised_mutual_information(target.values, image, valid[None])[0])
    folded = 0.0
    if displacement is not None:
        folded = float(folded_share(in_voxels(displacement.float(), target.affine).movedim(-1, 0)[None])[0])
    reason = ""
    if overlap < LEAST_OVERLAP:
        reason = f"the overlap is lost: {overlap:.0%} of the target lie in the atlas's field of view"
    elif folded > MOST_FOLDED:
        reason = f"{folded:.1%} of the voxels fold"
    elif float(torch.linalg.det(affine[:-1, :-1])) <= 0:
        reason = "the affine map turns the atlas inside out"
    return Registration(affine, displacement, reason, similarity, folded, overlap)


def _fall(before: Registration, after: Registration) -> str:
    """By how much a stage made it worse, in words; empty where it did not."""
    if after.similarity >= min(before.similarity, ALIKE) - SLACK:
        return ""
    return f"mutual information {before.similarity:.3f}, then {after.similarity:.3f}"
